"""The only place that changes where a job stands. Each change and the event that tells it are one transaction."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy.engine import Connection, Row

from jobs.states import TERMINAL, Phase, Status, may_become
from service.context import Context
from service.db.queries import clock, events, jobs, usage
from service.db.transaction import Write
from service.domain.callers import LOCAL
from service.domain.errors import IllegalTransition, NotFound
from service.domain.instants import day_of
from service.signals import QUEUE


class Change:
    """A change being made: its transaction, its instant by the database's clock, and what the service shares."""

    def __init__(self, write: Write, context: Context) -> None:
        self.write = write
        self.context = context
        self._now: int | None = None

    @property
    def connection(self) -> Connection:
        """The transaction's connection."""
        return self.write.connection

    @property
    def now(self) -> int:
        """The instant of the change, in microseconds since the epoch."""
        # Not a `cached_property`: until Python 3.12 all instances share its lock, which one that waits to write would hold
        # against the one that writes.
        if self._now is None:
            self._now = clock.now(self.connection)
        return self._now

    def tell(self, job_id: str, kind: str, data: dict[str, Any] | None = None) -> None:
        """Append an event to the job's, and wake who follows it once the change is committed."""
        events.append(self.connection, job_id, kind, {**(data or {}), **self._whose()})
        self.wake(job_id)

    def _whose(self) -> dict[str, Any]:
        """Under which key a person does this; nothing where a worker does, or nobody, or no keys are in use."""
        actor = self.write.actor
        return {} if actor is None or actor.key_id == LOCAL else {"key_id": actor.key_id}

    def wake(self, topic: str) -> None:
        """Wake who waits on a topic once the change is committed."""
        self.write.after(partial(self.context.signals.wake, topic))


def locked(change: Change, project: str, job_id: str) -> Row[Any]:
    """The job's row, held until the change is committed.

    Raises:
        NotFound: the project has no such job.
    """
    job = jobs.lock(change.connection, project, job_id)
    if job is None:
        raise NotFound("There is no such job.")
    return job


def move(
    change: Change, job: Row[Any], target: Status, data: dict[str, Any] | None = None, event: str | None = None, **values: Any
) -> Row[Any]:
    """Take a job from where it stands to `target`.

    Args:
        change: the change this is part of; it holds the job's row.
        job: the row as it stands.
        target: the status to come.
        data: what the event says.
        event: its type, by default `job.<target>`.
        values: columns to set beside what every such move sets.

    Returns:
        The row after it.

    Raises:
        IllegalTransition: the table of `jobs.states` has no such step.
    """
    if not may_become(Status(job.status), target):
        raise IllegalTransition(f"A job that is {job.status} cannot become {target}.", job.status)
    row = jobs.change(change.connection, job.id, {"status": target.value, **_settled(change, target), **values})
    change.tell(job.id, event or f"job.{target}", data)
    if target in TERMINAL:
        usage.add(change.connection, job.project, day_of(change.now), {f"jobs_{target.value}": 1})
    return row


def _settled(change: Change, target: Status) -> dict[str, Any]:
    """The columns that a status fixes by itself."""
    free: dict[str, Any] = {"attempt_id": None, "command": None, "phase": None, "profile": None}
    if target == Status.QUEUED:
        change.wake(QUEUE)
        return free | {"phase": Phase.WAITING_CAPACITY.value, "queued_at": change.now, "available_at": change.now}
    if target in TERMINAL:
        return free | {"finished_at": change.now}
    return free if target == Status.PAUSED else {}
