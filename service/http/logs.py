"""A job's log, whole, from its end, or as it grows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, StreamingResponse

from service.context import Context
from service.db.transaction import Read
from service.domain import logs
from service.domain.errors import NotFound
from service.domain.logs import Piece
from service.domain.room import require_seat, seated
from service.http.access import GuardedRoute
from service.http.auth import Project, open_stream
from service.http.paging import JobId
from service.http.session import Shared

router = APIRouter(route_class=GuardedRoute, tags=["logs"])

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
Tail = Annotated[int | None, Query(ge=0, le=1_000_000, description="Only so many of the last lines.")]
Follow = Annotated[bool, Query(description="Go on with what is still written, until the job has ended.")]


async def _counted(request: Request, *, follow: Follow = False) -> AsyncGenerator[None]:
    async with asynccontextmanager(open_stream)(request) if follow else nullcontext():
        yield


@router.get(
    "/v1/jobs/{job_id}/logs",
    dependencies=[Depends(_counted)],
    response_class=PlainTextResponse,
    responses={200: {"description": "What the job's attempts wrote.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def get_logs(
    request: Request, job_id: JobId, context: Shared, project: Project, *, tail: Tail = None, follow: Follow = False
) -> StreamingResponse:
    """Read what a job's attempts wrote to their standard output and error."""
    first = await run_in_threadpool(_first, context, project, job_id, tail)
    if follow:
        require_seat(context)
    content = _stream(request, context, project, job_id, first, follow=follow)
    return StreamingResponse(content, media_type="text/plain; charset=utf-8", headers=HEADERS)


def _first(context: Context, project: str, job_id: str, tail: int | None) -> Piece:
    with Read(context.database) as read:
        if tail is None:
            return logs.read(read.connection, project, job_id, logs.START)
        return logs.tail(read.connection, project, job_id, tail)


def _next(context: Context, project: str, job_id: str, after: int) -> Piece | None:
    with Read(context.database) as read:
        try:
            return logs.read(read.connection, project, job_id, after)
        except NotFound:  # deleted meanwhile
            return None


async def _stream(
    request: Request, context: Context, project: str, job_id: str, piece: Piece | None, *, follow: bool
) -> AsyncIterator[str]:
    """The log from `piece` on. Waiting holds neither a thread nor a connection."""
    with seated(context) if follow else nullcontext():
        async for text in _pieces(request, context, project, job_id, piece, follow=follow):
            yield text


async def _pieces(
    request: Request, context: Context, project: str, job_id: str, piece: Piece | None, *, follow: bool
) -> AsyncIterator[str]:
    while piece is not None:
        if piece.text:
            yield piece.text
        if piece.more:
            piece = await run_in_threadpool(_next, context, project, job_id, piece.after)
        elif not follow or piece.ended:
            return
        else:
            piece = await _awaited(request, context, project, job_id, piece.after)


async def _awaited(request: Request, context: Context, project: str, job_id: str, after: int) -> Piece | None:
    """What comes next, once it has come, or word that the job has ended; None when nobody listens any more."""
    while not context.signals.closing and not await request.is_disconnected():
        with context.signals.hearing(job_id) as heard:
            piece = await run_in_threadpool(_next, context, project, job_id, after)
            if piece is None or piece.text or piece.ended:
                return piece
            await context.signals.wait(job_id, heard, context.settings.poll_seconds)
    return None
