"""An attempt while it runs: its heartbeats and its reports. Every write is refused when its fence is stale."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection, Row

from jobs.errors import Issue
from jobs.protocol import Beat, Command, Happened, Heartbeat, Report, Taken, Window
from jobs.states import Status
from service.db.queries import attempts, jobs, workers
from service.domain import artifacts, bounds, checkpoints, logs, metrics
from service.domain.callers import Caller
from service.domain.endings import DEADLINE
from service.domain.errors import Invalid, NotFound, Superseded
from service.domain.instants import microseconds
from service.domain.lifecycle import Change

ORDERS: dict[str, Command] = {
    "checkpoint": "checkpoint",
    "pause": "pause",
    "cancel": "cancel",
    "drain": "drain",
    "preempt": "pause",  # to its worker, which goes on with other jobs; this one goes back to the queue
    DEADLINE: "cancel",
}
"""A job's `command` as a beat says it."""
OURS = ("job.", "attempt.", "worker.")
"""Events that only the service may tell."""


def require_own(connection: Connection, attempt_id: str, caller: Caller) -> None:
    """Refuse who would write for an attempt that a worker of another key holds; whoever administers all may.

    Raises:
        NotFound: no such attempt of theirs.
    """
    if caller.bound_key is not None and attempts.key_of(connection, attempt_id) != caller.bound_key:
        raise NotFound("There is no such attempt.")


def renew(change: Change, attempt_id: str, beat: Heartbeat) -> Beat:
    """Take a heartbeat: the lease gets a new term, and the answer says what to do.

    Raises:
        NotFound: no such attempt.
        Superseded: the fence is stale.
    """
    lease_us = microseconds(change.context.settings.lease_seconds)
    standing = {"step": beat.step, "phase": beat.phase.value}
    workers.touch_holder(change.connection, attempt_id)
    job = attempts.renew(change.connection, attempt_id, beat.fence, standing, lease_us)
    if job is None:
        raise refusal(attempts.get(change.connection, attempt_id))
    spent = {"seconds": beat.seconds} if beat.seconds else {}
    attempts.change(change.connection, attempt_id, standing | {"last_step_at": beat.last_step_at} | spent)
    job = _watch_deadline(change, _acknowledge(change, job, beat.handled), attempt_id)
    order = job.command if job.command_sequence > beat.handled else None
    change.write.after(partial(change.context.telemetry.beat, ORDERS.get(order or "", "continue")))
    return Beat(
        command=ORDERS.get(order or "", "continue"),
        sequence=job.command_sequence,
        save=job.command_save,
        lease_seconds=change.context.settings.lease_seconds,
        profile=_wanted_profile(change, job, beat.profiled),
    )


def _wanted_profile(change: Change, job: Row[Any], profiled: int) -> Window | None:
    """The trace that is wanted; one that the attempt has heard of is wanted no more."""
    if job.profile is None or job.profile["sequence"] > profiled:
        return None if job.profile is None else Window(**job.profile)
    jobs.change(change.connection, job.id, {"profile": None})
    return None


def refusal(attempt: Row[Any] | None) -> NotFound | Superseded:
    """Why a write for this attempt, or for one that is not there, is refused."""
    if attempt is None:
        return NotFound("There is no such attempt.")
    return Superseded("This attempt no longer holds the job; end it.")


def _acknowledge(change: Change, job: Row[Any], handled: int) -> Row[Any]:
    if job.command == "checkpoint" and handled >= job.command_sequence:
        return jobs.change(change.connection, job.id, {"command": None})
    return job


def _watch_deadline(change: Change, job: Row[Any], attempt_id: str) -> Row[Any]:
    if job.timeout_seconds is None or job.status != Status.RUNNING or job.command == DEADLINE:
        return job
    if job.running_seconds + attempts.seconds_since_start(change.connection, attempt_id) <= job.timeout_seconds:
        return job
    change.tell(job.id, "job.deadline_exceeded", {"timeout_seconds": job.timeout_seconds})
    order = {"command": DEADLINE, "command_save": True, "command_sequence": job.command_sequence + 1}
    return jobs.change(change.connection, job.id, order)


def report(change: Change, attempt_id: str, batch: Report) -> Taken:
    """Take a batch of metrics, log lines, checkpoints and events. One that has been taken before changes nothing.

    Raises:
        NotFound: no such attempt.
        Superseded: the fence is stale.
        Invalid: an event that workers may not tell, or a checkpoint whose files are not there.
    """
    _refuse_our_events(batch.events)
    job, attempt = held(change, attempt_id, batch.fence)
    if batch.batch <= attempt.report_batch:
        return Taken(batch=batch.batch)
    taken = bounds.within(change, job.id, batch.series)
    metrics.store(change.connection, job.id, taken)
    if batch.logs:
        logs.append(change, job.id, attempt_id, batch.logs)
    # A checkpoint is told once it is durable, which takes a while: what else came in its batch happened before.
    for event in batch.events:
        change.tell(job.id, event.type, event.data)
    for index, committed in enumerate(batch.checkpoints):
        with _placed(f"/checkpoints/{index}"):
            checkpoints.commit(change.write, change.context, job, attempt, committed, attempt.storage == "file")
    if batch.artifacts:
        artifacts.keep(change.write, change.context, job, attempt, batch.artifacts, attempt.storage == "file")
    points = sum(len(series.steps) for series in taken)
    attempts.change(change.connection, attempt_id, {"report_batch": batch.batch, "points": attempt.points + points})
    change.write.after(partial(change.context.telemetry.points, points))
    change.wake(job.id)
    return Taken(batch=batch.batch)


@contextmanager
def _placed(pointer: str) -> Generator[None]:
    """Tell faults of a part of a body as faults of the whole: their pointers begin there."""
    try:
        yield
    except Invalid as error:
        error.issues = [replace(issue, pointer=pointer + issue.pointer) for issue in error.issues]
        raise


def _refuse_our_events(events: list[Happened]) -> None:
    issues = [
        Issue(f"/events/{index}/type", "reserved", "Only the service tells events of this name.")
        for index, event in enumerate(events)
        if event.type.startswith(OURS)
    ]
    if issues:
        raise Invalid("A worker cannot tell these events.", issues)


def held(change: Change, attempt_id: str, fence: int) -> tuple[Row[Any], Row[Any]]:
    """The job and the attempt that holds it, both locked.

    Raises:
        NotFound: no such attempt.
        Superseded: the fence is stale.
    """
    job = attempts.hold(change.connection, attempt_id, fence)
    attempt = attempts.get(change.connection, attempt_id)
    if job is None or attempt is None:
        raise refusal(attempt)
    return job, attempt
