"""Claiming: from a queued job to an attempt with a lease, in one transaction."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy.engine import Row

from jobs.protocol import Assignment, Claim, Failure, FileStorage, HttpStorage, Preflight, Resume
from jobs.states import Phase, Status
from service.context import Context
from service.db.queries import attempts, claims, clock, jobs, workers
from service.db.queries import preflights as preflight_rows
from service.db.queries.claims import Prospect
from service.db.transaction import Read
from service.domain import checkpoints, preflights, room, scheduling
from service.domain.assignment import assignment, first_step, mesh_axes_of, storage_of
from service.domain.attempts import held
from service.domain.callers import Caller
from service.domain.conclusion import Told, end
from service.domain.endings import error_of
from service.domain.errors import NotFound
from service.domain.instants import MICROSECONDS, microseconds
from service.domain.lifecycle import Change, move
from service.domain.scheduling import Taken
from service.domain.sweeper import sweep

SOURCE_LOST = Failure(
    code="checkpoint_corrupt",
    message="The checkpoint that this job starts from is gone or damaged. Name another in init_from.",
    param="/init_from",
)


def worker(change: Change | Read, caller: Caller, worker_id: str) -> Row[Any]:
    """The row of a worker that the caller may act for.

    Raises:
        NotFound: there is none of their key.
    """
    row = workers.get(change.connection, caller.project, worker_id, caller.worker_key)
    if row is None:
        raise NotFound("There is no such worker.")
    return row


def prospect(read: Read, context: Context, caller: Caller, worker_id: str, request: Claim) -> Prospect:
    """What a claim would be likely to give. Writes nothing, so that those who wait do not stand in the writers' way.

    Raises:
        NotFound: the caller has no such worker.
    """
    row = worker(read, caller, worker_id)
    if row.status != "active":
        return Prospect.NOT_NOW
    if preflights.waits_for(read.connection, context, row, request, clock.now(read.connection)):
        return Prospect.WORTH_A_CLAIM
    if claims.lease_over(read.connection):
        return Prospect.WORTH_A_CLAIM
    if not claims.any_queued(read.connection):
        return Prospect.NOT_NOW if preflight_rows.any_waiting(read.connection) else Prospect.NOTHING
    if room.is_low(context):
        return Prospect.NOT_NOW
    takes = "attempt" in request.takes and scheduling.would_take(read, row, request.devices, clock.now(read.connection))
    return Prospect.WORTH_A_CLAIM if takes else Prospect.NOT_NOW


def claim(change: Change, caller: Caller, worker_id: str, request: Claim) -> Assignment | Preflight | None:
    """Take a validation that waits, else the best queued job that the worker can run; None if there is nothing, or it is draining.

    No job begins where there is little room for what it will write: those that run may need it.

    Raises:
        NotFound: the caller has no such worker.
    """
    row = workers.touch(change.connection, caller.project, worker_id, caller.worker_key)
    if row is None:
        raise NotFound("There is no such worker.")
    if row.status != "active":
        return None
    sweep(change)
    asked = preflights.take(change, row, request)
    if asked is not None or "attempt" not in request.takes or room.is_low(change.context):
        return asked
    while (taken := scheduling.take(change, row, request.devices)) is not None:
        try:
            point = checkpoints.resume_point(change.connection, taken.job)
        except NotFound:
            _fail(change, taken.job)
            continue
        return _begin(change, taken, row, point, storage_of(change.context, request.probe_token))
    return None


def _begin(change: Change, taken: Taken, worker: Row[Any], point: Resume | None, storage: FileStorage | HttpStorage) -> Assignment:
    job = taken.job
    attempt: dict[str, Any] = {
        "id": job.attempt_id,
        "job_id": job.id,
        "key_id": worker.key_id,
        "number": job.attempts,
        "fence": job.fence,
        "mesh_axes": mesh_axes_of(job.resolved_spec, taken.devices),
        "storage": storage.type,
        "resumed_from": first_step(point),
        "phase": Phase.ASSIGNED.value,
        "step": first_step(point) or 0,
        "started_at": change.now,
    }
    given = assignment(change.context, change.connection, job, attempt, point, storage)
    given = given.model_copy(update={"traceparent": job.traceparent})  # a preflight, which is given the same, has none
    lease_us = microseconds(change.context.settings.lease_seconds)
    attempts.start(change.connection, attempt, job.project, worker.id, given.devices, lease_us)
    jobs.change(change.connection, job.id, {"step": attempt["step"]})
    told = {key: attempt[key] for key in ("number", "fence", "mesh_axes", "resumed_from")}
    change.write.after(partial(change.context.telemetry.started, (change.now - job.queued_at) / MICROSECONDS))
    change.tell(job.id, "attempt.started", {"attempt_id": job.attempt_id, "worker_id": worker.id, **told})
    return given


def _fail(change: Change, job: Row[Any]) -> None:
    error = error_of(SOURCE_LOST, None)
    move(change, job, Status.FAILED, {"error": error}, error=error, attempts=job.attempts - 1)


def release(change: Change, given: Assignment | Preflight) -> None:
    """Take back a claim whose worker had hung up before it could hear of it."""
    if isinstance(given, Preflight):
        preflights.release(change, given)
        return
    job, attempt = held(change, given.attempt_id, given.fence)
    end(change, job, attempt, Told("released", attempt.step))
