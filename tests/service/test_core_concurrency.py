"""Many at once: nothing twice, nothing lost, nobody stuck."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from jobs.protocol import Assignment
from service.context import Context
from service.db.queries import workers as worker_rows
from service.db.transaction import Read, Write
from service.domain import queue, submission
from service.domain.callers import local
from service.domain.idempotency import ticket
from service.domain.lifecycle import Change
from tests.service.core_driver import OFFERS, Api, sampling

JOBS, THREADS = 400, 12


def submitted(context: Context, number: int) -> str:
    document = sampling(seed=number)
    with Write(context.database) as write:
        asked = ticket("default", "POST /v1/jobs", None, document)
        return submission.submit(Change(write, context), "default", document, asked).body["id"]


def registered(context: Context, name: str) -> str:
    row = {"id": name, "project": "default", "platform": "cpu", "device_kind": "cpu", "device_count": 8, "memory_bytes": 2**34}
    row |= {"slots": 1, "labels": {}, "versions": {}, "catalog_digest": "0", "status": "active"}
    with Write(context.database) as write:
        worker_rows.add(write.connection, row, OFFERS)
    return name


def test_four_hundred_jobs_are_claimed_once_each_by_twelve_workers(context: Context):
    jobs = {submitted(context, number) for number in range(JOBS)}

    def claim_all(worker: str) -> list[str]:
        claimed: list[str] = []
        while True:
            with Write(context.database) as write:
                given = queue.claim(Change(write, context), local(), worker, queue.Claim(devices=8))
            if given is None:
                return claimed
            assert isinstance(given, Assignment)
            claimed.append(given.job_id)

    workers = [registered(context, f"wrk_{number}") for number in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as threads:
        claimed = [job for found in threads.map(claim_all, workers) for job in found]
    assert len(claimed) == len(set(claimed)) == JOBS
    assert set(claimed) == jobs


def test_fifty_equal_submits_at_once_make_one_job(api: Api):
    def submit(_: int) -> tuple[int, str, str | None]:
        reply = api.post("/v1/jobs", json=sampling(), headers={"Idempotency-Key": "the same"})
        return reply.status_code, reply.json()["id"], reply.headers.get("idempotent-replayed")

    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(submit, range(50)))
    assert {(status, job) for status, job, _ in answers} == {(201, answers[0][1])}
    assert Counter(replayed for _, _, replayed in answers) == {None: 1, "true": 49}
    assert len(api.get("/v1/jobs").json()["data"]) == 1


def test_events_have_no_gaps_however_many_write(api: Api):
    job = api.submit()["id"]
    attempt = api.worker().claim()
    batches = count(1)

    def write(number: int) -> int:
        if number % 3 == 0:
            return attempt.report(next(batches), events=[{"type": "note.taken", "data": {}}]).status_code
        if number % 3 == 1:
            return api.patch(f"/v1/jobs/{job}", json={"name": str(number)}).status_code
        return api.patch(f"/v1/jobs/{job}", json={"priority": -2_000_000}).status_code  # refused: must leave no gap

    with ThreadPoolExecutor(20) as threads:
        statuses = Counter(threads.map(write, range(90)))
    assert set(statuses) == {200, 422}
    events = api.events(job)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


def test_a_change_that_fails_leaves_no_gap(context: Context):
    job = submitted(context, 0)

    def fail() -> None:
        with Write(context.database) as write:
            Change(write, context).tell(job, "note.taken")
            raise RuntimeError

    for _ in range(3):
        with pytest.raises(RuntimeError):
            fail()
    with Write(context.database) as write:
        Change(write, context).tell(job, "note.taken")
    with Read(context.database) as read:
        seqs = read.connection.exec_driver_sql("SELECT seq FROM events ORDER BY seq").scalars().all()
    assert seqs == [1, 2]


def test_far_more_writers_than_threads_and_connections_all_come_through(api: Api):
    jobs = [api.submit(sampling(seed=number))["id"] for number in range(4)]

    def use(number: int) -> int:
        path = f"/v1/jobs/{jobs[number % 4]}"
        return (api.get(path) if number % 3 == 0 else api.patch(path, json={"name": str(number)})).status_code

    with ThreadPoolExecutor(150) as threads:
        assert Counter(threads.map(use, range(300))) == {200: 300}


def test_many_cancel_one_job(api: Api):
    job = api.submit()["id"]
    with ThreadPoolExecutor(20) as threads:
        statuses = set(threads.map(lambda _: api.post(f"/v1/jobs/{job}/cancel").status_code, range(20)))
    assert statuses == {202}
    assert api.told(job) == ["job.queued", "job.cancelling", "job.cancelled"]


def test_finishing_and_cancelling_at_once_ends_in_one_of_the_two(api: Api):
    for number in range(10):
        job = api.submit(sampling(seed=number))["id"]
        attempt = api.worker().claim()
        with ThreadPoolExecutor(2) as threads:
            finished = threads.submit(attempt.finish, "succeeded", 100)
            cancelled = threads.submit(api.post, f"/v1/jobs/{job}/cancel")
        status = api.job(job)["status"]
        assert finished.result().json() == {"status": status}
        assert (cancelled.result().status_code, status) in {(202, "cancelled"), (409, "succeeded")}
        assert api.told(job)[-1] == f"job.{status}"


class Watching:
    """Looks at the database from outside at the moment a reply begins."""

    def __init__(self, app: FastAPI, look: Any) -> None:
        self._app = app
        self._look = look
        self.seen: list[Any] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.seen.append(self._look())
            await send(message)

        await self._app(scope, receive, watched if scope["type"] == "http" else send)


def test_a_job_is_in_the_database_before_its_reply_begins(app: FastAPI, context: Context):
    def count_jobs() -> int:
        with Read(context.database) as read:
            return read.connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar_one()

    watching = Watching(app, count_jobs)
    with Api(app, asgi=watching) as api:
        api.submit()
        api.submit(sampling(), **{"Idempotency-Key": "a"})
        api.submit(sampling(), **{"Idempotency-Key": "a"})
        job = api.submit(sampling(seed=2))["id"]
        api.post(f"/v1/jobs/{job}/cancel")
        api.delete(f"/v1/jobs/{job}")
    assert watching.seen == [1, 2, 2, 3, 3, 2]


def test_a_commit_that_fails_is_never_told_as_done(app: FastAPI, context: Context):
    """A deferred constraint fails at the commit, after the handler has returned."""
    with Write(context.database) as write:
        for statement in (
            "CREATE TABLE guard (id varchar(64) PRIMARY KEY, name varchar(64) REFERENCES jobs (id) DEFERRABLE INITIALLY DEFERRED)",
            "INSERT INTO guard SELECT 'x', NULL",
        ):
            write.connection.exec_driver_sql(statement)
    with Api(app) as api:
        job = api.submit()["id"]
        api.post(f"/v1/jobs/{job}/cancel")
        with Write(context.database) as write:
            write.connection.exec_driver_sql(f"UPDATE guard SET name = '{job}'")
        reply = api.delete(f"/v1/jobs/{job}")
        assert reply.status_code >= 500
        assert api.job(job)["status"] == "cancelled"
