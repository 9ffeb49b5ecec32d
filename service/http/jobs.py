"""Jobs: submit, list, read, change, delete; and new jobs made from old ones."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, Field

from jobs.spec.envelope import Metadata, Priority
from jobs.spec.extension import Extension
from jobs.spec.strict import Document, Name, Text
from jobs.states import Status
from service.db.queries import jobs as rows
from service.domain import control, submission
from service.domain.errors import Invalid, NotFound
from service.domain.idempotency import Answer, ticket
from service.domain.job_object import Job, describe, describe_one
from service.domain.lifecycle import Change
from service.domain.place import Place, place_of
from service.domain.programs import JobProgram, program_of
from service.http.auth import Project
from service.http.body import JsonRoute
from service.http.openapi import CONFLICT, JOB_BODY, METADATA_FILTER, REPLAYED
from service.http.paging import JobId, Listing, cut
from service.http.session import Reading, Shared, Writing

router = APIRouter(route_class=JsonRoute, tags=["jobs"])

LABEL = re.compile(r"metadata\[(.{1,200})\]", re.DOTALL)

SpecDocument = Annotated[dict[str, Any], Body(description="The job; see /v1/schemas/job.")]
Key = Annotated[str | None, Header(alias="Idempotency-Key", description="The same key and body give the same answer, once done.")]


class JobList(Listing[Job]):
    """A page of jobs, newest first."""


class JobPatch(Document):
    """What of a job can be changed. `metadata` is replaced as a whole."""

    name: Name | None = None
    metadata: Metadata = Field(default_factory=dict[str, str])
    priority: Priority = 0


def reply(answer: Answer) -> Response:
    """An answer that was kept, or has just been."""
    headers = {"Location": f"/v1/jobs/{answer.body['id']}"}
    if answer.replayed:
        headers["Idempotent-Replayed"] = "true"
    return JSONResponse(answer.body, answer.status, headers)


@router.post("/v1/jobs", status_code=201, response_model=Job, responses={201: REPLAYED, 409: CONFLICT}, openapi_extra=JOB_BODY)
def submit_job(document: SpecDocument, write: Writing, context: Shared, project: Project, key: Key = None) -> Response:
    """Queue a job."""
    asked = ticket(project, "POST /v1/jobs", key, document)
    return reply(submission.submit(Change(write, context), project, document, asked))


def _apart(given: list[str]) -> list[str]:
    return [name for text in given for name in text.split(",") if name]


class JobQuery(BaseModel):
    """Which jobs; all filters must hold."""

    limit: int = Field(20, ge=1, le=100, description="How many at most.")
    after: str | None = Field(None, pattern=r"^job_[0-9a-f]{32}$", description="Id of the job that the page follows.")
    status: Annotated[list[Status], BeforeValidator(_apart)] = Field(
        default_factory=list[Status], description="Any of these; repeated, or several with commas between."
    )
    kind: Text | None = None
    name: Text | None = None
    group: Text | None = None


@router.get("/v1/jobs", openapi_extra=METADATA_FILTER)
def list_jobs(request: Request, read: Reading, context: Shared, project: Project, query: Annotated[JobQuery, Query()]) -> JobList:
    """List jobs, newest first."""
    statuses = [wanted.value for wanted in query.status]
    wanted = rows.Filter(project, statuses, query.kind, query.name, query.group, _labels(request))
    page, rest = cut(rows.page(read.connection, wanted, query.after, query.limit + 1), query.limit, "id")
    return JobList(data=describe(read.connection, context, page), **rest)


def _labels(request: Request) -> dict[str, str]:
    found = ((LABEL.fullmatch(key), value) for key, value in request.query_params.multi_items())
    labels = {match[1]: value for match, value in found if match is not None}
    if any("\x00" in text for pair in labels.items() for text in pair):
        raise Invalid("A filter must not contain the NUL character.")
    return labels


@router.get("/v1/jobs/{job_id}")
def get_job(job_id: JobId, read: Reading, context: Shared, project: Project) -> Job:
    """Read a job."""
    row = rows.get(read.connection, project, job_id)
    if row is None:
        raise NotFound("There is no such job.")
    return describe_one(read.connection, context, row)


@router.get("/v1/jobs/{job_id}/queue")
def get_place(job_id: JobId, read: Reading, context: Shared, project: Project) -> Place:
    """Read why a job waits, who is ahead of it, and which workers could take it."""
    return place_of(read, context, project, job_id)


@router.get("/v1/jobs/{job_id}/program", responses={409: CONFLICT})
def get_program(job_id: JobId, read: Reading, project: Project) -> JobProgram:
    """Read the program that a sampling job's model is, or that its formula stands for."""
    return program_of(read.connection, project, job_id)


@router.patch("/v1/jobs/{job_id}")
def patch_job(job_id: JobId, fields: JobPatch, write: Writing, context: Shared, project: Project) -> Job:
    """Change a job's name, metadata or priority; what is left out stays."""
    row = control.patch(Change(write, context), project, job_id, fields.model_dump(include=fields.model_fields_set))
    return describe_one(write.connection, context, row)


@router.delete("/v1/jobs/{job_id}", status_code=204, responses={409: CONFLICT})
def delete_job(job_id: JobId, write: Writing, context: Shared, project: Project) -> None:
    """Delete a job that has ended, its artifacts with it."""
    control.delete(Change(write, context), project, job_id)


@router.post("/v1/jobs/{job_id}/retry", status_code=201, response_model=Job, responses={201: REPLAYED, 409: CONFLICT})
def retry_job(job_id: JobId, write: Writing, context: Shared, project: Project, key: Key = None) -> Response:
    """Make a new job that goes on where an ended one stopped, from its last checkpoint if it kept one."""
    asked = ticket(project, f"POST /v1/jobs/{job_id}/retry", key, None)
    return reply(submission.retry(Change(write, context), project, job_id, asked))


@router.post("/v1/jobs/{job_id}/clone", status_code=201, response_model=Job, responses={201: REPLAYED, 409: CONFLICT})
def clone_job(job_id: JobId, write: Writing, context: Shared, project: Project, key: Key = None) -> Response:
    """Make a new job with the same spec, from the start."""
    asked = ticket(project, f"POST /v1/jobs/{job_id}/clone", key, None)
    return reply(submission.clone(Change(write, context), project, job_id, asked))


@router.post("/v1/jobs/{job_id}/extend", status_code=201, response_model=Job, responses={201: REPLAYED, 409: CONFLICT})
def extend_job(job_id: JobId, asked: Extension, write: Writing, context: Shared, project: Project, key: Key = None) -> Response:
    """Make a new job that goes on from the end of one that has succeeded, bit for bit as if that had been longer."""
    ticketed = ticket(project, f"POST /v1/jobs/{job_id}/extend", key, asked.model_dump(exclude_unset=True))
    return reply(submission.extend(Change(write, context), project, job_id, asked, ticketed))
