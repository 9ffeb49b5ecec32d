"""Watching a job: nothing is lost, nothing comes twice, whatever happens to the connection."""

from __future__ import annotations

import json
import threading

import pytest

import meshyard
from meshyard import Event, Metrics
from meshyard.effects import Close, Emit, Read, Reply, Send, Sleep, Stream
from meshyard.errors import APIConnectionError, APITimeoutError
from meshyard.flows import follow, jobs
from meshyard.flows.follow_logs import follow_logs
from meshyard.flows.patience import MOST_FAILURES
from tests.client.standin import Fault, problem


def told(items):
    return [item.seq for item in items if isinstance(item, Event)]


def test_a_finished_job_is_told_whole(world, client):
    job = world.add()
    world.series[job["id"]] = [{"name": "train/loss", "labels": {}, "steps": [1, 2], "values": [3.0, 2.0], "nonfinite": []}]
    world.tell(job["id"], "attempt.started", number=1)
    world.end(job["id"], "succeeded")
    items = list(client.jobs.watch(job["id"]))
    assert told(items) == [1, 2, 3]
    assert steps(items) == [[1, 2]]


def test_a_watch_may_begin_behind_an_event(world, client):
    job = world.add()
    world.end(job["id"], "succeeded")
    assert told(client.jobs.watch(job["id"], after=1)) == [2]


@pytest.mark.parametrize("breaks", [[0], [1], [1, 1], [3, 0, 2, 0, 0]])
def test_a_broken_stream_is_taken_up_where_it_broke(world, client, breaks):
    job = world.add()
    for step in range(10):
        world.tell(job["id"], "checkpoint.committed", step=step)
    world.end(job["id"], "succeeded")
    # The first connection must stand for a moment: a service that cannot be reached at all is an error.
    world.break_stream_after = [max(breaks[0], 1), *breaks[1:]]
    assert told(client.jobs.watch(job["id"])) == list(range(1, 13))
    assert len(world.asked("GET", "/stream")) == len(breaks) + 1


def test_events_come_as_they_happen(world, client):
    job = world.add()
    seen = []
    watch = client.jobs.watch(job["id"])
    seen.append(next(watch))
    world.tell(job["id"], "attempt.started", number=1)
    seen.append(next(watch))
    world.end(job["id"], "failed")
    seen += watch
    assert [event.type for event in seen] == ["job.queued", "attempt.started", "job.failed"]


def test_leaving_a_watch_closes_its_connection(world, client):
    job = world.add()
    watch = client.jobs.watch(job["id"])
    next(watch)
    watch.close()
    assert client.jobs.get(job["id"]).status == "queued"


def test_a_service_that_is_not_there_is_said_at_once(world, client):
    world.faults.append(Fault(lambda request: request.url.path.endswith("/stream"), problem(503, "x", "no"), times=99))
    job = world.add()
    with pytest.raises(meshyard.ServerError):
        list(client.jobs.watch(job["id"]))


class Script:
    """Carries a flow out against answers written down beforehand, and keeps what it did. No time passes."""

    def __init__(self, streams, replies):
        self.streams, self.replies = streams, replies
        self.items, self.slept, self.asked = [], [], []

    def run(self, flow):
        answer, error = None, None
        while True:
            try:
                effect = flow.throw(error) if error else flow.send(answer)
            except StopIteration:
                return self
            answer = error = None
            try:
                answer = self.perform(effect)
            except APIConnectionError as raised:
                error = raised

    def perform(self, effect):
        match effect:
            case Emit(item):
                self.items.append(item)
            case Sleep(seconds):
                self.slept.append(seconds)
            case Send(request, stream=True):
                self.asked.append(request)
                return Stream(200, {}, self.streams.pop(0))
            case Send(request):
                self.asked.append(request)
                answer = self.replies(request)
                if isinstance(answer, Exception):
                    raise answer
                return Reply(200, {}, answer if isinstance(answer, bytes) else json.dumps(answer).encode())
            case Read(stream):
                chunk = stream.handle.pop(0) if stream.handle else b""
                if isinstance(chunk, Exception):
                    raise chunk
                return chunk
            case Close():
                pass
            case _:
                raise AssertionError(effect)
        return None


def event(seq, kind="job.queued"):
    return {"seq": seq, "type": kind, "data": {}}


def frame(seq, kind="job.queued"):
    return f"id: {seq}\nevent: {kind}\ndata: {json.dumps(event(seq, kind))}\n\n".encode()


def steps(items):
    return [item.series[0].steps for item in items if isinstance(item, Metrics)]


def job_is(status):
    return {"id": "job_1", "status": status}


def no_metrics(_request):
    return {"series": []}


def points(*steps, name="train/loss"):
    return {"name": name, "labels": {}, "steps": list(steps), "values": [float(step) for step in steps], "nonfinite": []}


def metrics_frame(*steps):
    return f"event: metrics\ndata: {json.dumps({'series': [points(*steps)]})}\n\n".encode()


END = b"event: end\ndata: {}\n\n"


def page(rows):
    return {"object": "list", "data": rows, "has_more": False, "next": None}


def test_a_mute_stream_gives_way_to_plain_requests():
    statuses = ["running", "running", "succeeded"]
    pages = [[event(1)], [], [event(2), event(3, "job.succeeded")]]
    series = [[points(1)], [points(1, 2)], [points(2, 3)], [points(3, 4)]]

    def replies(request):
        if request.path.endswith("/events"):
            return page(pages.pop(0))
        if request.path.endswith("/metrics"):
            return {"series": series.pop(0)}
        return {"id": "job_1", "status": statuses.pop(0)}

    done = Script([[APITimeoutError("mute")]], replies).run(follow.watch("job_1"))
    assert told(done.items) == [1, 2, 3]
    assert steps(done.items) == [[1], [2], [3], [4]]
    after = [dict(request.query).get("after") for request in done.asked if request.path.endswith("/events")]
    assert after == ["0", "1", "1"]


def test_a_stream_that_falls_silent_after_speaking_is_only_opened_again():
    streams = [[frame(1), APITimeoutError("silent")], [frame(1), frame(2), END]]
    done = Script(streams, no_metrics).run(follow.watch("job_1"))
    assert told(done.items) == [1, 2]
    assert [request.headers["Last-Event-ID"] for request in done.asked if request.path.endswith("/stream")] == ["0", "1"]


def test_points_reported_while_no_connection_stood_are_caught_up_with():
    stored = [[points(1)], [points(3, 4, 5)]]
    streams = [[metrics_frame(2), APIConnectionError("broken")], [metrics_frame(5, 6), metrics_frame(7), END]]
    done = Script(streams, lambda _request: {"series": stored.pop(0)}).run(follow.watch("job_1"))
    assert steps(done.items) == [[1], [2], [3, 4, 5], [6], [7]]
    asked = [dict(request.query) for request in done.asked if request.path.endswith("/metrics")]
    assert [query["from_step"] for query in asked] == ["0", "3"]


def test_points_of_a_new_attempt_count_again():
    streams = [[frame(1, "attempt.started"), metrics_frame(4), metrics_frame(5), END]]
    done = Script(streams, lambda _request: {"series": [points(1, 2, 3, 4, 5, 6)]}).run(follow.watch("job_1"))
    assert steps(done.items) == [[1, 2, 3, 4, 5, 6], [4], [5]]


def test_a_watch_gives_up_in_the_end():
    streams = [[frame(1), APIConnectionError("gone")], *[[APIConnectionError("gone")] for _ in range(20)]]
    script = Script(streams, no_metrics)
    with pytest.raises(APIConnectionError):
        script.run(follow.watch("job_1"))
    assert len(script.slept) == MOST_FAILURES
    assert 30 < sum(script.slept) < 120


def test_polling_bears_a_service_that_is_away():
    answers = [job_is("running"), APIConnectionError("away"), APIConnectionError("away"), job_is("succeeded")]

    def replies(request):
        if request.path.endswith("/events"):
            return page([])
        return no_metrics(request) if request.path.endswith("/metrics") else answers.pop(0)

    done = Script([[APITimeoutError("mute")]], replies).run(follow.watch("job_1"))
    assert not answers
    assert done.items == []


def test_waiting_bears_a_service_that_is_away():
    answers = [job_is("running"), *[APIConnectionError("away")] * 9, job_is("succeeded")]
    script = Script([], lambda _request: answers.pop(0))
    script.run(jobs.wait("job_1"))
    assert not answers
    assert sum(script.slept) > 30


def test_logs_are_followed(world, client):
    job = world.add()
    world.end(job["id"], "succeeded")
    assert "".join(client.jobs.follow_logs(job["id"])) == world.logs
    assert client.jobs.logs(job["id"], tail=1) == "line two\n"


@pytest.mark.parametrize("tail", [None, 3])
def test_a_broken_log_goes_on_where_it_broke(tail):
    whole = "".join(f"zeile {number} ähnlich\n" for number in range(9)).encode()
    shown = whole if tail is None else whole[whole.index(b"zeile 2") :]
    left, statuses = [whole], ["running", "running", "running", "succeeded"]

    def replies(request):
        if request.path.endswith("/logs"):
            return left[0]
        return {"id": "job_1", "status": statuses.pop(0)}

    broken = APIConnectionError("broken")
    streams = [[shown[:50], shown[50:95], broken], [whole[:10], broken], [whole[:120], whole[120:]], [whole]]
    done = Script(streams, replies).run(follow_logs("job_1", tail))
    assert "".join(done.items) == shown.decode()


def test_a_client_serves_several_threads(world, client):
    jobs = [world.add()["id"] for _ in range(8)]
    found = []
    threads = [threading.Thread(target=lambda job=job: found.append(client.jobs.get(job).id)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(jobs)
