"""Following a job: its events and live metrics as server-sent events.

Only events of the job bear an `id`, so a reader that comes back with `Last-Event-ID` gets each of them once. Metrics are told from
the moment of connecting; `GET …/metrics` has those before.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BeforeValidator, Field
from sqlalchemy.engine import Row

from jobs.states import TERMINAL, Status
from service.context import Context
from service.db.queries import events, jobs, stream
from service.domain import metrics, views
from service.domain.errors import NotFound
from service.domain.room import require_seat, seated
from service.http.access import GuardedRoute
from service.http.auth import OpenStream, Project
from service.http.paging import LARGEST, JobId
from service.http.session import Shared

router = APIRouter(route_class=GuardedRoute, tags=["jobs"])

EVENTS_AT_ONCE = 500


@dataclass(frozen=True)
class Place:
    """How far a reader has come: the last event and the last chunk of metrics it has seen."""

    seq: int
    chunk: int


@dataclass(frozen=True)
class News:
    """What is new since a place, all of one moment. `status` is None once the job has been deleted."""

    status: Status | None
    events: list[Row[Any]]
    chunks: list[dict[str, Any]]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is new."""
        return not self.events and not self.chunks

    def place_after(self, place: Place) -> Place:
        """Where a reader is who has seen this."""
        seq = self.events[-1].seq if self.events else place.seq
        return Place(seq, self.chunks[-1]["id"] if self.chunks else place.chunk)


def _start(job_id: JobId, context: Shared, project: Project) -> Place:
    # A dependency, and not the first lines of the stream: the reply's status must still be open.
    with context.database.read() as connection:
        if not jobs.exists_in(connection, project, job_id):
            raise NotFound("There is no such job.")
        require_seat(context)
        return Place(0, stream.newest_chunk(connection, job_id))


def _given(value: str | None) -> str | None:
    # An empty id is what a reader sends that has seen none.
    return value or None


Seen = Annotated[Annotated[int, Field(ge=0, lt=LARGEST)] | None, BeforeValidator(_given)]
SeenHeader = Annotated[Seen, Header(alias="Last-Event-ID", description="`id` of the last event seen.")]
SeenParameter = Annotated[Seen, Query(description="The same, for readers that cannot set headers.")]


@router.get("/v1/jobs/{job_id}/stream", response_class=EventSourceResponse, dependencies=[OpenStream])
async def stream_job(
    job_id: JobId,
    context: Shared,
    start: Annotated[Place, Depends(_start)],
    seen: SeenHeader = None,
    last_event_id: SeenParameter = None,
) -> AsyncIterator[ServerSentEvent]:
    """Follow a job's events and metrics until it has ended. The last event is `end`; a stream that ends without it was cut."""
    place = Place(seen if seen is not None else last_event_id or 0, start.chunk)
    with seated(context):
        async for event in _follow(context, job_id, place):
            yield event


async def _follow(context: Context, job_id: str, place: Place) -> AsyncGenerator[ServerSentEvent]:
    while not context.signals.closing:
        with context.signals.hearing(job_id) as heard:
            news = await run_in_threadpool(_read, context, job_id, place)
            for event in _tell(news):
                yield event
            place = news.place_after(place)
            if not news.is_empty:
                continue  # there may be more than was read at once
            if news.status is None:
                return
            if news.status in TERMINAL:
                yield ServerSentEvent(event="end", raw_data=orjson.dumps({"status": news.status}).decode())
                return
            await context.signals.wait(job_id, heard, context.settings.poll_seconds)


def _read(context: Context, job_id: str, place: Place) -> News:
    with context.database.read() as connection:
        status = jobs.status_of(connection, job_id)
        fresh = events.after(connection, job_id, place.seq, EVENTS_AT_ONCE)
        chunks = metrics.chunks_since(connection, job_id, place.chunk)
    return News(None if status is None else Status(status), fresh, chunks)


def _tell(news: News) -> list[ServerSentEvent]:
    told = [ServerSentEvent(event=row.type, id=str(row.seq), raw_data=views.event(row).model_dump_json()) for row in news.events]
    if news.chunks:
        series = [{key: value for key, value in chunk.items() if key != "id"} for chunk in news.chunks]
        told.append(ServerSentEvent(event="metrics", raw_data=orjson.dumps({"object": "metrics", "series": series}).decode()))
    return told
