"""Who could ask for room, and who could make it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.engine import Connection, Row

from service.db.engine import now_us
from service.db.queries.jobs import QUEUED
from service.db.queries.workers import held
from service.db.tables import attempts, job_needs, jobs, leases, reservations, worker_offers, workers

waiting = jobs.alias("waiting")


def askers(connection: Connection, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """Queued jobs, highest priority first, for which one of lower priority of their project runs."""
    weaker = exists().where(leases.c.job_id == jobs.c.id, jobs.c.project == waiting.c.project, jobs.c.priority < waiting.c.priority)
    names = ("id", "project", "priority", "devices", "platform", "memory_bytes")
    columns: list[ColumnElement[Any]] = [waiting.c[name] for name in names]
    ready = (waiting.c.status == QUEUED, waiting.c.available_at <= now_us(), weaker)
    query = select(*columns).where(*ready).order_by(waiting.c.priority.desc(), waiting.c.id).limit(limit)
    return connection.execute(query).all()


def able(connection: Connection, job: Row[*tuple[Any, ...]], seen_since: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """Workers that are there, are kept for nobody, and could run the job if they were empty, with `leases` and `leased_devices`."""
    offered = exists().where(worker_offers.c.worker_id == workers.c.id, worker_offers.c.offer == job_needs.c.need)
    unmet = exists().where(job_needs.c.job_id == job.id, ~offered)
    load = (func.coalesce(held.c.leases, 0).label("leases"), func.coalesce(held.c.leased_devices, 0).label("leased_devices"))
    columns: list[ColumnElement[Any]] = [*(workers.c[name] for name in ("id", "device_count", "slots")), *load]
    query = select(*columns).outerjoin(held, held.c.worker_id == workers.c.id)
    fits = (workers.c.device_count >= job.devices, workers.c.memory_bytes >= job.memory_bytes, ~unmet)
    kept = exists().where(reservations.c.worker_id == workers.c.id, jobs.c.id == reservations.c.job_id, jobs.c.status == QUEUED)
    there = (workers.c.status == "active", workers.c.seen_at >= seen_since, ~kept)
    serving = or_(workers.c.all_projects, workers.c.project == job.project)
    platform = or_(job.platform == "any", workers.c.platform == job.platform)
    return connection.execute(query.where(*fits, *there, serving, platform)).all()


def weaker(connection: Connection, job: Row[*tuple[Any, ...]], begun_before: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """Running jobs of lower priority of the same project whose attempt began before an instant: weakest and youngest first."""
    columns: list[ColumnElement[Any]] = [leases.c[name] for name in ("job_id", "worker_id", "devices")]
    query = select(*columns).join(jobs, jobs.c.id == leases.c.job_id)
    query = query.join(attempts, attempts.c.id == leases.c.attempt_id)
    lower = (jobs.c.project == job.project, jobs.c.priority < job.priority, jobs.c.status == "running")
    asked = or_(jobs.c.command.is_(None), jobs.c.command == "checkpoint")
    begun = attempts.c.started_at < begun_before
    return connection.execute(query.where(*lower, asked, begun).order_by(jobs.c.priority, attempts.c.started_at.desc())).all()
