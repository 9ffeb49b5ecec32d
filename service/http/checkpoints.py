"""Checkpoints of a job: list, pin, let expire."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from jobs.spec.strict import Document
from service.db.queries import checkpoints as rows
from service.domain import checkpoints
from service.http.auth import Project
from service.http.body import JsonRoute
from service.http.instants import Instant, microseconds_of
from service.http.paging import LARGEST, JobId, Limit, Listing, cut
from service.http.session import Reading, Writing

router = APIRouter(route_class=JsonRoute, tags=["checkpoints"])

AfterStep = Annotated[int | None, Query(ge=0, lt=LARGEST, description="Step that the page follows.")]
StepName = Annotated[str, Path(max_length=20, description="A step, or `latest`, or `best`.")]


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


@router.get("/v1/jobs/{job_id}/checkpoints/{step}")
def get_checkpoint(job_id: JobId, step: StepName, read: Reading, project: Project) -> checkpoints.Checkpoint:
    """Get one checkpoint."""
    return checkpoints.shown(checkpoints.named(read.connection, project, job_id, step))


@router.patch("/v1/jobs/{job_id}/checkpoints/{step}")
def patch_checkpoint(
    job_id: JobId, step: StepName, fields: CheckpointPatch, write: Writing, project: Project
) -> checkpoints.Checkpoint:
    """Pin a checkpoint, or let it expire; what is left out stays."""
    values: dict[str, Any] = fields.model_dump(include=fields.model_fields_set)
    if fields.expires_at is not None:
        values["expires_at"] = microseconds_of(fields.expires_at)
    row = checkpoints.named(write.connection, project, job_id, step)
    return checkpoints.shown(checkpoints.change(write, row, values))
