"""Validations that a worker answers: who is given one, what the one who asked hears, and what becomes of a worker that is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from service.context import Context
from service.db.tables import preflights
from tests.service.core_driver import OFFERS, Api, Worker, assert_problem, sampling, training, wait_for

Ask = Callable[..., "Future[httpx.Response]"]
TOTAL = {"count": 2, "bytes": 8, "bytes_per_device": 8}


@pytest.fixture
def ask(api: Api) -> Iterator[Ask]:
    """Asks for a validation in a thread of its own."""
    with ThreadPoolExecutor(8) as threads:
        yield lambda level, spec=None: threads.submit(api.post, f"/v1/jobs:validate?level={level}", json=spec or training())


def rows(context: Context) -> int:
    with context.database.read() as connection:
        return connection.execute(select(func.count()).select_from(preflights)).scalar_one()


def finish(api: Api, given: dict[str, Any], **told: Any) -> httpx.Response:
    return api.post(f"/v1/preflights/{given['preflight_id']}/finish", json={"fence": given["assignment"]["fence"], **told})


def beat(api: Api, given: dict[str, Any]) -> httpx.Response:
    return api.post(f"/v1/preflights/{given['preflight_id']}/heartbeat", json={"fence": given["assignment"]["fence"]})


def taken(worker: Worker, *takes: str, **more: Any) -> dict[str, Any]:
    """What a claim gives that must be given something."""
    reply = worker.take(*takes, wait_seconds=20, **more)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_what_a_worker_finds_is_the_answer_and_nothing_is_queued(api: Api, ask: Ask, context: Context):
    worker = api.worker()
    asked = ask("shapes")
    given = taken(worker, "attempt", "shapes")
    assert given["level"] == "shapes"
    inner = given["assignment"]
    assert (inner["fence"], inner["devices"], inner["mesh_axes"]) == (1, 1, {"data": 1})
    assert inner["spec"]["optimizer"]["type"] == "sgd"
    assert beat(api, given).json()["lease_seconds"] == context.settings.lease_seconds
    notice = {"pointer": "/remat", "code": "no_remat", "detail": "Large."}
    assert finish(api, given, found={"total_parameters": TOTAL, "notices": [notice]}).status_code == 200
    told = asked.result().json()
    assert (told["valid"], told["errors"], told["report"]["level"]) == (True, [], "shapes")
    assert told["report"]["total_parameters"] == TOTAL
    assert notice in told["report"]["warnings"]
    assert told["report"]["schedule"]["save"]["last"] == 10
    assert api.get("/v1/jobs").json()["data"] == []
    assert rows(context) == 0


def test_a_waiting_worker_is_woken_at_once(start):
    # Polling alone would take an hour.
    with start(poll_seconds=3600) as api, ThreadPoolExecutor(2) as threads:
        worker = api.worker()
        waiting = threads.submit(worker.take, "attempt", "shapes", wait_seconds=60)
        wait_for(lambda: api.app.state.context.signals.waiting("queue"))
        asked = threads.submit(api.post, "/v1/jobs:validate?level=shapes", json=training())
        finish(api, waiting.result().json(), found={})
        assert asked.result().json()["valid"]


def test_a_spec_that_is_wrong_waits_for_nobody(api: Api):
    told = api.post("/v1/jobs:validate?level=compile", json=training(steps=-1)).json()
    assert (told["valid"], told["report"]) == (False, None)


@pytest.mark.parametrize("level", ["shapes", "compile"])
def test_without_a_worker_there_is_a_refusal_in_time(start, level: str):
    with start(preflight_wait_seconds=0.2) as api:
        document = assert_problem(api.post(f"/v1/jobs:validate?level={level}", json=training()), 409)
        assert document["code"] == "no_worker"
        assert rows(api.app.state.context) == 0


EIGHT = sampling(mesh={"axes": {"chains": 4}}, resources={"labels": {"gpu": "h200"}})


@pytest.mark.parametrize(
    ("worker", "takes", "level", "spec", "gets"),
    [
        ({}, ("attempt",), "shapes", training(), False),
        ({}, ("shapes",), "compile", training(), False),
        ({}, ("shapes", "compile"), "compile", training(), True),
        ({"offers": ["models/transformer"]}, ("shapes",), "shapes", training(), False),
        # Labels and devices matter for what is compiled, not for what is only traced.
        ({}, ("shapes",), "shapes", EIGHT, True),
        ({}, ("compile",), "compile", EIGHT, False),
        ({"offers": [*OFFERS, "label:gpu=h200"], "device_count": 1}, ("compile",), "compile", EIGHT, True),
        ({"offers": [*OFFERS, "label:gpu=h200"], "device_count": 1, "platform": "gpu"}, ("compile",), "compile", EIGHT, False),
        ({"offers": [*OFFERS, "label:gpu=h200"], "device_count": 4, "platform": "gpu"}, ("compile",), "compile", EIGHT, True),
        ({"platform": "gpu"}, ("compile",), "compile", training(resources={"platform": "cpu"}), False),
        ({"platform": "gpu"}, ("shapes",), "shapes", training(resources={"platform": "cpu"}), True),
    ],
)
def test_only_a_worker_that_suits_is_given_it(start, worker, takes, level, spec, gets: bool):
    with start(preflight_wait_seconds=0.7 if not gets else 30.0) as api, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(api.post, f"/v1/jobs:validate?level={level}", json=spec)
        wait_for(lambda: rows(api.app.state.context))
        reply = api.worker(**worker).take(*takes)
        assert reply.status_code == (200 if gets else 204)
        if gets:
            finish(api, reply.json(), found={})
        assert asked.result().status_code == (200 if gets else 409)


def test_it_comes_before_a_job_and_a_job_is_not_for_who_takes_none(api: Api, ask: Ask, context: Context):
    api.submit()
    worker = api.worker()
    assert worker.take("shapes").status_code == 204
    asked = ask("shapes")
    wait_for(lambda: rows(context))
    finish(api, taken(worker, "attempt", "shapes"), found={})
    asked.result()
    assert "attempt_id" in worker.take("attempt", "shapes").json()


def test_what_is_the_specs_own_fault_is_an_error_of_it(api: Api, ask: Ask):
    asked = ask("compile")
    given = taken(api.worker(), "compile")
    finish(api, given, error={"code": "dataset_invalid", "message": "No rows.", "param": "/data"})
    told = asked.result().json()
    assert (told["valid"], told["errors"]) == (False, [{"pointer": "/data", "code": "dataset_invalid", "detail": "No rows."}])
    assert told["report"]["level"] == "compile"


def test_a_step_that_does_not_fit_makes_the_spec_invalid_and_names_what_fits(api: Api, ask: Ask):
    asked = ask("compile")
    given = taken(api.worker(), "compile")
    remat = {"title": "recompute (remat full)", "changes": [{"pointer": "/remat", "value": "full"}], "need_bytes": 5, "fits": True}
    verdict = {"code": "would_oom", "need_bytes": 10, "limit_bytes": 7, "limit": "the device"}
    finish(api, given, found={"verdict": verdict, "suggestions": [remat]})
    told = asked.result().json()
    assert told["valid"] is False
    assert [(error["pointer"], error["code"]) for error in told["errors"]] == [("/remat", "would_oom")]
    assert told["report"]["suggestions"] == [remat]


def test_a_worker_that_is_lost_is_followed_by_another_once(start):
    with start(lease_seconds=0.2) as api, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(api.post, "/v1/jobs:validate?level=shapes", json=training())
        first = taken(api.worker(), "shapes")
        second = taken(api.worker(), "shapes")
        assert (second["preflight_id"], second["assignment"]["fence"]) == (first["preflight_id"], 2)
        assert_problem(finish(api, first, found={}), 409)
        assert assert_problem(asked.result(), 409)["code"] == "worker_lost"
        assert assert_problem(beat(api, second), 409)["code"] == "attempt_superseded"


def test_a_fault_of_the_worker_is_followed_by_another_once(api: Api, ask: Ask):
    asked = ask("shapes")
    worker = api.worker()
    for _ in range(2):
        given = taken(worker, "shapes")
        assert finish(api, given, error={"code": "child_killed", "message": "Killed."}).status_code == 200
    document = assert_problem(asked.result(), 409)
    assert (document["code"], document["detail"]) == ("child_killed", "Killed.")


def test_one_validation_goes_to_one_worker(api: Api, ask: Ask, context: Context):
    asked = [ask("shapes") for _ in range(4)]
    wait_for(lambda: rows(context) == 4)
    workers = [api.worker() for _ in range(6)]
    with ThreadPoolExecutor(6) as threads:
        replies = list(threads.map(lambda worker: worker.take("shapes"), workers))
    given = [reply.json() for reply in replies if reply.status_code == 200]
    assert len({each["preflight_id"] for each in given}) == len(given) == 4
    for each in given:
        finish(api, each, found={})
    assert [each.result().status_code for each in asked] == [200] * 4


def test_a_crowd_that_waits_holds_no_thread(start):
    # Forty threads serve this process.
    with start(preflight_wait_seconds=3) as api, ThreadPoolExecutor(60) as threads:
        asked = [threads.submit(api.post, "/v1/jobs:validate?level=compile", json=training()) for _ in range(60)]
        wait_for(lambda: rows(api.app.state.context) == 60)
        assert api.get("/healthz").status_code == 200
        assert {each.result().status_code for each in asked} == {409}


def test_what_is_told_of_findings_is_checked(api: Api, ask: Ask):
    asked = ask("shapes")
    given = taken(api.worker(), "shapes")
    assert_problem(finish(api, given, found={"total_parameters": {"count": -1}}), 422)
    finish(api, given, found={})
    assert asked.result().status_code == 200
