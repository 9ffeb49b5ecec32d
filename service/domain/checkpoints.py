"""Checkpoints: listed only when whole, offered as the point to go on from, and taken back when their bytes have changed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy.engine import Connection, Row

from jobs.errors import Issue
from jobs.protocol import Committed, File, Resume
from jobs.spec.origin import start_of
from service.context import Context
from service.db.queries import checkpoints, events, lookup, uploads
from service.db.transaction import Write
from service.domain import arrival, artifacts, retention
from service.domain.errors import Invalid, NotFound
from service.domain.instants import wire

FALLBACK_METRIC = "eval/loss"
LATEST, BEST = "latest", "best"
PARAMETERS = ("params", "batch_stats")
LARGEST_STEP = 2**53
DRAWS = "draws"
"""The folder of a run's draws among what it has put out: a file for each block, named by the step at which it ends."""


class Checkpoint(BaseModel):
    """A checkpoint that is whole.

    `files`: how many. `manifest_sha256`: over the lines `<sha256>  <path>` of its files, sorted by path, as `sha256sum` writes.
    """

    object: Literal["checkpoint"] = "checkpoint"
    job_id: str
    step: int
    metrics: dict[str, float | None]
    bytes: int
    files: int
    manifest_sha256: str
    pinned: bool
    expires_at: str | None
    created_at: str
    attempt_id: str


class ManifestFile(BaseModel):
    """A file of a checkpoint."""

    object: Literal["file"] = "file"
    path: str
    bytes: int
    sha256: str


def commit(
    write: Write,
    context: Context,
    job: Row[Any],
    attempt: Row[Any],
    committed: Committed,
    shares_folder: bool,  # noqa: FBT001  (told by position where reports are taken)
) -> None:
    """List a checkpoint whose every byte is durable, then let go of those that the job's policy no longer keeps.

    Args:
        write: holds the job.
        context: what the service shares.
        job: the job's row.
        attempt: the row of the attempt that wrote it.
        committed: what the worker says of it.
        shares_folder: whether the worker wrote into the artifact folder itself.

    Raises:
        Invalid: a file is not there as it was named, or an output is unknown.
    """
    folder = arrival.Folder(attempt.id, f"jobs/{job.id}/{attempt.id}/checkpoints/{committed.step}", shares_folder)
    if not committed.files:
        raise Invalid("A checkpoint has files.", [Issue("/files", "missing", "Name every file of the checkpoint.")])
    arrival.require(write.connection, context.store, folder, committed.files, "/files")
    artifacts.keep(write, context, job, attempt, committed.fresh, shares_folder, "/fresh")
    row = _row(job, folder, committed, artifacts.keys_of(write, context, job, attempt, committed.outputs))
    lifetime = retention.lifetime(committed.step, checkpoints.policy(write.connection, job.id))
    replaced = checkpoints.save(write.connection, row, lifetime)
    if replaced is not None and replaced != folder.prefix:
        uploads.forget_below(write.connection, replaced.split("/")[2], replaced)
        write.after(partial(context.store.delete, replaced))
    told = {"step": committed.step, "bytes": row["bytes"], "metrics": committed.metrics}
    events.append(write.connection, job.id, "checkpoint.committed", told)
    write.after(partial(context.signals.wake, job.id))
    retention.apply(write, context, job.id)


def _row(job: Row[Any], folder: arrival.Folder, committed: Committed, keys: dict[str, str]) -> dict[str, Any]:
    files = sorted(committed.files, key=lambda file: file.path)
    manifest = {
        "files": [file.model_dump() for file in files],
        "outputs": [file.model_dump() for file in committed.outputs],
        "keys": keys,
    }
    return {
        "job_id": job.id,
        "step": committed.step,
        "attempt_id": folder.attempt_id,
        "prefix": folder.prefix,
        "metrics": committed.metrics,
        "bytes": sum(file.bytes for file in files),
        "files": len(files),
        "manifest": manifest,
        "manifest_sha256": digest(files),
    }


def digest(files: Sequence[File]) -> str:
    """SHA-256 of a manifest, written as `sha256sum` writes it: a line `<sha256>  <path>` for each file, sorted by path."""
    lines = "".join(f"{file.sha256}  {file.path}\n" for file in sorted(files, key=lambda file: file.path))
    return hashlib.sha256(lines.encode()).hexdigest()


def latest(connection: Connection, job_id: str) -> Row[Any] | None:
    """The job's checkpoint of the highest step, with its manifest."""
    return checkpoints.newest(connection, job_id)


def resume_point(connection: Connection, job: Row[Any]) -> Resume | None:
    """Where the next attempt at a job starts: its newest checkpoint, else the one it was given, else nowhere.

    Raises:
        NotFound: it was given one, and that is gone.
    """
    own = latest(connection, job.id)
    if own is not None:
        return _resume(own, "all")
    if job.init_from_job is None:
        return None
    source = checkpoints.get(connection, job.init_from_job, job.init_from_step)
    if source is None:
        raise NotFound("The checkpoint that this job starts from is no longer there.")
    start = start_of(job.resolved_spec) or {}
    return _resume(source, start["what"])


def _resume(row: Row[Any], what: Literal["all", "params", "draws"]) -> Resume:
    kept: list[dict[str, Any]] = row.manifest["outputs"]
    outputs = {"all": kept, "params": [], "draws": [file for file in kept if file["path"].startswith(f"{DRAWS}/")]}[what]
    return Resume(
        job_id=row.job_id,
        step=row.step,
        what=what,
        prefix=row.prefix,
        files=[] if what == "draws" else files_of(row),
        outputs=[File(**file) for file in outputs],
        keys={file["path"]: row.manifest["keys"][file["path"]] for file in outputs},
    )


def files_of(row: Row[Any]) -> list[File]:
    """The manifest of a checkpoint, by path."""
    return [File(**file) for file in row.manifest["files"]]


def parameter_paths(row: Row[Any]) -> tuple[str, ...]:
    """The dotted paths of a checkpoint's parameters and of the statistics beside them: each lies in a folder of its name."""
    folders = {file["path"].split("/")[1] for file in row.manifest["files"] if file["path"].startswith("state/")}
    found = (folder.partition(".") for folder in folders)
    return tuple(sorted(path for section, _, path in found if section in PARAMETERS and path))


def holds_draws(row: Row[Any]) -> bool:
    """Whether draws from the very state of a checkpoint are among what had been put out by then."""
    return any(file["path"] == f"{DRAWS}/{row.step:012d}.npz" for file in row.manifest["outputs"])


def forget_corrupt(write: Write, context: Context, job_id: str, step: int) -> bool:
    """Take back a checkpoint whose bytes are not what its manifest says; False if there is none.

    The next attempt then starts from the one before.
    """
    rows = checkpoints.remove(write.connection, job_id, [step])
    for row in rows:
        retention.dispose(write, context, row, "checkpoint.corrupt")
    return bool(rows)


def change(write: Write, row: Row[Any], values: dict[str, Any]) -> Row[Any]:
    """Set `pinned` or `expires_at` of a checkpoint; the job's policy acts on it with the next commit, or when it expires.

    Who says when it expires, or that it does not, takes the place of the job's `ttl_seconds`.

    Raises:
        NotFound: it has just been deleted.
    """
    settled = values | {"lapses_at": None} if "expires_at" in values else values
    changed = checkpoints.change(write.connection, row.job_id, row.step, settled) if settled else row
    if changed is None:
        raise _no_such()
    return changed


def named(connection: Connection, project: str, job_id: str, name: str) -> Row[Any]:
    """A checkpoint with its manifest, by its step or by the words `latest` and `best`.

    Raises:
        NotFound: no such job, or no such checkpoint of it.
    """
    require_job(connection, project, job_id)
    step = _step_named(connection, job_id, name)
    row = None if step is None else checkpoints.get(connection, job_id, step)
    if row is None:
        raise _no_such()
    return row


def _step_named(connection: Connection, job_id: str, name: str) -> int | None:
    if name == BEST:
        return best_step(connection, job_id)
    if name == LATEST:
        rows = checkpoints.all_of(connection, job_id)
        return rows[-1].step if rows else None
    step = int(name) if name.isascii() and name.isdigit() and len(name) <= 16 else LARGEST_STEP
    return step if step < LARGEST_STEP else None


def best_step(connection: Connection, job_id: str) -> int | None:
    """The step that `keep_best` ranks first; by the least `eval/loss` for a job that says nothing."""
    rule: dict[str, Any] = checkpoints.policy(connection, job_id).get("keep_best") or {}
    metrics = {row.step: row.metrics for row in checkpoints.all_of(connection, job_id)}
    steps = retention.ranked(metrics, rule.get("metric", FALLBACK_METRIC), rule.get("mode", "min"))
    return steps[0] if steps else None


def require_job(connection: Connection, project: str, job_id: str) -> None:
    """Raise NotFound unless the project has this job."""
    if lookup.status(connection, project, job_id) is None:
        raise NotFound("There is no such job.")


def _no_such() -> NotFound:
    return NotFound("The job has no such checkpoint.")


def shown(row: Row[Any]) -> Checkpoint:
    """A checkpoint as users see it."""
    expires_at: int | None = row.lapses_at if row.expires_at is None else row.expires_at
    return Checkpoint(
        job_id=row.job_id,
        step=row.step,
        metrics=row.metrics,
        bytes=row.bytes,
        files=row.files,
        manifest_sha256=row.manifest_sha256,
        pinned=row.pinned,
        expires_at=wire(expires_at),
        created_at=wire(int(row.created_at)),
        attempt_id=row.attempt_id,
    )


def shown_files(row: Row[Any]) -> list[ManifestFile]:
    """The manifest of a checkpoint as users see it."""
    return [ManifestFile(path=file.path, bytes=file.bytes, sha256=file.sha256) for file in files_of(row)]
