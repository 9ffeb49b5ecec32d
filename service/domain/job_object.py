"""The job as users see it: the same keys in every state, null where unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field
from sqlalchemy.engine import Connection, Row

from jobs.states import Status
from service.context import Context
from service.db.queries import jobs
from service.domain.instants import Instant
from service.domain.status_reason import StatusReason, reasons_for


class Progress(BaseModel):
    """How far a job is: `step` of `total` units (`step` or `draw`)."""

    step: int
    total: int
    unit: str


class Parent(BaseModel):
    """The job that this one was made from, and how."""

    job: str
    relation: Literal["retry", "clone", "extend"]


class JobError(BaseModel):
    """Why a job failed. `param`: JSON Pointer into the spec, where one field is to blame."""

    code: str
    message: str
    param: str | None
    detail: dict[str, Any] | None = Field(None, description="What else is known: of user code `code`, `file`, `line` and `hint`.")
    retryable: bool
    fault: Literal["user", "infra", "service"]
    attempt_id: str | None


class Job(BaseModel):
    """A job. `attempt`: the number of the latest attempt. `status_reason` and `queue_position`: only while it is queued."""

    object: Literal["job"] = "job"
    id: str
    kind: str
    name: str | None
    metadata: dict[str, Any]
    priority: int
    project: str
    spec: dict[str, Any]
    resolved_spec: dict[str, Any]
    spec_version: int
    status: Status
    phase: str | None
    status_reason: StatusReason | None
    queue_position: int | None
    progress: Progress
    attempt: int | None
    parent: Parent | None
    group: str | None
    error: JobError | None
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None


def describe(connection: Connection, context: Context, rows: Sequence[Row[Any]]) -> list[Job]:
    """Job objects of these rows, in their order."""
    queued = [row for row in rows if row.status == Status.QUEUED]
    projects = {row.project for row in queued}
    reasons: dict[str, StatusReason] = {}
    positions: dict[str, int] = {}
    for project in projects:
        waiting = [row for row in queued if row.project == project]
        reasons |= reasons_for(connection, context, project, waiting)
        positions |= jobs.queue_positions(connection, project, [row.id for row in waiting])
    return [_job(row, reasons.get(row.id), positions.get(row.id)) for row in rows]


def describe_one(connection: Connection, context: Context, row: Row[Any]) -> Job:
    """The job object of this row."""
    return describe(connection, context, [row])[0]


def _job(row: Row[Any], reason: StatusReason | None, position: int | None) -> Job:
    parent = Parent(job=row.parent_id, relation=row.parent_relation) if row.parent_id is not None else None
    return Job(
        id=row.id,
        kind=row.kind,
        name=row.name,
        metadata=row.metadata,
        priority=row.priority,
        project=row.project,
        spec=row.spec,
        resolved_spec=row.resolved_spec,
        spec_version=row.spec_version,
        status=row.status,
        phase=row.phase,
        status_reason=reason,
        queue_position=position,
        progress=Progress(step=row.step, total=row.total, unit=row.unit),
        attempt=row.attempts or None,
        parent=parent,
        group=row.group_id,
        error=JobError(**row.error) if row.error is not None else None,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
