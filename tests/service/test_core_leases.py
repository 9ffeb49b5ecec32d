"""What a worker says of its attempt, and what becomes of one that falls silent."""

from __future__ import annotations

import pytest

from service.context import Context
from service.db.transaction import Write
from service.domain import sweeper
from service.domain.ledger import without_lost
from service.settings import Settings
from tests.service.core_driver import Api, Attempt, assert_problem, sampling, training, wait_for
from tests.service.test_core_jobs import checkpointed, keep


def claimed(api: Api, **changes: object) -> Attempt:
    api.submit(sampling(**changes))
    return api.worker().claim()


def attempts(api: Api, job_id: str) -> list[dict]:
    return api.get(f"/v1/jobs/{job_id}/attempts").json()["data"]


def state(api: Api, job_id: str) -> tuple:
    """All that can be seen of a job and of who runs it."""
    running = [worker["running"] for worker in api.get("/v1/workers").json()["data"]]
    return api.job(job_id), api.events(job_id), attempts(api, job_id), running


def expire(context: Context) -> None:
    """Let every lease run out, as if its worker had been silent for its term."""
    with Write(context.database) as write:
        write.connection.exec_driver_sql("UPDATE leases SET expires_at = expires_at - 3600000000")


def test_a_beat_tells_where_the_attempt_stands(api: Api):
    attempt = claimed(api)
    reply = attempt.beat(12, "warmup", last_step_at="2026-01-01T00:00:00.000000Z")
    assert reply.json() == {"command": "continue", "sequence": 0, "save": True, "lease_seconds": 15.0, "profile": None}
    job = api.job(attempt.job_id)
    assert (job["phase"], job["progress"]["step"], job["attempt"]) == ("warmup", 12, 1)
    shown = attempts(api, attempt.job_id)[0]
    assert (shown["phase"], shown["step"], shown["last_step_at"]) == ("warmup", 12, "2026-01-01T00:00:00.000000Z")


def test_a_beat_renews_the_lease(start):
    with start(lease_seconds=0.4) as api:
        attempt = claimed(api)
        for _ in range(8):
            assert wait_for(lambda: attempt.beat(1).status_code) == 200
        assert api.job(attempt.job_id)["status"] == "running"
        wait_for(lambda: api.job(attempt.job_id)["status"] == "queued")
        assert assert_problem(attempt.beat(2), 409)["code"] == "attempt_superseded"


@pytest.mark.parametrize(("verb", "command"), [("cancel", "cancel"), ("pause", "pause"), ("checkpoint", "checkpoint")])
def test_a_beat_brings_a_command_until_it_is_handled(api: Api, verb: str, command: str):
    attempt = claimed(api)
    api.post(f"/v1/jobs/{attempt.job_id}/{verb}")
    for _ in range(2):
        assert attempt.beat(1).json() == {"command": command, "sequence": 1, "save": True, "lease_seconds": 15.0, "profile": None}
    assert attempt.beat(1, handled=1).json()["command"] == "continue"


@pytest.mark.parametrize("verb", ["cancel", "pause"])
def test_a_last_checkpoint_can_be_declined(api: Api, verb: str):
    attempt = claimed(api)
    api.post(f"/v1/jobs/{attempt.job_id}/{verb}?checkpoint=false")
    assert (attempt.beat(1).json()["command"], attempt.beat(1).json()["save"]) == (verb, False)


def test_a_checkpoint_can_be_asked_for_again_once_it_was_taken(api: Api):
    attempt = claimed(api)
    for sequence in (1, 2):
        api.post(f"/v1/jobs/{attempt.job_id}/checkpoint")
        beat = attempt.beat(1, handled=sequence - 1).json()
        assert (beat["command"], beat["sequence"]) == ("checkpoint", sequence)
        assert attempt.beat(1, handled=sequence).json()["command"] == "continue"
    assert api.told(attempt.job_id).count("checkpoint.requested") == 2


def test_a_stronger_command_takes_the_place_of_a_weaker_one(api: Api):
    attempt = claimed(api)
    sequences = []
    for verb in ("checkpoint", "pause", "cancel"):
        api.post(f"/v1/jobs/{attempt.job_id}/{verb}")
        beat = attempt.beat(1).json()
        assert beat["command"] == verb
        sequences.append(beat["sequence"])
    assert sequences == [1, 2, 3]


def test_a_command_does_not_outlive_its_attempt(api: Api):
    attempt = claimed(api)
    api.post(f"/v1/jobs/{attempt.job_id}/checkpoint")
    attempt.finish("released", 3)
    again = api.worker().claim()
    assert again.beat(3).json()["command"] == "continue"


def test_a_report_is_taken_once(api: Api):
    attempt = claimed(api)
    points = {"series": [{"name": "train/loss", "steps": [1, 2], "values": [0.5, 0.25]}], "logs": "one\n"}
    event = {"type": "compile.finished", "data": {"seconds": 1.5}}
    for _ in range(3):
        assert attempt.report(1, **points, events=[event]).json() == {"batch": 1}
    assert attempt.report(2, logs="two\n").json() == {"batch": 2}
    assert attempt.report(1, logs="late\n").json() == {"batch": 1}
    assert api.get(f"/v1/jobs/{attempt.job_id}/logs").text == "one\ntwo\n"
    assert api.get(f"/v1/jobs/{attempt.job_id}/metrics").json()["series"][0]["values"] == [0.5, 0.25]
    assert api.told(attempt.job_id) == ["job.queued", "attempt.started", "compile.finished"]


@pytest.mark.parametrize("kind", ["job.succeeded", "attempt.ended", "worker.lost"])
def test_a_worker_cannot_tell_what_is_ours_to_tell(api: Api, kind: str):
    attempt = claimed(api)
    document = assert_problem(attempt.report(events=[{"type": "compile.finished"}, {"type": kind}], logs="x"), 422)
    assert [error["pointer"] for error in document["errors"]] == ["/events/1/type"]
    assert api.told(attempt.job_id) == ["job.queued", "attempt.started"]
    assert attempt.report(1, logs="y").status_code == 200
    assert api.get(f"/v1/jobs/{attempt.job_id}/logs").text == "y"


def test_a_file_that_is_missing_is_pointed_at(api: Api):
    api.submit()
    attempt = api.worker().claim()
    lost = {"path": "state/a", "bytes": 1, "sha256": "0" * 64}
    reply = attempt.report(checkpoints=[{"step": 10, "files": [lost, {**lost, "path": "../b"}]}])
    assert [error["pointer"] for error in assert_problem(reply, 422)["errors"]] == ["/checkpoints/0/files/1"]
    reply = attempt.report(checkpoints=[{"step": 10, "files": [lost]}])
    assert [error["pointer"] for error in assert_problem(reply, 422)["errors"]] == ["/checkpoints/0/files/0"]
    assert api.get(f"/v1/jobs/{attempt.job_id}/checkpoints").json()["data"] == []


def test_finishing_is_told_once_and_answered_again(api: Api):
    attempt = claimed(api)
    seconds = {"compiling": 1.5, "sampling": 2.0}
    for _ in range(3):
        assert attempt.finish("succeeded", 100, seconds=seconds, result={"summary": {}}).json() == {"status": "succeeded"}
    job = api.job(attempt.job_id)
    assert (job["status"], job["phase"], job["progress"]["step"]) == ("succeeded", None, 100)
    assert job["finished_at"] >= job["started_at"] >= job["created_at"]
    assert api.told(attempt.job_id).count("job.succeeded") == 1
    shown = attempts(api, attempt.job_id)[0]
    assert (shown["ending"], shown["seconds"], shown["steps_done"], shown["steps_lost"]) == ("succeeded", seconds, 100, 0)
    for ending in ("failed", "released", "cancelled"):
        assert assert_problem(attempt.finish(ending, 100), 409)["code"] == "attempt_superseded"
    assert api.job(attempt.job_id) == job


def test_a_stale_fence_changes_nothing(api: Api):
    first = claimed(api)
    first.report(1, logs="first\n")
    first.finish("released", 5)
    second = api.worker().claim()
    second.beat(7, "sampling")
    before = (
        api.job(first.job_id),
        api.events(first.job_id),
        attempts(api, first.job_id),
        api.get("/v1/workers").json()["data"][0]["running"],
    )
    stale = [
        first.beat(99, "evaluating"),
        first.report(2, logs="late\n", series=[{"name": "x", "steps": [1], "values": [1.0]}], events=[{"type": "a.b"}]),
        first.finish("succeeded", 99),
        first.fail("nan_loss"),
        Attempt(api, {**second.given, "fence": 1}).beat(99),
        Attempt(api, {**second.given, "fence": 3}).report(1, logs="late\n"),
        Attempt(api, {**first.given, "fence": 2}).finish("succeeded", 99),
    ]
    for reply in stale:
        assert assert_problem(reply, 409)["code"] == "attempt_superseded"
    after = (
        api.job(first.job_id),
        api.events(first.job_id),
        attempts(api, first.job_id),
        api.get("/v1/workers").json()["data"][0]["running"],
    )
    assert after == before
    assert api.get(f"/v1/jobs/{first.job_id}/logs").text == "first\n"
    assert second.beat(8).status_code == 200


def test_an_attempt_of_a_deleted_job_is_unknown(api: Api):
    attempt = claimed(api)
    attempt.finish("succeeded", 100)
    api.delete(f"/v1/jobs/{attempt.job_id}")
    for reply in (attempt.beat(), attempt.report(), attempt.finish()):
        assert_problem(reply, 404)


def test_a_job_whose_worker_is_lost_goes_on_elsewhere(api: Api, context: Context):
    attempt = claimed(api)
    attempt.beat(40, "sampling")
    expire(context)
    wait_for(lambda: api.job(attempt.job_id)["status"] == "queued")
    told = api.told(attempt.job_id)
    assert told == ["job.queued", "attempt.started", "worker.lost", "attempt.ended", "job.requeued"]
    shown = attempts(api, attempt.job_id)[0]
    assert (shown["ending"], shown["cause"]["code"], shown["steps_lost"], shown["step"]) == ("lost", "worker_lost", 40, 40)
    again = api.worker().claim()
    assert (again.job_id, again.given["number"], again.given["fence"]) == (attempt.job_id, 2, 2)
    assert_problem(attempt.finish("succeeded", 100), 409)


@pytest.mark.parametrize(("verb", "status"), [("pause", "paused"), ("cancel", "cancelled")])
def test_a_lost_worker_stops_a_job_that_was_to_stop(api: Api, context: Context, verb: str, status: str):
    attempt = claimed(api)
    api.post(f"/v1/jobs/{attempt.job_id}/{verb}")
    expire(context)
    wait_for(lambda: api.job(attempt.job_id)["status"] == status)
    assert api.told(attempt.job_id)[-3:] == ["worker.lost", "attempt.ended", f"job.{status}"]


def test_workers_lost_too_often_fail_a_job(api: Api, context: Context):
    attempt = claimed(api, retries={"max_infra_retries": 1})
    expire(context)
    assert api.worker().claim(wait_seconds=5).given["number"] == 2
    expire(context)
    wait_for(lambda: api.job(attempt.job_id)["status"] == "failed")
    error = api.job(attempt.job_id)["error"]
    assert (error["code"], error["fault"], error["retryable"]) == ("worker_lost", "infra", True)


def stand_still(context: Context, seconds: float) -> None:
    """Let every attempt have moved last so long ago, as if its beats had said the same for that time."""
    with Write(context.database) as write:
        write.connection.exec_driver_sql(f"UPDATE leases SET moved_at = moved_at - {int(seconds * 1e6)}")


def test_an_attempt_that_beats_and_does_not_move_is_taken_back(api: Api, context: Context):
    attempt = claimed(api)
    assert attempt.given["stall_seconds"] == 900.0
    attempt.beat(40, "sampling")
    stand_still(context, 2000)
    assert attempt.beat(41, "sampling").json()["command"] == "continue"
    sweeper.sweep_if_due(context)
    assert api.job(attempt.job_id)["status"] == "running"
    stand_still(context, 2000)
    attempt.beat(41, "sampling")
    sweeper.sweep_if_due(context)
    assert_problem(attempt.beat(41, "sampling"), 409)
    shown = attempts(api, attempt.job_id)[0]
    assert (shown["ending"], shown["cause"]["code"], shown["step"]) == ("lost", "stalled", 41)
    job = api.job(attempt.job_id)
    assert (job["status"], job["phase"]) == ("queued", "backoff")
    assert [worker["running"] for worker in api.get("/v1/workers").json()["data"]] == [[]]


def test_a_compilation_may_stand_longer_than_a_step(api: Api, context: Context):
    attempt = claimed(api)
    attempt.beat(0, "compiling")
    stand_still(context, 5000)
    attempt.beat(0, "compiling")
    sweeper.sweep_if_due(context)
    assert api.job(attempt.job_id)["status"] == "running"
    stand_still(context, 5000)
    sweeper.sweep_if_due(context)
    assert api.job(attempt.job_id)["status"] == "queued"


def test_jobs_that_stall_too_often_fail_by_the_other_budget(api: Api, context: Context):
    attempt = claimed(api, retries={"max_infra_retries": 0, "max_failures": 5})
    attempt.beat(1, "sampling")
    stand_still(context, 2000)
    sweeper.sweep_if_due(context)
    error = api.job(attempt.job_id)["error"]
    assert (error["code"], error["fault"], error["retryable"]) == ("stalled", "infra", True)


def test_a_dead_worker_is_noticed_within_twenty_seconds_at_default_settings():
    settings = Settings()
    assert settings.lease_seconds + settings.sweep_seconds + 2 * settings.poll_seconds <= 20
    assert settings.lease_seconds / 3 <= 5


def test_seconds_by_phase_are_shown_while_an_attempt_runs_and_when_it_is_lost(api: Api, context: Context):
    attempt = claimed(api)
    told = {"compiling": 0.5, "sampling": 2.0}
    assert attempt.beat(40, seconds=told).status_code == 200
    assert attempts(api, attempt.job_id)[0]["seconds"] == told
    assert attempt.beat(40).status_code == 200
    assert attempts(api, attempt.job_id)[0]["seconds"] == told
    expire(context)
    assert api.worker().claim(wait_seconds=5).given["number"] == 2
    seconds = attempts(api, attempt.job_id)[0]["seconds"]
    assert (seconds["compiling"], seconds["sampling"]) == (0.5, 0.0)
    assert seconds["lost_after_restart"] >= 2.0


def test_the_time_of_steps_that_no_checkpoint_kept_is_lost_and_the_sum_stays(api: Api):
    attempt = claimed(api)
    told = {"compiling": 1.0, "warmup": 3.0, "sampling": 1.0}
    attempt.finish("failed", 80, seconds=told, error={"code": "child_killed", "message": "It broke."})
    seconds = attempts(api, attempt.job_id)[0]["seconds"]
    assert seconds == {"compiling": 1.0, "warmup": 0.0, "sampling": 0.0, "lost_after_restart": 4.0}
    assert without_lost(told, 80, 20) == {"compiling": 1.0, "warmup": 2.25, "sampling": 0.75, "lost_after_restart": 1.0}
    assert without_lost(told, 80, 0) == told


def test_a_trace_is_asked_of_a_running_job_until_its_attempt_has_heard_of_it(api: Api):
    attempt = claimed(api)
    path = f"/v1/jobs/{attempt.job_id}/profile"
    assert api.post(path, json={"num_steps": 7}).status_code == 202
    for again in ({"json": {"num_steps": 9, "memory": False}}, {}):
        assert api.post(path, **again).status_code == 202  # one is on its way
    wanted = attempt.beat(1).json()["profile"]
    assert (wanted["num_steps"], wanted["memory"]) == (7, True)
    assert attempt.beat(1).json()["profile"] == wanted
    assert attempt.beat(1, profiled=wanted["sequence"]).json()["profile"] is None
    assert attempt.beat(1).json()["profile"] is None
    assert api.told(attempt.job_id).count("profile.requested") == 1
    assert api.post(path).status_code == 202
    later = attempt.beat(1, profiled=wanted["sequence"]).json()["profile"]
    assert (later["num_steps"], later["sequence"] > wanted["sequence"]) == (5, True)


def test_a_trace_stands_beside_a_command(api: Api):
    attempt = claimed(api)
    api.post(f"/v1/jobs/{attempt.job_id}/checkpoint")
    api.post(f"/v1/jobs/{attempt.job_id}/profile")
    beat = attempt.beat(1).json()
    assert (beat["command"], beat["profile"]["num_steps"]) == ("checkpoint", 5)


def test_only_a_running_job_can_be_traced(api: Api):
    job = api.submit()["id"]
    document = assert_problem(api.post(f"/v1/jobs/{job}/profile", json={"num_steps": 5}), 409)
    assert document["current_status"] == "queued"
    attempt = api.worker().claim()
    for body, pointer in (({"num_steps": 0}, "/num_steps"), ({"num_steps": 1001}, "/num_steps"), ({"steps": 5}, "/steps")):
        document = assert_problem(api.post(f"/v1/jobs/{job}/profile", json=body), 422)
        assert [error["pointer"] for error in document["errors"]] == [pointer]
    attempt.finish("succeeded", 100)
    assert assert_problem(api.post(f"/v1/jobs/{job}/profile"), 409)["current_status"] == "succeeded"


def test_a_claim_sweeps_by_itself(start, context: Context):
    with start(sweep_seconds=3600.0) as api:
        attempt = claimed(api)
        expire(context)
        assert api.worker().claim(wait_seconds=5).job_id == attempt.job_id


def test_a_waiting_claim_gets_what_a_lost_worker_had(start, context: Context):
    with start(sweep_seconds=3600.0, lease_seconds=0.3) as api:
        attempt = claimed(api)
        assert api.worker().claim(wait_seconds=30).job_id == attempt.job_id


def test_a_beat_between_saves_an_attempt_from_the_sweep(api: Api, context: Context):
    attempt = claimed(api)
    with Write(context.database) as write:
        assert sweeper.sweep(sweeper.Change(write, context)) == 0
    assert attempt.beat().status_code == 200


def test_a_restart_of_the_service_loses_no_attempt(start, context: Context):
    with start() as api:
        attempt = claimed(api)
    expire(context)
    with start() as api:
        again = Attempt(api, attempt.given)
        assert again.beat(5).status_code == 200
        assert again.finish("succeeded", 100).json() == {"status": "succeeded"}


def test_a_killed_child_is_tried_again_at_once_then_with_patience(api: Api):
    attempt = claimed(api)
    assert attempt.fail("child_killed", 10).json() == {"status": "queued"}
    attempt = api.worker().claim()
    assert attempt.given["number"] == 2
    assert attempt.fail("child_killed", 20).json() == {"status": "queued"}
    worker = api.worker()
    job = api.job(attempt.job_id)
    assert (job["phase"], job["status_reason"]["code"]) == ("backoff", "Backoff")
    assert worker.claim(wait_seconds=30).given["number"] == 3
    assert api.events(attempt.job_id)[-2]["data"]["reason"] == "child_killed"


def test_the_same_step_killing_the_child_twice_fails_the_job(api: Api):
    attempt = claimed(api)
    attempt.fail("child_killed", 10)
    again = api.worker().claim()
    assert again.fail("child_killed", 10).json() == {"status": "failed"}
    error = api.job(again.job_id)["error"]
    assert (error["code"], error["fault"], error["attempt_id"]) == ("child_killed", "user", again.id)


def test_the_same_step_says_nothing_against_a_job_that_has_kept_more(api: Api):
    claimed(api).fail("child_killed", 10)
    worker = api.worker()
    worker.probe_token = worker.registered["probe"]["token"]
    again = worker.claim()
    keep(again, 8)
    assert again.fail("child_killed", 10).json() == {"status": "queued"}
    assert api.worker().claim().fail("child_killed", 10).json() == {"status": "failed"}


def test_a_fault_of_the_job_is_tried_again_as_often_as_it_allows(api: Api):
    attempt = claimed(api, retries={"max_failures": 1})
    assert attempt.fail("user_code_error", 3).json() == {"status": "queued"}
    assert api.worker().claim(wait_seconds=30).fail("user_code_error", 3).json() == {"status": "failed"}


def test_memory_that_ran_out_is_not_tried_again(api: Api):
    attempt = claimed(api, retries={"max_failures": 5})
    assert attempt.fail("oom", 3).json() == {"status": "failed"}
    assert api.job(attempt.job_id)["error"]["retryable"] is False


def test_a_job_out_of_time_is_stopped_and_fails(api: Api):
    attempt = claimed(api, timeout_seconds=0.001)
    beat = attempt.beat(3).json()
    assert (beat["command"], beat["sequence"], beat["save"]) == ("cancel", 1, True)
    assert attempt.beat(4, handled=1).json()["command"] == "continue"
    assert api.job(attempt.job_id)["status"] == "running"
    assert attempt.finish("cancelled", 4).json() == {"status": "failed"}
    error = api.job(attempt.job_id)["error"]
    assert (error["code"], error["param"], error["fault"]) == ("deadline_exceeded", "/timeout_seconds", "user")
    assert api.told(attempt.job_id).count("job.deadline_exceeded") == 1


def test_the_time_of_all_attempts_counts(api: Api, context: Context):
    attempt = claimed(api, timeout_seconds=3600)
    with Write(context.database) as write:
        write.connection.exec_driver_sql("UPDATE attempts SET started_at = started_at - 2000000000")
    assert attempt.beat(3).json()["command"] == "continue"
    attempt.finish("released", 3)
    second = api.worker().claim()
    assert second.beat(3).json()["command"] == "continue"
    with Write(context.database) as write:
        write.connection.exec_driver_sql("UPDATE attempts SET started_at = started_at - 2000000000")
    assert second.beat(3).json()["command"] == "cancel"


def test_a_drained_worker_hands_its_job_back(api: Api):
    job = api.submit()["id"]
    worker = api.worker()
    attempt = worker.claim()
    drained = api.post(f"/v1/workers/{worker.id}/drain")
    assert (drained.status_code, drained.json()["status"]) == (202, "draining")
    assert attempt.beat(5).json()["command"] == "drain"
    api.post(f"/v1/workers/{worker.id}/drain")
    assert attempt.beat(5, handled=1).json()["command"] == "continue"
    assert attempt.finish("released", 6).json() == {"status": "queued"}
    assert worker.ask(wait_seconds=0).status_code == 204
    shown = api.job(job)
    assert (shown["phase"], shown["progress"]["step"]) == ("preempted", 6)
    assert api.events(job)[-1]["data"]["reason"] == "released"
    assert api.worker().claim().job_id == job


def test_cancelling_wins_over_draining(api: Api):
    api.submit()
    worker = api.worker()
    attempt = worker.claim()
    api.post(f"/v1/workers/{worker.id}/drain")
    api.post(f"/v1/jobs/{attempt.job_id}/cancel")
    assert attempt.beat().json()["command"] == "cancel"
    api.post(f"/v1/workers/{worker.id}/drain")
    assert attempt.beat().json()["command"] == "cancel"


def test_a_damaged_checkpoint_is_taken_back(api: Api, context: Context):
    job = checkpointed(api, step=4)
    again = api.post(f"/v1/jobs/{job}/retry").json()["id"]
    attempt = api.worker().claim()
    assert attempt.given["resume"]["step"] == 4
    error = {"code": "checkpoint_corrupt", "message": "The bytes differ."}
    assert attempt.finish("failed", 4, error=error, corrupt_step=4).json() == {"status": "queued"}
    assert "checkpoint.corrupt" in api.told(job)
    assert api.get(f"/v1/jobs/{job}/checkpoints").json()["data"] == []
    assert api.worker().ask().status_code == 204
    failed = api.job(again)
    assert (failed["status"], failed["error"]["code"], failed["error"]["param"]) == ("failed", "checkpoint_corrupt", "/init_from")


def test_the_next_attempt_starts_from_the_checkpoint_before_a_damaged_one(api: Api):
    api.submit(training(steps=20))
    attempt = api.worker().claim()
    for step in (4, 8):
        digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        path = f"/v1/attempts/{attempt.id}/files/checkpoints/{step}/data"
        sent = api.request("PUT", path, content=b"abc", headers={"X-Meshyard-Fence": "1", "X-Content-SHA256": digest})
        assert sent.json() == {"bytes": 3, "complete": True}
        attempt.report(checkpoints=[{"step": step, "files": [{"path": "data", "bytes": 3, "sha256": digest}]}])
    attempt.fail("child_killed", 9)
    shown = attempts(api, attempt.job_id)[0]
    assert (shown["steps_lost"], shown["steps_done"]) == (1, 9)
    second = api.worker().claim()
    assert (second.given["resume"]["step"], second.given["resume"]["what"]) == (8, "all")
    error = {"code": "checkpoint_corrupt", "message": "The bytes differ."}
    assert second.finish("failed", 8, error=error, corrupt_step=8).json() == {"status": "queued"}
    third = api.worker().claim()
    assert third.given["resume"]["step"] == 4
    shown = attempts(api, attempt.job_id)
    assert [one["resumed_from"] for one in shown] == [None, 8, 4]
