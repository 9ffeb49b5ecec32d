"""Workers: they register and claim; people look at them and drain them."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from jobs.ids import new_id
from jobs.protocol import Assignment, Claim, Register, Registered
from service.context import Context
from service.db.queries import attempts as attempt_rows
from service.db.queries import workers as rows
from service.db.transaction import Read, Write
from service.domain import control, queue, views
from service.domain.lifecycle import Change
from service.http.auth import Project
from service.http.body import JsonRoute
from service.http.paging import AfterWorker, Limit, Listing, WorkerId, cut
from service.http.session import Reading, Shared, Writing
from service.signals import QUEUE

router = APIRouter(route_class=JsonRoute, tags=["workers"])


class WorkerList(Listing[views.Worker]):
    """A page of workers, newest first."""


@router.post("/v1/workers", status_code=201)
def register_worker(register: Register, write: Writing, context: Shared, project: Project) -> Registered:
    """Introduce a worker. One registration for each process and life."""
    row = register.model_dump(exclude={"offers"}) | {"id": new_id("wrk"), "project": project, "status": "active"}
    rows.add(write.connection, row, register.offers)
    return Registered(id=row["id"], lease_seconds=context.settings.lease_seconds, probe=context.probe)


@router.get("/v1/workers")
def list_workers(read: Reading, context: Shared, project: Project, limit: Limit = 20, after: AfterWorker = None) -> WorkerList:
    """List workers with what each owns, runs and last said."""
    page, rest = cut(rows.page(read.connection, project, after, limit + 1), limit, "id")
    return WorkerList(data=views.workers(read.connection, context, page), **rest)


@router.get("/v1/workers/{worker_id}")
def get_worker(worker_id: WorkerId, read: Reading, context: Shared, project: Project) -> views.Worker:
    """Read a worker."""
    return views.workers(read.connection, context, [queue.worker(read, project, worker_id)])[0]


@router.post("/v1/workers/{worker_id}/drain", status_code=202)
def drain_worker(worker_id: WorkerId, write: Writing, context: Shared, project: Project) -> views.Worker:
    """Let a worker take no more work, and have it save and hand back what it runs."""
    change = Change(write, context)
    queue.worker(change, project, worker_id)
    # Marked first: a claim that comes at the same time is then either refused, or among the leases that are looked at next.
    row = rows.drain(write.connection, worker_id)
    for job_id in attempt_rows.leased_by(write.connection, worker_id):
        control.drain(change, job_id)
    return views.workers(write.connection, context, [row])[0]


@router.post("/v1/workers/{worker_id}/claim", response_model=Assignment, responses={204: {"description": "Nothing to do."}})
async def claim_attempt(request: Request, worker_id: WorkerId, claim: Claim, context: Shared, project: Project) -> Response:
    """Ask for an attempt; waits for one up to `wait_seconds`."""
    given = await _claim(request, context, project, worker_id, claim)
    if given is None:
        return Response(status_code=204)
    if await request.is_disconnected():
        await run_in_threadpool(_release, context, given)
    return Response(given.model_dump_json(), media_type="application/json")


async def _claim(request: Request, context: Context, project: str, worker_id: str, claim: Claim) -> Assignment | None:
    """Claim now, else wait: for a hint that the queue has changed, and every so often without one. Waiting holds nothing."""
    loop = asyncio.get_running_loop()
    until = loop.time() + claim.wait_seconds
    attempt, silent_from = _try, loop.time() + context.settings.lease_seconds
    while True:
        with context.signals.hearing(QUEUE) as heard:
            given = await run_in_threadpool(attempt, context, project, worker_id, claim)
            if given is not None or loop.time() >= until or context.signals.closing:
                return given
            await context.signals.wait(QUEUE, heard, min(context.settings.poll_seconds, until - loop.time()))
        if await request.is_disconnected():
            return None
        # Looking only reads, so that many who wait do not queue up as writers; but one who waits long must not pass for gone.
        attempt = _look
        if loop.time() >= silent_from:
            attempt, silent_from = _try, loop.time() + context.settings.lease_seconds


def _look(context: Context, project: str, worker_id: str, claim: Claim) -> Assignment | None:
    with Read(context.database) as read:
        worth = queue.worth_trying(read, project, worker_id, claim)
    return _try(context, project, worker_id, claim) if worth else None


def _try(context: Context, project: str, worker_id: str, claim: Claim) -> Assignment | None:
    with Write(context.database) as write:
        return queue.claim(Change(write, context), project, worker_id, claim)


def _release(context: Context, given: Assignment) -> None:
    with Write(context.database) as write:
        queue.release(Change(write, context), given)
