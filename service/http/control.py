"""Telling a job what to do: cancel, pause, resume, checkpoint, profile. Each may be asked again without harm."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from jobs.spec.profile import WindowLength
from jobs.spec.strict import Document
from service.domain import control
from service.domain.job_object import Job, describe_one
from service.domain.lifecycle import Change
from service.http.auth import Project
from service.http.body import JsonRoute
from service.http.openapi import CONFLICT
from service.http.paging import JobId
from service.http.session import Shared, Writing

router = APIRouter(route_class=JsonRoute, tags=["jobs"], responses={409: CONFLICT})


class Wanted(Document):
    """What is to be traced."""

    num_steps: WindowLength = Field(default=5, description="Steps, or transitions of every chain, from where the job stands.")
    memory: bool = Field(default=True, description="Whether to say too what lies in the devices' memory at the end.")


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


@router.post("/v1/jobs/{job_id}/profile", status_code=202)
def profile_job(job_id: JobId, write: Writing, context: Shared, project: Project, wanted: Wanted | None = None) -> Job:
    """Trace the next steps of a running job. The traces become artifacts below `profile/`."""
    window = wanted or Wanted()
    row = control.profile(Change(write, context), project, job_id, window.num_steps, memory=window.memory)
    return describe_one(write.connection, context, row)
