"""A job's place in the queue: why it waits, who is ahead, and which workers could take it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field
from sqlalchemy.engine import Row

from jobs.states import Status
from service.context import Context
from service.db.queries import clock, jobs, reservations, workers
from service.db.transaction import Read
from service.domain.errors import NotFound
from service.domain.instants import Instant
from service.domain.status_reason import StatusReason, Wants, free_of, gone_before, lacks, reasons_for, wants_of, worker_of

MOST_SHOWN = 20


Line = Row[*tuple[Any, ...]]


class Ahead(BaseModel):
    """A job of the same project that will be claimed first."""

    id: str
    name: str | None
    priority: int
    devices: int
    queued_at: Instant


class Candidate(BaseModel):
    """A worker that is there and takes work. `lacks`: what the job needs and it has not; empty where it could run the job."""

    id: str
    platform: str
    device_kind: str
    device_count: int
    free_devices: int
    lacks: list[str]
    kept_for: Literal["this job", "another job"] | None = Field(description="For whom its devices are kept free, if for anybody.")


class Place(BaseModel):
    """Where a job stands in the queue; `ahead` are the first of those before it. Once it has started it has no reason."""

    object: Literal["queue_place"] = "queue_place"
    job_id: str
    status: Status
    status_reason: StatusReason | None
    queue_position: int | None
    ahead: list[Ahead]
    workers: list[Candidate]


def place_of(read: Read, context: Context, project: str, job_id: str) -> Place:
    """A job's place in the queue.

    Raises:
        NotFound: the project has no such job.
    """
    row = jobs.get(read.connection, project, job_id)
    if row is None:
        raise NotFound("There is no such job.")
    waits = row.status == Status.QUEUED
    return Place(
        job_id=job_id,
        status=row.status,
        status_reason=reasons_for(read.connection, context, project, [row])[job_id] if waits else None,
        queue_position=jobs.queue_positions(read.connection, project, [job_id])[job_id] if waits else None,
        ahead=[_ahead(other) for other in jobs.ahead_of(read.connection, row, MOST_SHOWN)] if waits else [],
        workers=_candidates(read, context, row),
    )


def _ahead(row: Line) -> Ahead:
    return Ahead(id=row.id, name=row.name, priority=row.priority, devices=row.devices, queued_at=row.queued_at)


def _candidates(read: Read, context: Context, job: Row[Any]) -> list[Candidate]:
    needs = jobs.needs_of(read.connection, [job.id])[job.id]
    offers = workers.offers_among(read.connection, needs)
    kept = reservations.all_of(read.connection)
    there = workers.taking_work(read.connection, job.project, gone_before(context, clock.now(read.connection)))
    wants = wants_of(job, needs)
    return [_candidate(row, wants, frozenset(offers.get(row.id, ())), kept.get(row.id)) for row in there]


def _candidate(row: Row[Any], wants: Wants, offers: frozenset[str], kept_for: str | None) -> Candidate:
    return Candidate(
        id=row.id,
        platform=row.platform,
        device_kind=row.device_kind,
        device_count=row.device_count,
        free_devices=free_of(row),
        lacks=lacks(worker_of(row, offers), wants),
        kept_for=None if kept_for is None else "this job" if kept_for == wants.job_id else "another job",
    )
