"""Jobs as users see them: submitted, listed, changed, made anew, deleted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from service.context import Context
from service.db.transaction import Write
from service.domain import sweeper
from service.storage.local import LocalStore
from tests.service.core_driver import Api, Attempt, assert_problem, sampling, training

KEYS = {
    *(
        "object",
        "id",
        "kind",
        "name",
        "metadata",
        "priority",
        "project",
        "spec",
        "resolved_spec",
        "spec_version",
        "status",
        "phase",
    ),
    *(
        "status_reason",
        "queue_position",
        "progress",
        "attempt",
        "parent",
        "group",
        "error",
        "created_at",
        "started_at",
        "finished_at",
    ),
}
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def test_a_job_is_queued_and_says_what_it_is(api: Api):
    spec = sampling(name="schools", metadata={"team": "stats"}, priority=3)
    reply = api.post("/v1/jobs", json=spec)
    assert reply.status_code == 201
    job = reply.json()
    assert set(job) == KEYS
    assert reply.headers["location"] == f"/v1/jobs/{job['id']}"
    assert "idempotent-replayed" not in reply.headers
    assert re.fullmatch(r"job_[0-9a-f]{32}", job["id"])
    told = {
        key: job[key] for key in ("object", "kind", "name", "metadata", "priority", "project", "spec", "spec_version", "status")
    }
    assert told == {
        "object": "job",
        "kind": "mcmc",
        "name": "schools",
        "metadata": {"team": "stats"},
        "priority": 3,
        "project": "default",
        "spec": spec,
        "spec_version": 1,
        "status": "queued",
    }
    assert job["resolved_spec"]["num_samples"] == 50
    assert job["resolved_spec"]["kernel"]["type"] == "NUTS"
    assert job["progress"] == {"step": 0, "total": 100, "unit": "draw"}
    assert (job["phase"], job["queue_position"], job["status_reason"]["code"]) == ("waiting_capacity", 1, "NoMatchingWorker")
    assert INSTANT.fullmatch(job["created_at"])
    assert all(job[key] is None for key in ("attempt", "parent", "group", "error", "started_at", "finished_at"))
    assert api.job(job["id"]) == job


def test_the_keys_are_the_same_in_every_state(api: Api):
    seen = {"queued": api.submit()}
    attempt = api.worker().claim()
    seen["running"] = api.job(attempt.job_id)
    api.post(f"/v1/jobs/{attempt.job_id}/pause")
    seen["pausing"] = api.job(attempt.job_id)
    attempt.finish("paused", 10)
    seen["paused"] = api.job(attempt.job_id)
    api.post(f"/v1/jobs/{attempt.job_id}/cancel")
    seen["cancelled"] = api.job(attempt.job_id)
    api.submit()
    failing = api.worker().claim()
    failing.fail("nan_loss", 5)
    seen["failed"] = api.job(failing.job_id)
    for status, job in seen.items():
        assert set(job) == KEYS
        assert job["status"] == status
    error = {
        "code": "nan_loss",
        "message": "It broke.",
        "param": None,
        "detail": None,
        "retryable": False,
        "fault": "user",
        "attempt_id": failing.id,
    }
    assert seen["failed"]["error"] == error


def test_the_same_key_and_body_give_the_first_answer(api: Api):
    first = api.post("/v1/jobs", json=sampling(), headers={"Idempotency-Key": "a"})
    api.patch(f"/v1/jobs/{first.json()['id']}", json={"name": "renamed"})
    second = api.post("/v1/jobs", json=dict(reversed(sampling().items())), headers={"Idempotency-Key": "a"})
    assert (second.status_code, second.json()) == (201, first.json())
    assert (first.headers.get("idempotent-replayed"), second.headers["idempotent-replayed"]) == (None, "true")
    assert second.headers["location"] == first.headers["location"]
    assert len(api.get("/v1/jobs").json()["data"]) == 1


def test_the_same_key_with_another_body_is_refused(api: Api):
    api.submit(sampling(), **{"Idempotency-Key": "a"})
    reply = api.post("/v1/jobs", json=sampling(seed=1), headers={"Idempotency-Key": "a"})
    assert assert_problem(reply, 422)["code"] == "idempotency_key_reused"
    reply = api.post("/v1/jobs", json={"kind": "nonsense"}, headers={"Idempotency-Key": "a"})
    assert assert_problem(reply, 422)["code"] == "idempotency_key_reused"
    assert len(api.get("/v1/jobs").json()["data"]) == 1


def test_keys_belong_to_a_route(api: Api):
    key = {"Idempotency-Key": "a"}
    job = api.submit(sampling(), **key)
    clones = [api.post(f"/v1/jobs/{job['id']}/clone", headers=key) for _ in range(2)]
    assert clones[0].json()["id"] == clones[1].json()["id"] != job["id"]
    assert clones[1].headers["idempotent-replayed"] == "true"


def test_a_refused_request_leaves_its_key_free(api: Api):
    key = {"Idempotency-Key": "a"}
    assert_problem(api.post("/v1/jobs", json=sampling(num_samples=-1), headers=key), 422)
    assert api.post("/v1/jobs", json=sampling(), headers=key).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "ä", "a\tb"])
def test_a_key_must_be_plain(api: Api, key: str):
    assert_problem(api.post("/v1/jobs", json=sampling(), headers={"Idempotency-Key": key.encode("latin-1")}), 422)


def test_keys_are_forgotten_in_the_end(api: Api, context: Context):
    job = api.submit(sampling(), **{"Idempotency-Key": "a"})
    sweeper.tidy(context)
    assert api.submit(sampling(), **{"Idempotency-Key": "a"})["id"] == job["id"]
    with Write(context.database) as write:
        write.connection.exec_driver_sql("UPDATE idempotency_keys SET created_at = created_at - 49 * 3600000000")
    sweeper.tidy(context)
    assert api.submit(sampling(), **{"Idempotency-Key": "a"})["id"] != job["id"]


def test_lists_are_newest_first_and_end(api: Api):
    ids = [api.submit(sampling(seed=number))["id"] for number in range(7)][::-1]
    found, after, pages = [], None, 0
    while True:
        page = api.get("/v1/jobs", params={"limit": 3, **({"after": after} if after else {})}).json()
        assert page["object"] == "list"
        found += [job["id"] for job in page["data"]]
        pages += 1
        if not page["has_more"]:
            break
        after = page["next"]
    assert (found, pages, page["next"]) == (ids, 3, None)


def test_a_page_that_just_fits_is_the_last(api: Api):
    for number in range(3):
        api.submit(sampling(seed=number))
    page = api.get("/v1/jobs?limit=3").json()
    assert (len(page["data"]), page["has_more"], page["next"]) == (3, False, None)


def test_lists_hold_twenty_by_default(api: Api):
    for number in range(21):
        api.submit(sampling(seed=number))
    page = api.get("/v1/jobs").json()
    assert (len(page["data"]), page["has_more"]) == (20, True)


def test_lists_are_filtered(api: Api):
    tail = {'weird "key"]': "x"}
    one = api.submit(sampling(name="one", metadata={"team": "a", "run": "1"}))["id"]
    two = api.submit(training(name="two", metadata={"team": "a", "run": "2", **tail}))["id"]
    three = api.submit(sampling(metadata={"team": "b"}))["id"]
    api.post(f"/v1/jobs/{three}/cancel")
    api.post(f"/v1/jobs/{two}/pause")

    def listed(**params: object) -> list[str]:
        return [job["id"] for job in api.get("/v1/jobs", params=params).json()["data"]]

    assert listed(status="queued") == [one]
    assert listed(status=["queued", "cancelled"]) == listed(status="queued,cancelled") == [three, one]
    assert_problem(api.get("/v1/jobs", params={"status": "queued,lost"}), 422)
    assert listed(kind="train") == [two]
    assert listed(kind="nothing") == []
    assert listed(name="one") == [one]
    assert listed(group="grp_x") == []
    assert listed(**{"metadata[team]": "a"}) == [two, one]
    assert listed(**{"metadata[team]": "a", "metadata[run]": "2"}) == [two]
    assert listed(**{"metadata[team]": "A"}) == []
    assert listed(**{'metadata[weird "key"]]': "x"}) == [two]
    assert listed(**{"metadata[team]": "a", "status": "queued", "kind": "mcmc"}) == [one]
    assert listed(**{"metadata[team]": "a", "status": ["queued", "paused"], "after": two}) == [one]
    api.patch(f"/v1/jobs/{one}", json={"metadata": {"team": "a" * 1000}})
    assert listed(**{"metadata[team]": "a" * 1000}) == [one]
    assert listed(**{"metadata[team]": "a" * 999}) == []
    assert listed(**{"metadata[team]": "a" * 200}) == []


def test_name_metadata_and_priority_can_be_changed(api: Api):
    job = api.submit(sampling(name="old", metadata={"a": "1", "b": "2"}))
    path = f"/v1/jobs/{job['id']}"
    changed = api.patch(path, json={"metadata": {"c": "3"}, "priority": 7}).json()
    assert (changed["name"], changed["metadata"], changed["priority"]) == ("old", {"c": "3"}, 7)
    assert api.patch(path, json={"name": None}).json()["name"] is None
    assert api.patch(path, json={}).json() == api.job(job["id"])
    assert changed["resolved_spec"] == job["resolved_spec"]
    assert [found["id"] for found in api.get("/v1/jobs?metadata[c]=3").json()["data"]] == [job["id"]]
    assert api.get("/v1/jobs?metadata[a]=1").json()["data"] == []
    assert api.told(job["id"]) == ["job.queued", "job.updated", "job.updated"]


def test_nothing_else_can_be_changed(api: Api):
    job = api.submit()
    faults = {"status": "succeeded", "spec": {}, "priority": None, "metadata": None, "name": ""}
    for field, value in faults.items():
        document = assert_problem(api.patch(f"/v1/jobs/{job['id']}", json={field: value}), 422)
        assert [error["pointer"] for error in document["errors"]] == [f"/{field}"]
    assert api.job(job["id"]) == job


def test_a_job_of_higher_priority_goes_first(api: Api):
    low, high, raised = (api.submit(sampling(priority=priority))["id"] for priority in (0, 5, -1))
    api.patch(f"/v1/jobs/{raised}", json={"priority": 9})
    assert [api.job(job)["queue_position"] for job in (low, high, raised)] == [3, 2, 1]
    worker = api.worker()
    assert [worker.claim().job_id for _ in range(3)] == [raised, high, low]


def test_only_a_job_that_has_ended_can_be_deleted(api: Api):
    job = api.submit()
    for _ in range(2):
        document = assert_problem(api.delete(f"/v1/jobs/{job['id']}"), 409)
        assert document["current_status"] == "queued"
    api.post(f"/v1/jobs/{job['id']}/cancel")
    assert api.delete(f"/v1/jobs/{job['id']}").status_code == 204
    for path in ("", "/events", "/attempts"):
        assert_problem(api.get(f"/v1/jobs/{job['id']}{path}"), 404)
    assert_problem(api.delete(f"/v1/jobs/{job['id']}"), 404)


def written(attempt: Attempt, step: int, paths: Sequence[str], metrics: dict[str, float]) -> dict[str, object]:
    """A checkpoint of small files, as a report tells it."""
    root = Path(attempt.given["storage"]["root"]) / attempt.given["prefix"] / "checkpoints" / str(step)
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"abc")
    known = {"bytes": 3, "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    return {"step": step, "files": [{"path": path, **known} for path in paths], "metrics": metrics}


def keep(attempt: Attempt, step: int, paths: Sequence[str] = ("data",), **metrics: float) -> None:
    """Report a checkpoint of small files."""
    assert attempt.report(checkpoints=[written(attempt, step, paths, metrics)]).status_code == 200


def test_a_checkpoint_is_told_after_what_came_with_it(api: Api):
    """However quick the job was: it cannot have been kept before it was compiled."""
    api.submit()
    worker = api.worker()
    worker.probe_token = worker.registered["probe"]["token"]
    attempt = worker.claim()
    attempt.report(checkpoints=[written(attempt, 4, ["data"], {})], events=[{"type": "compile.finished", "data": {}}])
    assert api.told(attempt.job_id)[-2:] == ["compile.finished", "checkpoint.committed"]


def checkpointed(api: Api, step: int = 4, **changes: object) -> str:
    """A cancelled training job that kept a checkpoint."""
    job = api.submit(training(**changes))
    worker = api.worker()
    worker.probe_token = worker.registered["probe"]["token"]
    attempt = worker.claim()
    keep(attempt, step)
    api.post(f"/v1/jobs/{job['id']}/cancel")
    assert attempt.finish("cancelled", step).status_code == 200
    return job["id"]


def test_deleting_a_job_deletes_its_files(api: Api, context: Context):
    job_id = checkpointed(api)
    assert isinstance(context.store, LocalStore)
    folder = context.settings.artifact_root / "jobs" / job_id
    assert list(folder.rglob("data"))
    assert api.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert not folder.exists()


def test_a_job_that_a_live_one_starts_from_cannot_be_deleted(api: Api):
    source = checkpointed(api)
    reader = api.submit(training(init_from={"job": source, "step": 4, "what": "params"}))["id"]
    document = assert_problem(api.delete(f"/v1/jobs/{source}"), 409)
    assert reader in document["detail"]
    api.post(f"/v1/jobs/{reader}/cancel")
    assert api.delete(f"/v1/jobs/{source}").status_code == 204


def test_a_retry_goes_on_from_the_last_checkpoint(api: Api):
    source = checkpointed(api, name="net", metadata={"team": "a"})
    api.patch(f"/v1/jobs/{source}", json={"name": "renamed", "priority": 2})
    reply = api.post(f"/v1/jobs/{source}/retry")
    assert reply.status_code == 201
    job = reply.json()
    start = {"job": source, "step": 4, "what": "all", "include": None, "exclude": []}
    assert (job["parent"], job["status"]) == ({"job": source, "relation": "retry"}, "queued")
    assert (job["spec"]["init_from"], job["resolved_spec"]["init_from"]) == (start, start)
    assert (job["name"], job["metadata"], job["priority"]) == ("renamed", {"team": "a"}, 2)
    given = api.worker().claim().given
    assert (given["job_id"], given["resume"]["job_id"], given["resume"]["step"]) == (job["id"], source, 4)
    assert api.job(job["id"])["progress"]["step"] == 4
    assert [found["id"] for found in api.get("/v1/jobs?metadata[team]=a").json()["data"]] == [job["id"], source]


def test_a_retry_without_a_checkpoint_starts_anew(api: Api):
    job = api.submit()["id"]
    api.worker().claim().fail("nan_loss", 7)
    again = api.post(f"/v1/jobs/{job}/retry").json()
    assert again["resolved_spec"]["init_from"] is None
    assert api.worker().claim().given["resume"] is None


def test_a_live_job_cannot_be_retried(api: Api):
    job = api.submit()["id"]
    assert assert_problem(api.post(f"/v1/jobs/{job}/retry"), 409)["current_status"] == "queued"
    api.worker().claim()
    assert assert_problem(api.post(f"/v1/jobs/{job}/retry"), 409)["current_status"] == "running"


def test_a_clone_starts_anew_whatever_the_first_is_doing(api: Api):
    job = api.submit(sampling(name="first"))
    clone = api.post(f"/v1/jobs/{job['id']}/clone").json()
    assert clone["parent"] == {"job": job["id"], "relation": "clone"}
    assert (clone["spec"], clone["resolved_spec"], clone["name"]) == (job["spec"], job["resolved_spec"], "first")
    assert api.worker().claim().job_id == job["id"]
    assert api.worker().claim().given["spec"] == job["resolved_spec"]


def test_a_clone_of_a_job_whose_start_is_gone_is_refused(api: Api):
    source = checkpointed(api)
    reader = api.submit(training(init_from={"job": source, "step": 4, "what": "params"}))["id"]
    api.post(f"/v1/jobs/{reader}/cancel")
    api.delete(f"/v1/jobs/{source}")
    assert_problem(api.post(f"/v1/jobs/{reader}/clone"), 409)
    assert_problem(api.post(f"/v1/jobs/{reader}/retry"), 409)


def test_a_part_of_the_best_checkpoint_s_parameters_can_be_the_start(api: Api):
    best = {"metric": "train/loss", "mode": "max", "count": 1}
    source = api.submit(training(checkpoint={"keep_best": best, "keep_latest": 5}))["id"]
    worker = api.worker()
    worker.probe_token = worker.registered["probe"]["token"]
    attempt = worker.claim()
    paths = ("data", "state/params.layers.0.kernel/zarr.json", "state/batch_stats.norm.mean/c/0", "state/opt_state.0.mu.x/c/0")
    for step, loss in ((2, 1.0), (4, 3.0), (6, 2.0)):
        keep(attempt, step, paths, **{"train/loss": loss})
    start = {"job": source, "step": "best", "include": ["layers.*", "norm.*"], "exclude": ["*.mean"]}
    job = api.submit(training(init_from=start))
    assert job["resolved_spec"]["init_from"] == start | {"step": 4, "what": "params"}
    wrong = training(init_from=start | {"step": "latest", "include": ["layers.*", "opt_state.*"]})
    [error] = assert_problem(api.post("/v1/jobs", json=wrong), 422)["errors"]
    assert (error["pointer"], error["code"]) == ("/init_from/include/1", "no_match")


def test_a_start_that_is_not_there_is_pointed_at(api: Api):
    for start in ({"job": "job_" + "0" * 32, "step": 4}, {"job": checkpointed(api), "step": 5}):
        document = assert_problem(api.post("/v1/jobs", json=training(init_from=start)), 422)
        assert document["code"] == "invalid_spec"
        assert document["errors"][0]["pointer"].startswith("/init_from")


def test_a_spec_is_validated_without_being_queued(api: Api):
    told = api.post(
        "/v1/jobs:validate?level=schema", json=training(steps=10, eval_every=None, checkpoint={"every_steps": 4})
    ).json()
    assert (told["valid"], told["errors"]) == (True, [])
    report = told["report"]
    assert (report["level"], report["kind"], report["devices"], report["total"], report["unit"]) == (
        "schema",
        "train",
        1,
        10,
        "step",
    )
    assert report["schedule"]["save"] == {"every": 4, "every_seconds": None, "first": 4, "last": 10, "count": 3}
    assert report["resolved_spec"]["optimizer"]["type"] == "sgd"
    assert api.get("/v1/jobs").json()["data"] == []


def test_validation_tells_every_fault(api: Api):
    told = api.post("/v1/jobs:validate", json=training(steps=-1, seed="x", optimizer={"type": "no_such"})).json()
    assert (told["valid"], told["report"]) == (False, None)
    assert {error["pointer"] for error in told["errors"]} >= {"/steps", "/seed", "/optimizer/type"}


def test_other_levels_of_validation_than_three_are_refused(api: Api):
    assert_problem(api.post("/v1/jobs:validate?level=weights", json=training()), 422)


def test_events_are_numbered_without_gaps_and_paged(api: Api):
    job = api.submit()["id"]
    for number in range(30):
        api.patch(f"/v1/jobs/{job}", json={"name": str(number)})
    first = api.get(f"/v1/jobs/{job}/events").json()
    assert (len(first["data"]), first["has_more"], first["next"]) == (20, True, "20")
    rest = api.get(f"/v1/jobs/{job}/events", params={"after": first["next"]}).json()
    events = first["data"] + rest["data"]
    assert [event["seq"] for event in events] == list(range(1, 32))
    assert (rest["has_more"], rest["next"]) == (False, None)
    assert set(events[0]) == {"object", "id", "job_id", "seq", "created_at", "type", "data"}
    assert all(INSTANT.fullmatch(event["created_at"]) for event in events)
    assert len({event["id"] for event in events}) == 31
