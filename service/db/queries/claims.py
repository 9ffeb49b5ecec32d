"""The claim: one statement that finds the next queued job for a worker and takes it."""

from __future__ import annotations

from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, or_, select, update
from sqlalchemy.engine import Connection, Row

from service.db.engine import now_us
from service.db.queries.jobs import QUEUED
from service.db.tables import job_needs, jobs, leases, worker_offers

waiting = jobs.alias("waiting")


def _unmet(worker_id: str) -> ColumnElement[bool]:
    """Whether the job has a need that the worker does not offer (relational division)."""
    offered = exists().where(worker_offers.c.worker_id == worker_id, worker_offers.c.offer == job_needs.c.need)
    return exists().where(job_needs.c.job_id == waiting.c.id, ~offered)


def _next(worker: Row[Any], project: str, devices: int) -> Select[Any]:
    suited = (
        waiting.c.project == project,
        waiting.c.devices <= devices,
        waiting.c.memory_bytes <= worker.memory_bytes,
        or_(waiting.c.platform == "any", waiting.c.platform == worker.platform),
        ~_unmet(worker.id),
    )
    ready = (waiting.c.status == QUEUED, waiting.c.available_at <= now_us())
    return select(waiting.c.id).where(*ready, *suited).order_by(waiting.c.turn, waiting.c.id).limit(1)


class Prospect(Enum):
    """What a look at the queue promises to a worker that waits."""

    NOTHING = "nothing for anybody"
    NOT_NOW = "nothing for this one just now"
    WORTH_A_CLAIM = "worth a claim"


def lease_over(connection: Connection) -> bool:
    """Whether an attempt's lease has run out."""
    over = select(leases.c.attempt_id).where(leases.c.expires_at < now_us()).limit(1)
    return connection.execute(over).first() is not None


def any_queued(connection: Connection) -> bool:
    """Whether any job is queued."""
    return connection.execute(select(waiting.c.id).where(waiting.c.status == QUEUED).limit(1)).first() is not None


def first(connection: Connection, worker: Row[Any], project: str, devices: int) -> Row[Any] | None:
    """The next queued job of a project (`id`, `devices`, `turn`, `queued_at`) that a worker can run on so many devices."""
    columns: list[ColumnElement[Any]] = [waiting.c[name] for name in ("id", "devices", "turn", "queued_at")]
    return connection.execute(_next(worker, project, devices).with_only_columns(*columns)).one_or_none()


def take(connection: Connection, worker: Row[Any], project: str, devices: int, attempt_id: str, now: int) -> Row[Any] | None:
    """Take the next queued job of a project that this worker can run on `devices` devices.

    Args:
        connection: a write transaction.
        worker: the worker's row.
        project: whose job.
        devices: how many of its devices the job may have.
        attempt_id: id of the attempt that the claim begins.
        now: the instant of it.

    Returns:
        The job's row after it, with its new fence; None if there is no such job.
    """
    best = _next(worker, project, devices).with_for_update(of=waiting, skip_locked=True).scalar_subquery()
    return _taken(connection, jobs.c.id == best, attempt_id, now)


def take_this(connection: Connection, job_id: str, attempt_id: str, now: int) -> Row[Any] | None:
    """Take this very job; None if it is not ready any more."""
    return _taken(connection, (jobs.c.id == job_id) & (jobs.c.available_at <= now_us()), attempt_id, now)


def _taken(connection: Connection, which: ColumnElement[bool], attempt_id: str, now: int) -> Row[Any] | None:
    values = {
        "status": "running",
        "phase": "assigned",
        "attempt_id": attempt_id,
        "fence": jobs.c.fence + 1,
        "attempts": jobs.c.attempts + 1,
        "started_at": func.coalesce(jobs.c.started_at, now),
        "command": None,
    }
    statement = update(jobs).where(which, jobs.c.status == QUEUED).values(**values).returning(*jobs.c)
    return connection.execute(statement).one_or_none()
