"""Artifacts: what a job puts out for good, by path. A later attempt's file of the same path takes the place of an earlier one's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy.engine import Row

from jobs.errors import Issue
from jobs.protocol import File
from service.context import Context
from service.db.queries import artifacts, checkpoints
from service.db.transaction import Write
from service.domain import arrival
from service.domain.errors import Invalid
from service.domain.instants import wire


class Artifact(BaseModel):
    """A file that a job has put out for good."""

    object: Literal["artifact"] = "artifact"
    path: str
    bytes: int
    sha256: str
    created_at: str


def keep(
    write: Write,
    context: Context,
    job: Row[Any],
    attempt: Row[Any],
    files: Sequence[File],
    shares_folder: bool,  # noqa: FBT001  (told by position where reports are taken)
    pointer: str = "/artifacts",
) -> None:
    """List files that an attempt has written into its `outputs` folder.

    Args:
        write: holds the job.
        context: what the service shares.
        job: the job's row.
        attempt: the attempt's row.
        files: relative to that folder.
        shares_folder: whether the worker wrote into the artifact folder itself.
        pointer: JSON Pointer to the list of them.

    Raises:
        Invalid: a file is not there as it was named.
    """
    folder = _outputs(job, attempt, shared=shares_folder)
    arrival.require(write.connection, context.store, folder, files, pointer)
    artifacts.save(write.connection, [_row(job, file, folder.key(file)) for file in files])


def keys_of(write: Write, context: Context, job: Row[Any], attempt: Row[Any], files: Sequence[File]) -> dict[str, str]:
    """Where each of a job's outputs lies, by path.

    A job that goes on from another's checkpoint has outputs that the other wrote: it gets copies of its own, since the other may be
    deleted as soon as this one has ended.

    Raises:
        Invalid: an output that neither this job nor its source has.
    """
    own = {row.path: row for row in artifacts.of_job(write.connection, job.id)}
    missing = [file for file in files if not _is(own.get(file.path), file)]
    if missing:
        inherited = _inherited(write, job)
        _refuse_unknown([file for file in missing if inherited.get(file.path, ("",))[0] != file.sha256])
        for file in missing:
            _adopt(write, context, job, attempt, file, inherited[file.path][1])
        own = {row.path: row for row in artifacts.of_job(write.connection, job.id)}
    return {file.path: own[file.path].key for file in files}


def _is(row: Row[Any] | None, file: File) -> bool:
    return row is not None and (row.bytes, row.sha256) == (file.bytes, file.sha256)


def _inherited(write: Write, job: Row[Any]) -> dict[str, tuple[str, str]]:
    """SHA-256 and key of the outputs of the checkpoint that the job was given, by path."""
    if job.init_from_job is None:
        return {}
    source = checkpoints.get(write.connection, job.init_from_job, job.init_from_step)
    if source is None:
        return {}
    keys = source.manifest["keys"]
    return {file["path"]: (file["sha256"], keys[file["path"]]) for file in source.manifest["outputs"]}


def _refuse_unknown(files: Sequence[File]) -> None:
    if files:
        issues = [Issue("/outputs", "file_missing", "An output is named that no report has brought.") for _ in files[:1]]
        raise Invalid("A checkpoint names outputs that are not there; name them as fresh when they are written.", issues)


def _adopt(write: Write, context: Context, job: Row[Any], attempt: Row[Any], file: File, source: str) -> None:
    key = _outputs(job, attempt, shared=True).key(file)
    context.store.copy(source, key)
    artifacts.save(write.connection, [_row(job, file, key)])


def _outputs(job: Row[Any], attempt: Row[Any], *, shared: bool) -> arrival.Folder:
    return arrival.Folder(attempt.id, f"jobs/{job.id}/{attempt.id}/outputs", shared)


def _row(job: Row[Any], file: File, key: str) -> dict[str, Any]:
    return {"job_id": job.id, "path": file.path, "key": key, "bytes": file.bytes, "sha256": file.sha256}


def shown(row: Row[Any]) -> Artifact:
    """An artifact as users see it."""
    return Artifact(path=row.path, bytes=row.bytes, sha256=row.sha256, created_at=wire(int(row.created_at)))
