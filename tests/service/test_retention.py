"""What goes by the operator's policy, what stays whatever the policy says, and what is refused while there is no room."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import update

from service.context import Context
from service.db.tables import attempts, datasets, events, jobs, metric_chunks, webhook_deliveries
from service.domain import leftovers, tidying
from tests.service.core_driver import Api, Attempt, assert_problem, sampling, training
from tests.service.receiver import receiving

DAY_US = 86_400_000_000


def context_of(api: Api) -> Context:
    return api.app.state.context


def aged(api: Api, table, column: str, days: float = 1000, **where: str) -> None:
    """Make rows as old as if the days had passed."""
    with context_of(api).database.write() as connection:
        here = [table.c[name] == value for name, value in where.items()]
        connection.execute(update(table).where(*here).values({column: table.c[column] - round(days * DAY_US)}))


def ended(api: Api, spec: dict | None = None) -> Attempt:
    """A job that has failed, with an attempt."""
    api.submit(spec)
    attempt = api.worker().claim()
    assert attempt.fail("nan_loss").status_code == 200
    return attempt


def report(attempt: Attempt, steps: list[int], name: str = "train/loss", **more) -> None:
    series = {"name": name, "steps": steps, "values": [float(step % 7) for step in steps], **more}
    assert attempt.report(series=[series]).status_code == 200


def shown(api: Api, job_id: str, **query) -> list[dict]:
    return api.get(f"/v1/jobs/{job_id}/metrics", params=query).json()["series"]


# Logs.


def test_a_long_log_loses_its_beginning_says_so_and_keeps_its_end(start):
    with start(max_log_chars_per_job=10_000) as api:
        api.submit()
        attempt = api.worker().claim()
        lines = [f"line {number:05d}\n" for number in range(3_000)]
        for first in range(0, 3_000, 30):
            attempt.report(logs="".join(lines[first : first + 30]))
        text = api.get(f"/v1/jobs/{attempt.job_id}/logs").text
        mark, _, rest = text.partition("\n")
        assert mark == f"[the first {33_000 - len(rest)} characters of this log are no longer kept]"
        assert "".join(lines).endswith(rest)
        assert 9_000 <= len(rest) <= 12_000
        assert api.get(f"/v1/jobs/{attempt.job_id}/logs?tail=2").text == "".join(lines[-2:])
        assert api.told(attempt.job_id).count("logs.cut") == 1


def test_a_long_line_is_cut_and_told_where(start):
    with start(max_log_line_chars=10) as api:
        api.submit()
        attempt = api.worker().claim()
        attempt.report(logs="short\n" + "x" * 25 + "\n" + "y" * 10 + "\n")
        assert api.get(f"/v1/jobs/{attempt.job_id}/logs").text == f"short\n{'x' * 10}… [15 characters cut]\n{'y' * 10}\n"


# Metrics.


def test_series_beyond_the_limit_are_dropped_and_told_once(start):
    with start(max_series_per_job=3) as api:
        api.submit()
        attempt = api.worker().claim()
        for number in range(6):
            report(attempt, [1, 2], f"m{number}")
        report(attempt, [3], "m0")
        assert {one["name"]: one["total_points"] for one in shown(api, attempt.job_id)} == {"m0": 3, "m1": 2, "m2": 2}
        (told,) = [one["data"] for one in api.events(attempt.job_id) if one["type"] == "metrics.dropped"]
        assert told["reason"] == "series"


def test_points_beyond_the_limit_are_dropped_and_told_once(start):
    with start(max_points_per_job=10) as api:
        api.submit()
        attempt = api.worker().claim()
        report(attempt, list(range(8)))
        report(attempt, list(range(8, 12)))
        report(attempt, [20, 21])
        assert shown(api, attempt.job_id)[0]["total_points"] == 10
        (told,) = [one["data"] for one in api.events(attempt.job_id) if one["type"] == "metrics.dropped"]
        assert told["reason"] == "points"


@pytest.mark.parametrize("wrong", ["steps", "labels"])
def test_a_report_has_its_limits(api, wrong):
    api.submit()
    attempt = api.worker().claim()
    series = {"name": "m", "steps": [1], "values": [1.0]}
    if wrong == "steps":
        series |= {"steps": [1] * 200_001, "values": [1.0] * 200_001}
    else:
        series |= {"labels": {str(number): "x" for number in range(33)}}
    problem = assert_problem(attempt.report(series=[series]), 422)
    assert (f"/series/0/{wrong}", "out_of_range") in [(one["pointer"], one["code"]) for one in problem["errors"]]


def test_what_is_rolled_up_reads_as_before(api):
    api.submit()
    attempt = api.worker().claim()
    for start in range(0, 100, 5):
        report(attempt, list(range(start, start + 8)))  # overlapping: what came later counts
        report(attempt, [start], "r_hat", labels={"chain": str(start % 2)})
    attempt.report(series=[{"name": "odd", "steps": [1, 2], "values": [None, 1.0], "nonfinite": {"0": "NaN"}}])
    attempt.fail("nan_loss")
    before = shown(api, attempt.job_id)
    tidying.retain(context_of(api))
    assert chunks(api, attempt.job_id) == 41  # ended a moment ago: somebody may still follow it
    aged(api, jobs, "finished_at", days=1)
    tidying.retain(context_of(api))
    assert chunks(api, attempt.job_id) == len(before) == 4
    assert shown(api, attempt.job_id) == before


def chunks(api: Api, job_id: str) -> int:
    with context_of(api).database.read() as connection:
        return len(connection.execute(metric_chunks.select().where(metric_chunks.c.job_id == job_id)).all())


def test_old_series_keep_their_shape_and_say_what_is_gone(start):
    with start(thin_metrics_points=50) as api:
        api.submit()
        attempt = api.worker().claim()
        values = [float(step % 97) for step in range(2_000)] + [1e6]
        attempt.report(series=[{"name": "long", "steps": list(range(2_001)), "values": values}])
        report(attempt, [1, 2, 3], "short")
        attempt.fail("nan_loss")
        aged(api, jobs, "finished_at", days=89)
        tidying.retain(context_of(api))
        assert shown(api, attempt.job_id)[0]["downsampled"] is False
        aged(api, jobs, "finished_at", days=2)
        tidying.retain(context_of(api))
        long, short = shown(api, attempt.job_id)
        assert (len(long["steps"]) <= 50, long["total_points"], long["downsampled"]) == (True, 2_001, True)
        assert (long["steps"][0], long["steps"][-1], max(long["values"])) == (0, 2_000, 1e6)
        assert (short["total_points"], short["downsampled"]) == (3, False)
        assert api.told(attempt.job_id)[-1] == "metrics.thinned"
        again = api.told(attempt.job_id)
        tidying.retain(context_of(api))
        assert api.told(attempt.job_id) == again


# Events, jobs, datasets, messages.


def test_nothing_goes_by_default(api):
    attempt = ended(api)
    before = api.told(attempt.job_id)
    aged(api, jobs, "finished_at")
    tidying.retain(context_of(api))
    assert api.told(attempt.job_id) == before


def test_old_events_go_but_the_last_stays(start):
    with start(keep_event_days=30) as api:
        old, young = ended(api), ended(api)
        live = api.submit()
        aged(api, jobs, "finished_at", id=old.job_id)
        tidying.retain(context_of(api))
        assert api.told(old.job_id) == ["job.failed"]
        assert api.events(old.job_id)[0]["seq"] == 4
        assert len(api.told(young.job_id)) == 4
        assert api.told(live["id"]) == ["job.queued"]


def test_old_jobs_go_with_all_they_left_but_not_what_a_live_job_starts_from(start, tmp_path):
    with receiving() as receiver, start(keep_job_days=30, webhook_targets="127.0.0.1") as api:
        webhook = api.post("/v1/webhooks", json={"url": receiver.url, "events": ["job.deleted"]}).json()
        api.submit(training())
        worker = api.worker(probe_token=probe(api))
        attempt = worker.claim()
        commit(attempt, 5)
        attempt.fail("nan_loss")
        plain = ended(api)
        reader = api.submit(training(init_from={"job": attempt.job_id, "step": 5, "what": "params"}))
        aged(api, jobs, "finished_at")
        tidying.retain(context_of(api))
        assert api.get(f"/v1/jobs/{plain.job_id}").status_code == 404
        assert api.get(f"/v1/jobs/{attempt.job_id}").status_code == 200
        assert folder_of(attempt).exists()
        api.post(f"/v1/jobs/{reader['id']}/cancel")
        tidying.retain(context_of(api))
        assert api.get(f"/v1/jobs/{attempt.job_id}").status_code == 404
        assert not folder_of(attempt).parent.exists()
        told = api.get(f"/v1/webhooks/{webhook['id']}/deliveries").json()["data"]
        assert {one["payload"]["data"]["job_id"] for one in told} == {plain.job_id, attempt.job_id}


def probe(api: Api) -> str:
    found = context_of(api).probe
    assert found is not None
    return found.token


def folder_of(attempt: Attempt) -> Path:
    return Path(attempt.given["storage"]["root"]) / "jobs" / attempt.job_id / attempt.id


def commit(attempt: Attempt, step: int) -> None:
    """Write a checkpoint of one file and have it listed."""
    import hashlib

    content = f"step {step}".encode()
    place = folder_of(attempt) / "checkpoints" / str(step)
    place.mkdir(parents=True)
    (place / "state").write_bytes(content)
    file = {"path": "state", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    reply = attempt.report(checkpoints=[{"step": step, "files": [file], "metrics": {}, "outputs": [], "fresh": []}])
    assert reply.status_code == 200, reply.text


def test_datasets_that_no_job_names_go(start):
    with start(keep_dataset_days=30) as api:
        used, unused, young = (upload(api, content) for content in (b"used", b"unused", b"young"))
        text = {"type": "transformer", "vocab_size": 256, "dim": 8, "n_layers": 1, "n_heads": 1, "context": 2}
        api.submit(training(model=text, data={"dataset": used, "batch_size": 1}, loss={"type": "next_token"}))
        for one in (used, unused):
            aged(api, datasets, "created_at", id=one)
        tidying.retain(context_of(api))
        assert [api.get(f"/v1/datasets/{one}").status_code for one in (used, unused, young)] == [200, 404, 200]
        kept = list((context_of(api).settings.artifact_root / "datasets").iterdir())
        assert len(kept) == 2
        assert upload(api, b"unused") != unused


def upload(api: Api, content: bytes) -> str:
    reply = api.post("/v1/datasets?format=text", content=content * 10)
    assert reply.status_code == 201, reply.text
    return reply.json()["id"]


def test_old_messages_go(start):
    with receiving() as receiver, start(webhook_targets="127.0.0.1") as api:
        webhook = api.post("/v1/webhooks", json={"url": receiver.url}).json()
        api.submit()
        aged(api, webhook_deliveries, "created_at", days=8)
        api.submit()
        tidying.retain(context_of(api))
        assert len(api.get(f"/v1/webhooks/{webhook['id']}/deliveries").json()["data"]) == 1


# What attempts leave behind.


def test_what_an_attempt_left_half_written_is_collected_and_what_is_listed_stays(api):
    api.submit(training())
    worker = api.worker(probe_token=probe(api))
    attempt = worker.claim()
    commit(attempt, 5)
    folder = folder_of(attempt)
    for name in ("7", "8.orbax-checkpoint-tmp", "x"):
        (folder / "checkpoints" / name / "deep").mkdir(parents=True)
        (folder / "checkpoints" / name / "deep" / "file").write_bytes(b"half")
    (folder / "checkpoints" / "link").symlink_to("/etc")
    attempt.finish("released", 5)
    second = worker.claim()
    assert second.given["resume"]["step"] == 5
    (folder_of(second) / "checkpoints" / "9").mkdir(parents=True)
    leftovers.collect_some(context_of(api), 20)
    assert (folder / "checkpoints" / "7").exists()  # ended a moment ago: who wrote there may not know yet
    aged(api, attempts, "ended_at", days=1)
    assert leftovers.collect_some(context_of(api), 20) == 1
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["5"]
    assert Path("/etc/passwd").exists()
    assert (folder_of(second) / "checkpoints" / "9").exists()  # its attempt has not ended
    assert api.get(f"/v1/jobs/{attempt.job_id}/checkpoints/5/files/state").content == b"step 5"
    assert leftovers.collect_some(context_of(api), 20) == 0
    assert api.told(attempt.job_id)[-1] == "attempt.collected"


def test_the_folder_of_an_attempt_that_left_nothing_goes_whole_and_a_missing_one_is_fine(api):
    api.submit(training(retries={"max_failures": 3}))
    worker = api.worker(probe_token=probe(api))
    attempt = worker.claim()
    (folder_of(attempt) / "outputs").mkdir(parents=True)
    (folder_of(attempt) / "outputs" / "trace").write_bytes(b"x")
    attempt.fail("nan_loss")
    never_began = ended(api)
    aged(api, attempts, "ended_at", days=1)
    assert leftovers.collect_some(context_of(api), 20) == 2
    assert not folder_of(attempt).exists()
    assert "attempt.collected" not in api.told(never_began.job_id)


# No room.


def test_nothing_comes_in_or_begins_while_there_is_no_room(start, api):
    api.submit()
    worker = api.worker()
    attempt = worker.claim()
    with start(min_free_bytes=2**62, code="on") as full:
        for path in ("/v1/datasets?format=text", "/v1/code?name=m"):
            problem = assert_problem(full.post(path, content=b"words"), 507)
            assert problem["code"] == "insufficient_storage"
        put = {"content": b"x", "headers": {"X-Meshyard-Fence": "1", "X-Content-SHA256": "0" * 64}}
        reply = full.request("PUT", f"/v1/attempts/{attempt.id}/files/outputs/x", **put)
        assert_problem(reply, 507)
        assert int(reply.headers["retry-after"]) > 0
        assert "meshyard_storage_low 1.0" in full.get("/metrics").text
        running, waiting = Attempt(full, attempt.given), full.submit()["id"]
        assert full.post(f"/v1/workers/{worker.id}/claim", json={"devices": 1, "wait_seconds": 0}).status_code == 204
        assert running.beat(1).status_code == 200  # what runs goes on
        assert running.finish("succeeded", 100, result={}).status_code == 200
        assert "too little room" in full.job(waiting)["status_reason"]["message"]
    assert worker.claim().job_id == waiting
    assert api.post("/v1/datasets?format=text", content=b"words").status_code == 201
    assert "meshyard_storage_low 0.0" in api.get("/metrics").text


def test_events_still_have_no_gaps(start):
    with start(keep_event_days=30) as api:
        attempt = ended(api, sampling())
        aged(api, jobs, "finished_at")
        tidying.retain(context_of(api))
        api.patch(f"/v1/jobs/{attempt.job_id}", json={"name": "later"})
        assert [one["seq"] for one in api.events(attempt.job_id)] == [4, 5]
        with context_of(api).database.read() as connection:
            assert len(connection.execute(events.select().where(events.c.job_id == attempt.job_id)).all()) == 2
