"""What a job puts out: its result, and its artifacts."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from jobs.states import TERMINAL, Status
from service.db.queries import artifacts as rows
from service.db.queries import lookup
from service.domain import artifacts, checkpoints
from service.domain.errors import NotFinished, NotFound
from service.domain.verification import Stored
from service.http.auth import Project, Whoever, reach
from service.http.openapi import CONFLICT
from service.http.paging import JobId, Listing
from service.http.serving import FILE_RESPONSES, send_file
from service.http.session import Reading, Shared, TransactionRoute

router = APIRouter(route_class=TransactionRoute, tags=["results"])


class ArtifactList(Listing[artifacts.Artifact]):
    """All artifacts of a job, by path."""


@router.get("/v1/jobs/{job_id}/result", responses={409: CONFLICT})
def get_result(job_id: JobId, read: Reading, project: Project) -> dict[str, Any]:
    """Read a job's result: `final` and `best` of a training, `summary` and `diagnostics` of a sampling."""
    row = lookup.result(read.connection, project, job_id)
    if row is None:
        raise NotFound("There is no such job.")
    if row.result is None:
        ended = Status(row.status) in TERMINAL
        raise NotFinished(
            "The job has ended without a result." if ended else "The job has no result yet; wait for its end.", row.status
        )
    result: dict[str, Any] = row.result
    return result


@router.get("/v1/jobs/{job_id}/artifacts")
def list_artifacts(job_id: JobId, read: Reading, project: Project) -> ArtifactList:
    """List a job's artifacts."""
    checkpoints.require_job(read.connection, project, job_id)
    found = rows.of_job(read.connection, job_id)
    return ArtifactList(data=[artifacts.shown(row) for row in found], has_more=False, next=None)


@router.head("/v1/jobs/{job_id}/artifacts/{path:path}", include_in_schema=False)
@router.get("/v1/jobs/{job_id}/artifacts/{path:path}", response_class=Response, responses=FILE_RESPONSES)
def download_artifact(request: Request, job_id: JobId, path: str, read: Reading, context: Shared, caller: Whoever) -> Response:
    """Download an artifact, or a range of it."""
    checkpoints.require_job(read.connection, reach(read, caller, job_id), job_id)
    row = None if "\x00" in path else rows.get(read.connection, job_id, path)
    if row is None:
        raise NotFound("The job has no such artifact.")
    return send_file(request, context.store, Stored(row.key, row.path, row.bytes, row.sha256))
