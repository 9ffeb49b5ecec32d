"""Workers whose devices are kept for a job."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, select
from sqlalchemy.engine import Connection, Row

from service.db.engine import insert_once
from service.db.queries.jobs import QUEUED
from service.db.tables import attempts, jobs, leases, reservations, workers


def of_worker(connection: Connection, worker_id: str) -> Row[Any] | None:
    """`job_id`, `made_at` and `devices` of the job that the worker is kept for, as long as that job is queued."""
    columns: list[ColumnElement[Any]] = [
        *(reservations.c[name] for name in ("job_id", "made_at")),
        *(jobs.c[name] for name in ("devices", "project", "available_at")),
    ]
    query = select(*columns)
    query = query.join(jobs, jobs.c.id == reservations.c.job_id)
    return connection.execute(query.where(reservations.c.worker_id == worker_id, jobs.c.status == QUEUED)).one_or_none()


def of_job(connection: Connection, job_id: str, seen_since: int) -> str | None:
    """The worker that is kept for a job, if it is there and takes work."""
    query = select(reservations.c.worker_id).join(workers, workers.c.id == reservations.c.worker_id)
    there = (reservations.c.job_id == job_id, workers.c.status == "active", workers.c.seen_at >= seen_since)
    return connection.execute(query.where(*there).limit(1)).scalar_one_or_none()


def all_of(connection: Connection) -> dict[str, str]:
    """For which job each reserved worker is kept."""
    # Not a join: without statistics SQLite would walk all queued jobs for it.
    query = select(reservations.c.worker_id, reservations.c.job_id).where(_waits(reservations.c.job_id))
    return {row.worker_id: row.job_id for row in connection.execute(query)}


def make(connection: Connection, worker_id: str, job_id: str, now: int) -> None:
    """Keep a worker for a job, and no other one."""
    connection.execute(delete(reservations).where(reservations.c.job_id == job_id))
    connection.execute(delete(reservations).where(reservations.c.worker_id == worker_id, ~_waits(reservations.c.job_id)))
    connection.execute(insert_once(connection, reservations).values(worker_id=worker_id, job_id=job_id, made_at=now))


def _waits(job_id: ColumnElement[str]) -> ColumnElement[bool]:
    return exists().where(jobs.c.id == job_id, jobs.c.status == QUEUED)


def drop_of(connection: Connection, job_id: str) -> None:
    """Keep no worker for a job any more."""
    connection.execute(delete(reservations).where(reservations.c.job_id == job_id))


def leased_since(connection: Connection, worker_id: str, instant: int) -> int:
    """How many devices of a worker are held by attempts that began after `instant`."""
    query = select(func.coalesce(func.sum(leases.c.devices), 0)).join(attempts, attempts.c.id == leases.c.attempt_id)
    return int(connection.execute(query.where(leases.c.worker_id == worker_id, attempts.c.started_at >= instant)).scalar_one())
