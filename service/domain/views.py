"""Events, attempts and workers as users see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field
from sqlalchemy.engine import Connection, Row

from service.context import Context
from service.db.queries import attempts as attempt_rows
from service.db.queries import clock
from service.db.queries import workers as worker_rows
from service.domain.instants import Instant
from service.domain.status_reason import gone_before


class Event(BaseModel):
    """Something that happened to a job. `seq` counts a job's events from 1 without gaps."""

    object: Literal["event"] = "event"
    id: str
    job_id: str
    seq: int
    created_at: Instant
    type: str
    data: dict[str, Any]


class Cause(BaseModel):
    """What went wrong in an attempt."""

    code: str
    message: str
    param: str | None


class Attempt(BaseModel):
    """One try at a job.

    `resumed_from`: the step it went on from, null from the start. `steps_lost`: those done and not kept by a checkpoint. `seconds`:
    by phase, null until its worker has told.
    """

    object: Literal["attempt"] = "attempt"
    id: str
    job_id: str
    number: int
    workers: list[str]
    fence: int
    mesh_axes: dict[str, int]
    phase: str | None
    step: int
    last_step_at: str | None
    steps_done: int
    resumed_from: int | None
    steps_lost: int
    started_at: Instant
    ended_at: Instant | None
    ending: str | None
    cause: Cause | None
    seconds: dict[str, float] | None


class Running(BaseModel):
    """An attempt that a worker is running, and its last heartbeat."""

    job_id: str
    attempt_id: str
    devices: int
    step: int
    phase: str | None
    beat_at: Instant


class Worker(BaseModel):
    """A process that owns accelerators. `gone`: not heard of for three lease terms."""

    object: Literal["worker"] = "worker"
    id: str
    project: str
    all_projects: bool = Field(description="Whether it takes the jobs of every project.")
    status: Literal["active", "draining", "gone"]
    platform: str
    device_kind: str
    device_count: int
    memory_bytes: int
    slots: int
    labels: dict[str, str]
    versions: dict[str, str]
    catalog_digest: str
    code: dict[str, Any] | None = Field(description="Whether it runs code of users, and which measures contain it.")
    registered_at: Instant
    seen_at: Instant
    running: list[Running]


def event(row: Row[Any]) -> Event:
    """An event's row as users see it."""
    return Event(id=row.id, job_id=row.job_id, seq=row.seq, created_at=row.created_at, type=row.type, data=row.data)


def attempts(connection: Connection, rows: Sequence[Row[Any]]) -> list[Attempt]:
    """Rows of attempts as users see them."""
    owners = attempt_rows.workers_of(connection, [row.id for row in rows])
    return [_attempt(row, owners[row.id]) for row in rows]


def _attempt(row: Row[Any], workers: list[str]) -> Attempt:
    return Attempt(
        id=row.id,
        job_id=row.job_id,
        number=row.number,
        workers=workers,
        fence=row.fence,
        mesh_axes=row.mesh_axes,
        phase=row.phase,
        step=row.step,
        last_step_at=row.last_step_at,
        steps_done=max(0, row.step - (row.resumed_from or 0)),
        resumed_from=row.resumed_from,
        steps_lost=row.steps_lost,
        started_at=row.started_at,
        ended_at=row.ended_at,
        ending=row.ending,
        cause=row.cause,
        seconds=row.seconds,
    )


def workers(connection: Connection, context: Context, rows: Sequence[Row[Any]], project: str | None) -> list[Worker]:
    """Rows of workers as users see them, with what each is running for a project, or for any."""
    threshold = gone_before(context, clock.now(connection))
    held: dict[str, list[Running]] = {row.id: [] for row in rows}
    for lease in worker_rows.running(connection, list(held), project):
        held[lease.worker_id].append(_running(lease))
    return [_worker(row, held[row.id], gone=row.seen_at < threshold) for row in rows]


def _running(lease: Row[*tuple[Any, ...]]) -> Running:
    return Running(
        job_id=lease.job_id,
        attempt_id=lease.attempt_id,
        devices=lease.devices,
        step=lease.step,
        phase=lease.phase,
        beat_at=lease.beat_at,
    )


def _worker(row: Row[Any], running: list[Running], *, gone: bool) -> Worker:
    return Worker(
        id=row.id,
        project=row.project,
        all_projects=row.all_projects,
        status="gone" if gone else row.status,
        platform=row.platform,
        device_kind=row.device_kind,
        device_count=row.device_count,
        memory_bytes=row.memory_bytes,
        slots=row.slots,
        labels=row.labels,
        versions=row.versions,
        catalog_digest=row.catalog_digest,
        code=row.code,
        registered_at=row.registered_at,
        seen_at=row.seen_at,
        running=running,
    )
