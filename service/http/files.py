"""The files of a checkpoint: its manifest, each file, and all of them as one archive."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.engine import Row

from service.context import Context
from service.domain import archive, checkpoints, safetensors_export
from service.domain.errors import NotFound
from service.domain.verification import check_first
from service.http.auth import Project, Whoever, reach
from service.http.checkpoints import StepName
from service.http.paging import JobId, Listing
from service.http.serving import BYTES, CONFLICT, FILE_RESPONSES, send_file, send_made
from service.http.session import Reading, Shared, TransactionRoute

router = APIRouter(route_class=TransactionRoute, tags=["checkpoints"])

ARCHIVE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The archive.", **BYTES},
    304: FILE_RESPONSES[304],
    409: CONFLICT,
}
ArchiveFormat = Annotated[Literal["tar", "safetensors"], Query(alias="format", description="What to make of it.")]


class FileList(Listing[checkpoints.ManifestFile]):
    """All files of a checkpoint, by path."""


@router.get("/v1/jobs/{job_id}/checkpoints/{step}/files")
def list_files(job_id: JobId, step: StepName, read: Reading, project: Project) -> FileList:
    """List a checkpoint's files with their sizes and SHA-256."""
    row = checkpoints.named(read.connection, project, job_id, step)
    return FileList(data=checkpoints.shown_files(row), has_more=False, next=None)


@router.head("/v1/jobs/{job_id}/checkpoints/{step}/files/{path:path}", include_in_schema=False)
@router.get("/v1/jobs/{job_id}/checkpoints/{step}/files/{path:path}", response_class=Response, responses=FILE_RESPONSES)
def download_file(
    request: Request, job_id: JobId, step: StepName, path: str, read: Reading, context: Shared, caller: Whoever
) -> Response:
    """Download a file of a checkpoint, or a range of it."""
    row = checkpoints.named(read.connection, reach(read, caller, job_id), job_id, step)
    # The path is looked up in the manifest and never resolved: whatever is not listed does not exist.
    for file in archive.files_of(row):
        if file.name == path:
            return send_file(request, context.store, file)
    raise NotFound("The checkpoint has no such file.")


@router.head("/v1/jobs/{job_id}/checkpoints/{step}/archive", include_in_schema=False)
@router.get("/v1/jobs/{job_id}/checkpoints/{step}/archive", response_class=Response, responses=ARCHIVE_RESPONSES)
def download_archive(
    request: Request, job_id: JobId, step: StepName, read: Reading, context: Shared, project: Project, form: ArchiveFormat = "tar"
) -> Response:
    """Download a checkpoint as one file: a tar that Orbax restores once unpacked, or its parameters as safetensors."""
    row = checkpoints.named(read.connection, project, job_id, step)
    return _send_tar(request, context, row) if form == "tar" else _send_safetensors(request, context, row)


def _etag(row: Row[Any], form: str) -> str:
    return hashlib.sha256(f"{form} {row.step} {row.manifest_sha256}".encode()).hexdigest()


def _send_tar(request: Request, context: Context, row: Row[Any]) -> Response:
    files = archive.files_of(row)
    check_first(context.store, files)
    length = archive.tar_bytes(row.step, files)
    return send_made(
        request, f"{row.job_id}-{row.step}.tar", _etag(row, "tar"), length, archive.tar(context.store, row.step, files)
    )


def _send_safetensors(request: Request, context: Context, row: Row[Any]) -> Response:
    arrays = safetensors_export.tensors(context.store, archive.files_of(row))
    check_first(context.store, [file for one in arrays for file in one.files])
    head = safetensors_export.header(row.step, arrays)
    length = len(head) + sum(one.bytes for one in arrays)
    content = safetensors_export.whole(context.store, head, arrays)
    return send_made(request, f"{row.job_id}-{row.step}.safetensors", _etag(row, "safetensors"), length, content)
