"""Every way from one status to another, legal or not, and the events that tell it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobs.states import TERMINAL, TRANSITIONS, Status, may_become
from service.context import Context
from service.db.queries import jobs as rows
from service.db.transaction import Write
from service.domain.errors import IllegalTransition
from service.domain.lifecycle import Change, locked, move
from tests.service.core_driver import Api, assert_problem, sampling


def queued(api: Api) -> str:
    return api.submit()["id"]


def running(api: Api) -> str:
    api.submit()
    return api.worker().claim().job_id


def pausing(api: Api) -> str:
    job = running(api)
    api.post(f"/v1/jobs/{job}/pause")
    return job


def paused(api: Api) -> str:
    job = queued(api)
    api.post(f"/v1/jobs/{job}/pause")
    return job


def cancelling(api: Api) -> str:
    job = running(api)
    api.post(f"/v1/jobs/{job}/cancel")
    return job


def cancelled(api: Api) -> str:
    job = queued(api)
    api.post(f"/v1/jobs/{job}/cancel")
    return job


def succeeded(api: Api) -> str:
    api.submit()
    attempt = api.worker().claim()
    attempt.finish("succeeded", 100)
    return attempt.job_id


def failed(api: Api) -> str:
    api.submit()
    attempt = api.worker().claim()
    attempt.fail("nan_loss")
    return attempt.job_id


STATES: dict[str, Callable[[Api], str]] = {
    made.__name__: made for made in (queued, running, pausing, paused, cancelling, cancelled, succeeded, failed)
}
LEGAL: dict[tuple[str, str], str] = {
    ("queued", "cancel"): "cancelled",
    ("running", "cancel"): "cancelling",
    ("pausing", "cancel"): "cancelling",
    ("paused", "cancel"): "cancelled",
    ("cancelling", "cancel"): "cancelling",
    ("cancelled", "cancel"): "cancelled",
    ("queued", "pause"): "paused",
    ("running", "pause"): "pausing",
    ("pausing", "pause"): "pausing",
    ("paused", "pause"): "paused",
    ("paused", "resume"): "queued",
    ("running", "checkpoint"): "running",
}
"""What may be asked in which status, and where that leads; everything else is refused."""


@pytest.mark.parametrize("status", STATES)
def test_what_may_be_asked_in_a_status(api: Api, status: str):
    for verb in ("cancel", "pause", "resume", "checkpoint"):
        job = STATES[status](api)
        before = api.job(job)
        assert before["status"] == status
        for _ in range(2):
            reply = api.post(f"/v1/jobs/{job}/{verb}")
            if (status, verb) in LEGAL:
                assert (reply.status_code, reply.json()["status"]) == (202, LEGAL[status, verb])
            else:
                document = assert_problem(reply, 409)
                assert (document["code"], document["current_status"]) == ("illegal_transition", status)
                assert api.job(job) == before
        api.post(f"/v1/jobs/{job}/cancel")


@pytest.mark.parametrize("verb", ["cancel", "pause", "checkpoint"])
def test_asking_twice_tells_once(api: Api, verb: str):
    job = running(api)
    api.post(f"/v1/jobs/{job}/{verb}")
    told = api.told(job)
    api.post(f"/v1/jobs/{job}/{verb}")
    api.post(f"/v1/jobs/{job}/{verb}?checkpoint=false")
    assert api.told(job) == told


def test_resuming_may_be_asked_again_until_the_job_ends(api: Api):
    job = paused(api)
    for _ in range(2):
        assert api.post(f"/v1/jobs/{job}/resume").status_code == 202
    assert api.told(job).count("job.resumed") == 1
    attempt = api.worker().claim()
    assert api.post(f"/v1/jobs/{job}/resume").json()["status"] == "running"
    attempt.finish("succeeded", 100)
    assert_problem(api.post(f"/v1/jobs/{job}/resume"), 409)


TOLD = {
    "cancelled": ["job.queued", "job.cancelling", "job.cancelled"],
    "paused": ["job.queued", "job.pausing", "job.paused"],
    "running": ["job.queued", "attempt.started"],
    "succeeded": ["job.queued", "attempt.started", "attempt.ended", "job.succeeded"],
    "failed": ["job.queued", "attempt.started", "attempt.ended", "job.failed"],
    "cancelling": ["job.queued", "attempt.started", "job.cancelling"],
    "pausing": ["job.queued", "attempt.started", "job.pausing"],
}


@pytest.mark.parametrize("status", TOLD)
def test_every_change_is_told(api: Api, status: str):
    assert api.told(STATES[status](api)) == TOLD[status]


def test_a_paused_job_goes_through_the_queue_again(api: Api):
    job = pausing(api)
    attempt = api.get(f"/v1/jobs/{job}/attempts").json()["data"][0]
    assert attempt["ended_at"] is None
    body = {"fence": attempt["fence"], "ending": "paused", "step": 30}
    assert api.post(f"/v1/attempts/{attempt['id']}/finish", json=body).json() == {"status": "paused"}
    assert api.worker().ask().status_code == 204
    api.post(f"/v1/jobs/{job}/resume")
    second = api.worker().claim()
    assert (second.job_id, second.given["number"], second.given["fence"]) == (job, 2, 2)
    told = ["job.queued", "attempt.started", "job.pausing", "attempt.ended", "job.paused", "job.resumed", "job.queued"]
    assert api.told(job) == [*told, "attempt.started"]


@pytest.mark.parametrize("ending", ["succeeded", "failed", "paused", "cancelled", "released"])
@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_a_job_that_is_to_stop_stops_however_its_attempt_ends(api: Api, verb: str, ending: str):
    api.submit(sampling(retries={"max_failures": 5}))
    attempt = api.worker().claim()
    api.post(f"/v1/jobs/{attempt.job_id}/{verb}")
    error = {"code": "user_code_error", "message": "Too late."} if ending == "failed" else None
    stopped = {"pause": "paused", "cancel": "cancelled"}[verb]
    assert attempt.finish(ending, 70, error=error).json() == {"status": stopped}
    job = api.job(attempt.job_id)
    assert (job["status"], job["error"], job["progress"]["step"]) == (stopped, None, 70)
    told = api.get(f"/v1/jobs/{attempt.job_id}/attempts").json()["data"][0]
    assert told["ending"] == ending
    assert (told["cause"] or {}).get("code") == ("user_code_error" if ending == "failed" else None)


@pytest.mark.parametrize("current", list(Status))
def test_only_the_table_allows(api: Api, context: Context, current: Status):
    for target in Status:
        job = api.submit()["id"]
        with Write(context.database) as write:
            rows.change(write.connection, job, {"status": current.value})
        with Write(context.database) as write:
            change = Change(write, context)
            row = locked(change, "default", job)
            if may_become(current, target):
                assert move(change, row, target).status == target
                continue
            with pytest.raises(IllegalTransition) as refused:
                move(change, row, target)
            assert refused.value.current_status == current


def test_terminal_states_lead_nowhere():
    assert {status for status in Status if not TRANSITIONS[status]} == TERMINAL == {"succeeded", "failed", "cancelled"}
