"""What a user may do to a job that is there: cancel, pause, resume, checkpoint, change, delete."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from sqlalchemy.engine import Row

from jobs.ids import new_id
from jobs.states import TERMINAL, Status
from service.db.queries import events, jobs, outbox
from service.domain import fairness
from service.domain.errors import Conflict, IllegalTransition
from service.domain.lifecycle import Change, locked, move
from service.signals import QUEUE

RESUMED = "job.resumed"


def _order(job: Row[Any], command: str, *, save: bool) -> dict[str, Any]:
    """Columns that put a command before the attempt; a new sequence number makes it heard once more."""
    return {"command": command, "command_save": save, "command_sequence": job.command_sequence + 1}


def cancel(change: Change, project: str, job_id: str, *, save: bool) -> Row[Any]:
    """Cancel a job; with `save`, an attempt that is running keeps a last checkpoint first. Asking again changes nothing.

    Raises:
        NotFound: no such job.
        IllegalTransition: it has succeeded or failed.
    """
    job = locked(change, project, job_id)
    if job.status in (Status.CANCELLING, Status.CANCELLED):
        return job
    job = move(change, job, Status.CANCELLING, {"checkpoint": save}, **_order(job, "cancel", save=save))
    return job if job.attempt_id else move(change, job, Status.CANCELLED)


def pause(change: Change, project: str, job_id: str, *, save: bool) -> Row[Any]:
    """Pause a job; with `save`, an attempt that is running keeps a last checkpoint first. Asking again changes nothing.

    Raises:
        NotFound: no such job.
        IllegalTransition: it is being cancelled, or has ended.
    """
    job = locked(change, project, job_id)
    if job.status in (Status.PAUSING, Status.PAUSED):
        return job
    job = move(change, job, Status.PAUSING, {"checkpoint": save}, **_order(job, "pause", save=save))
    return job if job.attempt_id else move(change, job, Status.PAUSED)


def resume(change: Change, project: str, job_id: str) -> Row[Any]:
    """Put a paused job back into the queue. Asking again changes nothing, until it ends.

    Raises:
        NotFound: no such job.
        IllegalTransition: it is not paused, nor has been resumed before.
    """
    job = locked(change, project, job_id)
    if job.status in (Status.QUEUED, Status.RUNNING) and events.has(change.connection, job_id, RESUMED):
        return job
    if job.status != Status.PAUSED:
        raise IllegalTransition(f"Only a paused job can be resumed; this one is {job.status}.", job.status)
    change.tell(job_id, RESUMED)
    # It takes its place at the end of the queue: while it was paused nobody could claim it.
    return move(change, job, Status.QUEUED, turn=fairness.turn(change.context, change.now, job.priority))


def checkpoint(change: Change, project: str, job_id: str) -> Row[Any]:
    """Ask the running attempt for a checkpoint now. Asking again before it is taken changes nothing.

    Raises:
        NotFound: no such job.
        IllegalTransition: it is not running.
    """
    job = locked(change, project, job_id)
    if job.status != Status.RUNNING:
        raise IllegalTransition(f"Only a running job can save a checkpoint; this one is {job.status}.", job.status)
    if job.command is not None:  # one is on its way already, or the job is about to stop and will save one
        return job
    change.tell(job_id, "checkpoint.requested")
    return jobs.change(change.connection, job_id, _order(job, "checkpoint", save=True))


def profile(change: Change, project: str, job_id: str, num_steps: int, *, memory: bool) -> Row[Any]:
    """Ask the running attempt to trace its next steps. Asking again before it has begun changes nothing.

    Args:
        change: the change this is part of.
        project: the caller's.
        job_id: the job.
        num_steps: how many steps, or transitions of every chain.
        memory: whether to say too what lies in the devices' memory.

    Raises:
        NotFound: no such job.
        IllegalTransition: it is not running.
    """
    job = locked(change, project, job_id)
    if job.status != Status.RUNNING:
        raise IllegalTransition(f"Only a running job can be traced; this one is {job.status}.", job.status)
    if job.profile is not None:
        return job
    change.tell(job_id, "profile.requested", {"num_steps": num_steps, "memory": memory})
    # The instant is a sequence that only goes up, whichever attempt hears it.
    return jobs.change(change.connection, job_id, {"profile": {"sequence": change.now, "num_steps": num_steps, "memory": memory}})


def drain(change: Change, job_id: str) -> None:
    """Ask the attempt of a running job to save and hand the job back, because its worker is going."""
    job = jobs.lock(change.connection, None, job_id)
    if job is not None and job.status == Status.RUNNING and job.command in (None, "checkpoint"):
        jobs.change(change.connection, job_id, _order(job, "drain", save=True))
        change.wake(job_id)


def preempt(change: Change, job_id: str, for_job: str) -> bool:
    """Ask the attempt of a running job to save and make room for another; tells whether it can be asked."""
    job = jobs.lock(change.connection, None, job_id)
    if job is None or job.status != Status.RUNNING or job.command not in (None, "checkpoint"):
        return False
    change.tell(job_id, "job.preempting", {"for": for_job})
    jobs.change(change.connection, job_id, _order(job, "preempt", save=True))
    return True


def patch(change: Change, project: str, job_id: str, fields: Mapping[str, Any]) -> Row[Any]:
    """Change a job's `name`, `metadata` (as a whole) or `priority`.

    Raises:
        NotFound: no such job.
    """
    job = locked(change, project, job_id)
    if not fields:
        return job
    if "metadata" in fields:
        jobs.relabel(change.connection, job_id, fields["metadata"])
    change.tell(job_id, "job.updated", {"fields": sorted(fields)})
    change.wake(QUEUE)
    moved = {"turn": fairness.turn_with(change.context, job.turn, job.priority, fields["priority"])} if "priority" in fields else {}
    return jobs.change(change.connection, job_id, {**fields, **moved})


def delete(change: Change, project: str, job_id: str) -> None:
    """Delete a job that has ended, its artifacts with it.

    Raises:
        NotFound: no such job.
        IllegalTransition: it has not ended.
        Conflict: a job that has not ended starts from one of its checkpoints.
    """
    job = locked(change, project, job_id)
    if Status(job.status) not in TERMINAL:
        raise IllegalTransition(f"Only a job that has ended can be deleted; this one is {job.status}.", job.status)
    reader = jobs.live_reader_of(change.connection, job_id)
    if reader is not None:
        raise Conflict(f"The job {reader} starts from a checkpoint of this one and has not ended.")
    jobs.remove(change.connection, job_id)
    # Its own events go with it; whoever listens to the project's is told all the same.
    told = {"job_id": job_id, "project": project, "details": {"status": job.status}}
    outbox.post(change.connection, project, outbox.Message(new_id("evt"), "job.deleted", change.now, told))
    change.write.after(partial(change.context.store.delete, f"jobs/{job_id}"))
    change.wake(job_id)
