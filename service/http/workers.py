"""Workers: they register and claim; people look at them and drain them."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from jobs.ids import new_id
from jobs.protocol import Assignment, Claim, Preflight, Register, Registered
from jobs.spec.resources import DEVICE
from service.context import Context
from service.db.queries import attempts as attempt_rows
from service.db.queries import workers as rows
from service.db.queries.claims import Prospect
from service.db.transaction import Read, Write
from service.domain import control, queue, views
from service.domain.callers import BoundToProject, Caller, Scope
from service.domain.lifecycle import Change
from service.http.auth import Whoever
from service.http.body import JsonRoute
from service.http.paging import AfterWorker, Limit, Listing, WorkerId, cut
from service.http.session import Reading, Shared, Writing
from service.signals import QUEUE

router = APIRouter(route_class=JsonRoute, tags=["workers"])

Given = Assignment | Preflight


class WorkerList(Listing[views.Worker]):
    """A page of workers, newest first."""


@router.post("/v1/workers", status_code=201)
def register_worker(register: Register, response: Response, write: Writing, context: Shared, caller: Whoever) -> Registered:
    """Introduce a worker. One for each process and life. It takes its project's jobs, or everybody's if its key is such."""
    bound = {"project": caller.project, "key_id": caller.key_id, "all_projects": caller.all_projects}
    worker_id = new_id("wrk")
    row = register.model_dump(exclude={"offers"}) | {"id": worker_id, "status": "active", **bound}
    rows.add(write.connection, row, [*register.offers, f"{DEVICE}{register.device_kind}"])
    response.headers["Location"] = f"/v1/workers/{worker_id}"
    return Registered(id=worker_id, lease_seconds=context.settings.lease_seconds, probe=context.probe)


@router.get("/v1/workers")
def list_workers(read: Reading, context: Shared, caller: Whoever, limit: Limit = 20, after: AfterWorker = None) -> WorkerList:
    """List the workers that take the project's jobs, with what each owns, runs and last said."""
    page, rest = cut(rows.page(read.connection, caller.project, after, limit + 1), limit, "id")
    return WorkerList(data=views.workers(read.connection, context, page, caller.bound_project), **rest)


@router.get("/v1/workers/{worker_id}")
def get_worker(worker_id: WorkerId, read: Reading, context: Shared, caller: Whoever) -> views.Worker:
    """Read a worker: one that takes the project's jobs, or the caller's own."""
    row = rows.visible(read.connection, caller.project, worker_id) if Scope.JOBS_READ in caller.scopes else None
    row = row or queue.worker(read, caller, worker_id)
    return views.workers(read.connection, context, [row], caller.bound_project)[0]


@router.post("/v1/workers/{worker_id}/drain", status_code=202)
def drain_worker(worker_id: WorkerId, write: Writing, context: Shared, caller: Whoever) -> views.Worker:
    """Let a worker take no more work, and have it save and hand back what it runs."""
    change = Change(write, context)
    if queue.worker(change, caller, worker_id).all_projects and not caller.all_projects:
        raise BoundToProject("This worker takes everybody's jobs; only a key made with all_projects can drain it.")
    # Marked first: a claim that comes at the same time is then either refused, or among the leases that are looked at next.
    row = rows.drain(write.connection, worker_id)
    for job_id in attempt_rows.leased_by(write.connection, worker_id):
        control.drain(change, job_id)
    return views.workers(write.connection, context, [row], caller.bound_project)[0]


@dataclass(frozen=True)
class _Claimant:
    """A worker that asks for work. Its two ways of asking are whole transactions, for a thread to run."""

    context: Context
    caller: Caller
    worker_id: str
    claim: Claim

    def take(self) -> Given | None:
        """Claim."""
        began = time.perf_counter()
        with Write(self.context.database) as write:
            given = queue.claim(Change(write, self.context), self.caller, self.worker_id, self.claim)
        self.context.telemetry.claimed(
            type(given).__name__.lower() if given is not None else "nothing", time.perf_counter() - began
        )
        return given

    def look(self) -> tuple[Given | None, bool]:
        """Claim if that is worth it; also tells whether the queue has nothing for anybody."""
        with Read(self.context.database) as read:
            prospect = queue.prospect(read, self.context, self.caller, self.worker_id, self.claim)
        return (self.take() if prospect == Prospect.WORTH_A_CLAIM else None), prospect == Prospect.NOTHING

    def release(self, given: Given) -> None:
        """Take back what was claimed and could not be told."""
        with Write(self.context.database) as write:
            queue.release(Change(write, self.context), given)

    async def wait(self, request: Request) -> Given | None:
        """Claim now, else wait: for a hint that the queue has changed, and every so often without one. Waiting holds nothing."""
        clock, signals, settings = asyncio.get_running_loop().time, self.context.signals, self.context.settings
        until, heard_of_until = clock() + self.claim.wait_seconds, -math.inf
        while True:
            with signals.hearing(QUEUE) as heard:
                if clock() < heard_of_until:
                    given = await self.context.lookout.look(lambda: run_in_threadpool(self.look))
                else:  # a claim, unlike a look, is heard of: a worker that waits long must not pass for gone
                    given = await run_in_threadpool(self.take)
                    heard_of_until = clock() + settings.lease_seconds
                if given is not None or clock() >= until or signals.closing:
                    return given
                await signals.wait(QUEUE, heard, min(settings.poll_seconds, until - clock()))
            if await request.is_disconnected():
                return None


@router.post("/v1/workers/{worker_id}/claim", response_model=Given, responses={204: {"description": "Nothing to do."}})
async def claim_attempt(request: Request, worker_id: WorkerId, claim: Claim, context: Shared, caller: Whoever) -> Response:
    """Ask for an attempt, or for a spec to look at; waits for one up to `wait_seconds`."""
    claimant = _Claimant(context, caller, worker_id, claim)
    given = await claimant.wait(request)
    if given is None:
        return Response(status_code=204)
    if await request.is_disconnected():
        await run_in_threadpool(claimant.release, given)
    if isinstance(given, Assignment):
        context.tracing.note(job_id=given.job_id, attempt_id=given.attempt_id)
        given = given.model_copy(update={"request_id": request.state.request_id})
    return Response(given.model_dump_json(), media_type="application/json")
