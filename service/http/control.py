"""Telling a job what to do: cancel, pause, resume, checkpoint. Each may be asked again without harm."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from service.domain import control
from service.domain.job_object import Job, describe_one
from service.domain.lifecycle import Change
from service.http.auth import Project
from service.http.openapi import CONFLICT
from service.http.paging import JobId
from service.http.session import Shared, TransactionRoute, Writing

router = APIRouter(route_class=TransactionRoute, tags=["jobs"], responses={409: CONFLICT})

Save = Annotated[bool, Query(alias="checkpoint", description="Whether to save a last checkpoint first.")]


@router.post("/v1/jobs/{job_id}/cancel", status_code=202)
def cancel_job(job_id: JobId, write: Writing, context: Shared, project: Project, *, save: Save = True) -> Job:
    """Cancel a job."""
    row = control.cancel(Change(write, context), project, job_id, save=save)
    return describe_one(write.connection, context, row)


@router.post("/v1/jobs/{job_id}/pause", status_code=202)
def pause_job(job_id: JobId, write: Writing, context: Shared, project: Project, *, save: Save = True) -> Job:
    """Pause a job; it keeps its progress and holds no device."""
    row = control.pause(Change(write, context), project, job_id, save=save)
    return describe_one(write.connection, context, row)


@router.post("/v1/jobs/{job_id}/resume", status_code=202)
def resume_job(job_id: JobId, write: Writing, context: Shared, project: Project) -> Job:
    """Put a paused job back into the queue."""
    return describe_one(write.connection, context, control.resume(Change(write, context), project, job_id))


@router.post("/v1/jobs/{job_id}/checkpoint", status_code=202)
def checkpoint_job(job_id: JobId, write: Writing, context: Shared, project: Project) -> Job:
    """Ask a running job for a checkpoint now."""
    return describe_one(write.connection, context, control.checkpoint(Change(write, context), project, job_id))
