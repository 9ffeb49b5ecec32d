"""The claim: one statement that finds the best queued job for a worker and takes it."""

from __future__ import annotations

from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, or_, select, update
from sqlalchemy.engine import Connection, Row

from service.db.engine import now_us
from service.db.queries.jobs import QUEUED
from service.db.queries.workers import serves
from service.db.tables import job_needs, jobs, leases, worker_offers

waiting = jobs.alias("waiting")


def _unmet(worker_id: str) -> ColumnElement[bool]:
    """Whether the job has a need that the worker does not offer (relational division)."""
    offered = exists().where(worker_offers.c.worker_id == worker_id, worker_offers.c.offer == job_needs.c.need)
    return exists().where(job_needs.c.job_id == waiting.c.id, ~offered)


def _best(worker: Row[Any], devices: int) -> Select[tuple[str]]:
    suited = (
        serves(worker, waiting.c.project),
        waiting.c.devices <= devices,
        waiting.c.memory_bytes <= worker.memory_bytes,
        or_(waiting.c.platform == "any", waiting.c.platform == worker.platform),
        ~_unmet(worker.id),
    )
    ready = (waiting.c.status == QUEUED, waiting.c.available_at <= now_us())
    return select(waiting.c.id).where(*ready, *suited).order_by(waiting.c.priority.desc(), waiting.c.id).limit(1)


class Prospect(Enum):
    """What a look at the queue promises to a worker that waits."""

    NOTHING = "nothing for anybody"
    NOT_NOW = "nothing for this one just now"
    WORTH_A_CLAIM = "worth a claim"


def prospect(connection: Connection, worker: Row[Any], devices: int) -> Prospect:
    """What a claim would be likely to give: a job that suits the worker, or one whose lease is over. Reads only."""
    over = select(leases.c.attempt_id).where(leases.c.expires_at < now_us()).limit(1)
    if connection.execute(over).first() is not None:
        return Prospect.WORTH_A_CLAIM
    if connection.execute(select(waiting.c.id).where(waiting.c.status == QUEUED).limit(1)).first() is None:
        return Prospect.NOTHING
    suited = connection.execute(_best(worker, devices)).first() is not None
    return Prospect.WORTH_A_CLAIM if suited else Prospect.NOT_NOW


def take(connection: Connection, worker: Row[Any], devices: int, attempt_id: str, now: int) -> Row[Any] | None:
    """Take the best queued job that this worker can run on `devices` devices.

    Args:
        connection: a write transaction.
        worker: the worker's row.
        devices: how many of its devices are free.
        attempt_id: id of the attempt that the claim begins.
        now: the instant of it.

    Returns:
        The job's row after it, with its new fence; None if there is no such job.
    """
    best = _best(worker, devices).with_for_update(of=waiting, skip_locked=True).scalar_subquery()
    values = {
        "status": "running",
        "phase": "assigned",
        "attempt_id": attempt_id,
        "fence": jobs.c.fence + 1,
        "attempts": jobs.c.attempts + 1,
        "started_at": func.coalesce(jobs.c.started_at, now),
        "command": None,
    }
    statement = update(jobs).where(jobs.c.id == best, jobs.c.status == QUEUED).values(**values).returning(*jobs.c)
    return connection.execute(statement).one_or_none()
