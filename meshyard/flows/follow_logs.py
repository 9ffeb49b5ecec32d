"""Following a job's log as it grows, over connections that may break."""

from __future__ import annotations

from codecs import IncrementalDecoder, getincrementaldecoder
from dataclasses import dataclass, field, replace

from meshyard.effects import Emit, Flow, Items, Request, open_stream, read, send
from meshyard.errors import APIConnectionError, ServerError
from meshyard.flows import jobs
from meshyard.flows.patience import Patience
from meshyard.flows.requests import JobRef, get, job_path

QUIET_SECONDS = 300.0
"""A log has no pings: a job may well say nothing for minutes. After this long the connection is made anew, lest it be dead."""
RECENT_BYTES = 16_384


@dataclass
class _Log:
    """How much of a log has been told.

    Attributes:
        offset: bytes from the log's beginning; None while only its end has been asked for.
        recent: the last bytes told, to find the place again.
    """

    job: JobRef
    offset: int | None
    recent: bytes = b""
    patience: Patience = field(default_factory=Patience)
    decoder: IncrementalDecoder = field(default_factory=lambda: getincrementaldecoder("utf-8")(errors="replace"))

    def take(self, fresh: bytes) -> str:
        """New bytes as text."""
        self.patience.renew()
        self.offset = None if self.offset is None else self.offset + len(fresh)
        self.recent = (self.recent + fresh)[-RECENT_BYTES:]
        return self.decoder.decode(fresh)


def follow_logs(job: JobRef, tail: int | None = None) -> Items[str]:
    """What a job writes, as it writes it, until it has ended. A connection that breaks is made again and goes on where it broke.

    Args:
        job: the job, or its id.
        tail: begin with the last so many lines; all by default.
    """
    log, finished = _Log(job, 0 if tail is None else None), False
    while True:
        try:
            # Asked before each reading: what a job wrote is there by the time its end is seen.
            finished = finished or (yield from jobs.get_job(job)).is_finished
            log.patience.met = True
            request, skip = yield from _next_request(log, tail)
            yield from _tell(log, request, skip)
            if finished:
                return
        except (APIConnectionError, ServerError) as error:
            log.patience.bear(error)
        yield from log.patience.pause()


def _next_request(log: _Log, tail: int | None) -> Flow[tuple[Request, int]]:
    """What to ask for next, and how many bytes of the answer have been told already."""
    if log.offset is None and not log.recent:
        return get(job_path(log.job, "logs"), tail=tail, follow=True), 0
    if log.offset is None:
        whole = (yield from send(get(job_path(log.job, "logs")))).content
        log.offset = max(0, whole.rfind(log.recent)) + len(log.recent)
    return get(job_path(log.job, "logs"), follow=True), log.offset


def _tell(log: _Log, request: Request, skip: int) -> Items[str]:
    """What one request brings beyond what has been told."""
    stream = yield from open_stream(replace(request, read_seconds=QUIET_SECONDS))
    while chunk := (yield from read(stream)):
        fresh, skip = chunk[skip:], max(0, skip - len(chunk))
        if fresh:
            yield Emit(log.take(fresh))
