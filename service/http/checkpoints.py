"""Checkpoints of a job: list, pin, let expire."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import AfterValidator, Field

from jobs.spec.strict import Document
from service.db.queries import checkpoints as rows
from service.domain import checkpoints
from service.http.auth import Project
from service.http.body import JsonRoute
from service.http.paging import LARGEST, JobId, Limit, Listing, cut
from service.http.session import Reading, Writing

router = APIRouter(route_class=JsonRoute, tags=["checkpoints"])

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def _checked_instant(text: str) -> str:
    _microseconds_of(text)
    return text


def _microseconds_of(text: str) -> int:
    if not RFC_3339.fullmatch(text):
        raise ValueError("must be an RFC 3339 instant such as 2030-01-31T12:00:00Z")
    moment = datetime.fromisoformat(text.upper())
    if not EPOCH <= moment < LAST:
        raise ValueError("must lie between the years 1970 and 9999")
    return (moment - EPOCH) // MICROSECOND


AfterStep = Annotated[int | None, Query(ge=0, lt=LARGEST, description="Step that the page follows.")]
StepName = Annotated[str, Path(max_length=20, description="A step, or `latest`, or `best`.")]
Instant = Annotated[str, AfterValidator(_checked_instant), Field(json_schema_extra={"format": "date-time"})]


class CheckpointList(Listing[checkpoints.Checkpoint]):
    """A page of checkpoints, by step."""


class CheckpointPatch(Document):
    """What of a checkpoint can be changed.

    `pinned`: never deleted by itself. `expires_at`: kept until then, deleted after; null ends a `ttl_seconds` too.
    """

    pinned: bool = False
    expires_at: Instant | None = None


@router.get("/v1/jobs/{job_id}/checkpoints")
def list_checkpoints(job_id: JobId, read: Reading, project: Project, limit: Limit = 20, after: AfterStep = None) -> CheckpointList:
    """List a job's checkpoints, ascending. Only those that are whole are ever listed."""
    checkpoints.require_job(read.connection, project, job_id)
    found = rows.page(read.connection, job_id, -1 if after is None else after, limit + 1)
    page, rest = cut(found, limit, "step")
    return CheckpointList(data=[checkpoints.shown(row) for row in page], **rest)


@router.patch("/v1/jobs/{job_id}/checkpoints/{step}")
def patch_checkpoint(
    job_id: JobId, step: StepName, fields: CheckpointPatch, write: Writing, project: Project
) -> checkpoints.Checkpoint:
    """Pin a checkpoint, or let it expire; what is left out stays."""
    values: dict[str, Any] = fields.model_dump(include=fields.model_fields_set)
    if fields.expires_at is not None:
        values["expires_at"] = _microseconds_of(fields.expires_at)
    row = checkpoints.named(write.connection, project, job_id, step)
    return checkpoints.shown(checkpoints.change(write, row, values))
