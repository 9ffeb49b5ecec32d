"""Following a job over a real connection: nothing lost, nothing doubled, however often it breaks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.service.core_driver import OFFERS, Attempt, assert_problem, sampling, wait_for

SERIES = {"name": "r_hat/max", "labels": {"chain": "0"}, "steps": [1, 2], "values": [1.5, None]}


@dataclass(frozen=True)
class Told:
    """One server-sent event."""

    event: str
    id: str | None
    data: Any


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client


class Plain:
    """Makes attempts and submits over a client."""

    def __init__(self, client: httpx.Client) -> None:
        self.post = client.post
        body = {"platform": "cpu", "device_kind": "cpu", "device_count": 8, "memory_bytes": 2**34, "catalog_digest": "0"}
        self.worker = client.post("/v1/workers", json={**body, "offers": OFFERS}).json()["id"]

    def submit(self) -> str:
        return self.post("/v1/jobs", json=sampling()).json()["id"]

    def claim(self) -> Attempt:
        body = {"devices": 8, "wait_seconds": 0}
        return Attempt(self, self.post(f"/v1/workers/{self.worker}/claim", json=body).json())  # type: ignore[arg-type]


@pytest.fixture
def plain(client: httpx.Client) -> Plain:
    return Plain(client)


def read(lines: Iterator[str], until: str | None = None, most: int | None = None) -> list[Told]:
    """Events of a stream: to its end, to the first of a kind, or so many."""
    found: list[Told] = []
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if fields:
            found.append(Told(fields.get("event", "message"), fields.get("id"), json.loads(fields["data"])))
            fields = {}
        if found and (found[-1].event == until or len(found) == most):
            break
    return found


def follow(client: httpx.Client, job: str, headers: dict[str, str] | None = None, **params: Any) -> list[Told]:
    """The whole of a stream."""
    with client.stream("GET", f"/v1/jobs/{job}/stream", headers=headers, params=params) as reply:
        assert reply.status_code == 200
        return read(reply.iter_lines())


def test_a_stream_tells_what_was_and_what_comes_and_ends(client: httpx.Client, plain: Plain):
    job = plain.submit()
    with client.stream("GET", f"/v1/jobs/{job}/stream") as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert (reply.headers["x-accel-buffering"], reply.headers["cache-control"]) == ("no", "no-cache")
        lines = reply.iter_lines()
        told = read(lines, most=1)
        attempt = plain.claim()
        told += read(lines, most=1)
        attempt.report(series=[{**SERIES, "nonfinite": {"1": "NaN"}}])
        told += read(lines, most=1)
        attempt.finish("succeeded", 100)
        told += read(lines)
    kinds = ["job.queued", "attempt.started", "metrics", "attempt.ended", "job.succeeded", "end"]
    assert [one.event for one in told] == kinds
    assert [one.id for one in told] == ["1", "2", None, "3", "4", None]
    events = client.get(f"/v1/jobs/{job}/events").json()["data"]
    assert [one.data for one in told if one.id] == events
    assert told[2].data == {"object": "metrics", "series": [{**SERIES, "nonfinite": [{"step": 2, "value": "NaN"}]}]}
    assert told[-1].data == {"status": "succeeded"}


def test_the_stream_of_an_ended_job_ends_at_once(client: httpx.Client, plain: Plain):
    job = plain.submit()
    client.post(f"/v1/jobs/{job}/cancel")
    assert [one.event for one in follow(client, job)] == ["job.queued", "job.cancelling", "job.cancelled", "end"]


def test_a_reader_that_comes_back_goes_on_where_it_was(client: httpx.Client, plain: Plain):
    job = plain.submit()
    client.post(f"/v1/jobs/{job}/cancel")
    for seq, kinds in ((0, 3), (1, 2), (2, 1), (3, 0), (99, 0)):
        assert len(follow(client, job, {"Last-Event-ID": str(seq)})) == kinds + 1
        assert len(follow(client, job, last_event_id=seq)) == kinds + 1
    # A browser that reconnects sends the header beside the address it was first given.
    assert len(follow(client, job, {"Last-Event-ID": "3"}, last_event_id=0)) == 1
    assert len(follow(client, job, {"Last-Event-ID": ""})) == 4


@pytest.mark.parametrize("seen", ["x", "-1", "1.5", "9" * 400])
def test_an_event_id_that_is_none_is_refused(client: httpx.Client, plain: Plain, seen: str):
    job = plain.submit()
    assert_problem(client.get(f"/v1/jobs/{job}/stream", headers={"Last-Event-ID": seen}), 422)
    assert_problem(client.get(f"/v1/jobs/{job}/stream", params={"last_event_id": seen}), 422)


def test_no_event_is_lost_or_doubled_however_often_the_connection_breaks(client: httpx.Client, plain: Plain):
    job = plain.submit()
    attempt = plain.claim()

    def write() -> None:
        for number in range(120):
            attempt.report(events=[{"type": "note.taken", "data": {"number": number}}])
        attempt.finish("succeeded", 100)

    writer = threading.Thread(target=write)
    writer.start()
    told: list[Told] = []
    while not told or told[-1].event != "end":
        seen = next((one.id for one in reversed(told) if one.id), "0")
        with client.stream("GET", f"/v1/jobs/{job}/stream", headers={"Last-Event-ID": seen or "0"}) as reply:
            told += read(reply.iter_lines(), until="end", most=7)
    writer.join()
    assert [one.id for one in told] == [*map(str, range(1, 125)), None]
    assert [one.data["data"]["number"] for one in told if one.event == "note.taken"] == list(range(120))


def test_metrics_are_told_from_now_on_and_once(client: httpx.Client, plain: Plain):
    job = plain.submit()
    attempt = plain.claim()
    attempt.report(series=[{"name": "x", "steps": [0], "values": [0.0]}])
    with client.stream("GET", f"/v1/jobs/{job}/stream") as reply:
        lines = reply.iter_lines()
        read(lines, most=2)
        for step in range(1, 30):
            attempt.report(series=[{"name": "x", "steps": [step], "values": [float(step)]}])
        attempt.finish("succeeded", 100)
        told = read(lines)
    steps = [step for one in told if one.event == "metrics" for series in one.data["series"] for step in series["steps"]]
    assert steps == list(range(1, 30))


def test_many_events_before_the_stream_are_all_told(client: httpx.Client, plain: Plain):
    job = plain.submit()
    attempt = plain.claim()
    attempt.report(events=[{"type": "note.taken", "data": {}}] * 1200)
    attempt.finish("succeeded", 100)
    told = follow(client, job)
    assert [one.id for one in told] == [*map(str, range(1, 1205)), None]


def test_a_stream_of_a_job_that_is_deleted_meanwhile_stops(client: httpx.Client, plain: Plain, context):
    job = plain.submit()
    client.post(f"/v1/jobs/{job}/cancel")
    client.delete(f"/v1/jobs/{job}")
    assert_problem(client.get(f"/v1/jobs/{job}/stream"), 404)


def test_those_who_follow_hold_no_connection(client: httpx.Client, plain: Plain, address: str, context):
    job = plain.submit()
    clients = [httpx.Client(base_url=address, timeout=30) for _ in range(60)]
    streams = [one.stream("GET", f"/v1/jobs/{job}/stream") for one in clients]
    lines = [stream.__enter__().iter_lines() for stream in streams]
    for one in lines:
        assert read(one, most=1)[0].event == "job.queued"
    wait_for(lambda: context.signals.waiting(job) == 60)
    wait_for(lambda: "Current Checked out connections: 0" in context.database.engine.pool.status())
    client.post(f"/v1/jobs/{job}/cancel")
    assert all(read(one)[-1].event == "end" for one in lines)
    for stream, one in zip(streams, clients, strict=True):
        stream.__exit__(None, None, None)
        one.close()


def test_a_reader_that_leaves_is_forgotten(client: httpx.Client, plain: Plain, address: str, context):
    job = plain.submit()
    with httpx.Client(base_url=address, timeout=30) as leaving, leaving.stream("GET", f"/v1/jobs/{job}/stream") as reply:
        lines = reply.iter_lines()  # kept: with its last reference the connection goes
        read(lines, most=1)
        wait_for(lambda: context.signals.waiting(job) == 1)
    wait_for(lambda: context.signals.waiting(job) == 0)
