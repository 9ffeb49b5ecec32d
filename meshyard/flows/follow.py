"""Following a job as it runs: events and metrics over a stream that may break, and over plain requests if it stays mute."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from meshyard.effects import Close, Emit, Flow, Items, Request, Sleep, Stream, open_stream, read
from meshyard.errors import APIConnectionError, APIResponseError, APITimeoutError, ServerError
from meshyard.flows import jobs
from meshyard.flows.patience import Patience
from meshyard.flows.requests import JobRef, fetch_list, job_path
from meshyard.models import Event, Metrics, Series
from meshyard.sse import Frame, Parser

MUTE_SECONDS = 40.0
"""The service pings every 15 s; a stream that is silent for longer is dead, or something in between holds its bytes back."""
POLL_SECONDS = 2.0
FIRST_POINTS = 1000
"""At most so many points of each series from before the watch began, minima and maxima kept."""

Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass
class _Watch:
    """Where a watcher stands.

    Attributes:
        seq: the last event told.
        steps: the last step told of each series.
        floor: steps that catching up has told, and that the stream may bring once more.
    """

    job: JobRef
    seq: int
    steps: dict[Key, int] = field(default_factory=dict[Key, int])
    floor: dict[Key, int] = field(default_factory=dict[Key, int])
    ended: bool = False
    polling: bool = False
    patience: Patience = field(default_factory=Patience)

    def note(self, metrics: Metrics) -> None:
        """Remember how far each series has come."""
        self.steps |= {series.key: series.steps[-1] for series in metrics.series if series.steps}


def _behind(metrics: Metrics, known: dict[Key, int]) -> Metrics:
    """Only the points that come behind the known ones."""
    fresh = [_after(series, known.get(series.key, -1)) for series in metrics.series]
    return metrics.model_copy(update={"series": [series for series in fresh if series.steps]})


def _after(series: Series, step: int) -> Series:
    kept = [index for index, candidate in enumerate(series.steps) if candidate > step]
    columns = {"steps": [series.steps[index] for index in kept], "values": [series.values[index] for index in kept]}
    return series.model_copy(update={**columns, "nonfinite": [item for item in series.nonfinite if item.step > step]})


def watch(job: JobRef, *, after: int = 0) -> Items[Event | Metrics]:
    """What happens to a job, as it happens, until it has ended.

    A connection that breaks is made again and goes on where it broke: no event is lost or comes twice. If the stream stays mute (a
    proxy that holds it back), plain requests take its place. Metrics from before the watch come first, thinned if they are many.

    Args:
        job: the job, or its id.
        after: leave out events up to this `seq`; 0 begins with the first.
    """
    state = _Watch(job, after)
    while not state.ended:
        try:
            yield from _poll(state) if state.polling else _listen(state)
        except (APIConnectionError, ServerError) as error:
            state.patience.bear(error)
        if not state.ended:
            yield from state.patience.pause()


def _listen(state: _Watch) -> Items[Event | Metrics]:
    """One connection, from its opening to its end."""
    stream = yield from open_stream(_stream_request(state))
    yield from _catch_up(state)
    parser, state.patience.met = Parser(), True
    while not state.ended:
        chunk = yield from _hear(state, stream, parser)
        for frame in parser.feed(chunk):
            yield from _take(state, frame)
        if not chunk:
            break
        if parser.lines:
            state.patience.renew()
    yield Close(stream)


def _hear(state: _Watch, stream: Stream, parser: Parser) -> Flow[bytes]:
    try:
        return (yield from read(stream))
    except APITimeoutError:
        # Not one ping since it was opened: something in between holds the bytes back, and would the next time.
        state.polling = not parser.lines
        raise


def _stream_request(state: _Watch) -> Request:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(state.seq)}
    return Request("GET", job_path(state.job, "stream"), headers=headers, read_seconds=MUTE_SECONDS)


def _take(state: _Watch, frame: Frame) -> Items[Event | Metrics]:
    if frame.event == "end":
        state.ended = True
    elif frame.event == "metrics":
        metrics = _behind(_read_frame(Metrics, frame), state.floor)
        state.note(metrics)
        state.floor = {key: step for key, step in state.floor.items() if state.steps.get(key, -1) <= step}
        if metrics.series:
            yield Emit(metrics)
    elif frame.id is not None:
        yield from _tell(state, _read_frame(Event, frame))


def _tell(state: _Watch, event: Event) -> Items[Event]:
    if event.seq > state.seq:
        state.seq = event.seq
        if event.type == "attempt.started" and event.data.get("number") != 1:
            state.floor.clear()  # it may have gone back to a checkpoint: older steps are new again
        yield Emit(event)


def _read_frame(model: type[Any], frame: Frame) -> Any:
    try:
        return model.model_validate(json.loads(frame.data))
    except (ValueError, ValidationError):
        raise APIResponseError(f"the stream holds something that is not {model.__name__}") from None


def _catch_up(state: _Watch) -> Items[Metrics]:
    """The points that were reported while no connection stood: a stream begins with what comes after its opening."""
    behind = min(state.steps.values(), default=-1) + 1
    most = None if state.steps else FIRST_POINTS
    metrics = _behind((yield from jobs.metrics(state.job, from_step=behind, max_points=most)), state.steps)
    state.note(metrics)
    state.floor = dict(state.steps)
    if metrics.series:
        yield Emit(metrics)


def _poll(state: _Watch) -> Items[Event | Metrics]:
    # The job is read first: an event that ends it is written with its status, so it cannot fall behind the events read next.
    job = yield from jobs.get_job(state.job)
    for event in (yield from fetch_list(Event, job_path(state.job, "events"), after=str(state.seq))):
        yield from _tell(state, event)
    yield from _catch_up(state)
    state.ended = job.is_finished
    state.patience.renew()
    if not state.ended:
        yield Sleep(POLL_SECONDS)
