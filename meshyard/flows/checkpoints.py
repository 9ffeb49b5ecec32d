"""Checkpoints and artifacts: listed, pinned, brought home."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import quote

from meshyard.effects import Flow
from meshyard.errors import DownloadCorrupt, NoArtifact, NoCheckpoint
from meshyard.flows.download import OnBytes, Wanted, download_folder, download_to, ignore_bytes, save_stream
from meshyard.flows.jobs import get_job
from meshyard.flows.requests import JobRef, fetch, fetch_list, get, job_id, job_path, with_json
from meshyard.models import Checkpoint, Document, File, Job

Which: TypeAlias = Literal["latest", "best"] | int
"""A checkpoint: the newest, the best by the job's own measure, or that of a step."""

ArchiveFormat: TypeAlias = Literal["tar", "safetensors"]
SUFFIX: Mapping[str, str] = {"tar": ".tar", "safetensors": ".safetensors"}


def list_checkpoints(job: JobRef) -> Flow[list[Checkpoint]]:
    """Every committed checkpoint, by rising step."""
    return (yield from fetch_list(Checkpoint, job_path(job, "checkpoints")))


def files(job: JobRef, step: int) -> Flow[list[File]]:
    """A checkpoint's manifest."""
    return (yield from fetch_list(File, job_path(job, "checkpoints", str(step), "files")))


def pin(job: JobRef, step: int, *, pinned: bool = True) -> Flow[Checkpoint]:
    """Keep a checkpoint whatever the job's rules say, or let it go again."""
    return (yield from fetch(Checkpoint, with_json("PATCH", job_path(job, "checkpoints", str(step)), {"pinned": pinned})))


def expire(job: JobRef, step: int, at: str | None) -> Flow[Checkpoint]:
    """Keep a checkpoint until an instant (RFC 3339) and no longer; None: it does not expire, whatever `ttl_seconds` says."""
    return (yield from fetch(Checkpoint, with_json("PATCH", job_path(job, "checkpoints", str(step)), {"expires_at": at})))


def find(job: JobRef, step: Which = "latest") -> Flow[Checkpoint]:
    """The checkpoint that `step` means. Raises NoCheckpoint."""
    found = yield from list_checkpoints(job)
    if not found:
        raise NoCheckpoint(f"{job_id(job)} has no checkpoint yet")
    if step == "latest":
        return max(found, key=lambda checkpoint: checkpoint.step)
    if step == "best":
        return best_of(found, *measure((yield from get_job(job))))
    for checkpoint in found:
        if checkpoint.step == step:
            return checkpoint
    steps = ", ".join(str(checkpoint.step) for checkpoint in found)
    raise NoCheckpoint(f"{job_id(job)} has no checkpoint at step {step}; there are {steps}")


def measure(job: Job) -> tuple[str, str]:
    """The metric a job is judged by, and whether less or more of it is better: its own rule, else the evaluation loss."""
    spec = job.resolved_spec or {}
    keeping: Document = spec.get("checkpoint") or {}
    rule: Document = keeping.get("keep_best") or {}
    return str(rule.get("metric") or "eval/loss"), str(rule.get("mode") or "min")


def best_of(checkpoints: list[Checkpoint], metric: str, mode: str) -> Checkpoint:
    """The checkpoint with the best value; of equals the earliest. Raises NoCheckpoint if none has that metric."""
    measured = [(value, item) for item in checkpoints if (value := item.metrics.get(metric)) is not None]
    if not measured:
        raise NoCheckpoint(f"no checkpoint holds a value of {metric}: ask for latest, or a step")
    sign = -1 if mode == "max" else 1
    return min(measured, key=lambda pair: (sign * pair[0], pair[1].step))[1]


def download(
    job: JobRef,
    step: Which = "latest",
    to: str | PathLike[str] = ".",
    *,
    on_bytes: OnBytes = ignore_bytes,
) -> Flow[Path]:
    """Bring a checkpoint home: the folder `to/{step}`, every file checked against its SHA-256.

    An interrupted download goes on where it broke, also when the process is started again. Nothing stands under the final name
    before all of it is right.

    Args:
        job: the job, or its id.
        step: the newest, the best by the job's own measure, or that of a step.
        to: folder to put it in.
        on_bytes: called with the number of bytes that have just come in.

    Raises:
        NoCheckpoint: there is none such.
        DownloadCorrupt: bytes came twice that are not the manifest's.
        FileExistsError: `to/{step}` holds something else.
    """
    checkpoint = yield from find(job, step)
    manifest = yield from files(job, checkpoint.step)
    if checkpoint.manifest_sha256 not in (None, manifest_digest(manifest)):
        raise DownloadCorrupt(f"the manifest of step {checkpoint.step}")
    source = job_path(job, "checkpoints", str(checkpoint.step), "files")
    wanted = [Wanted(f"{source}/{quote(file.path)}", file) for file in manifest]
    return (yield from download_folder(wanted, Path(to) / str(checkpoint.step), on_bytes))


def manifest_digest(manifest: list[File]) -> str:
    """SHA-256 of a manifest as `sha256sum` writes it, sorted by path: what the service shows as `manifest_sha256`."""
    lines = "".join(f"{file.sha256}  {file.path}\n" for file in sorted(manifest, key=lambda file: file.path))
    return hashlib.sha256(lines.encode()).hexdigest()


def download_archive(
    job: JobRef,
    step: Which = "latest",
    to: str | PathLike[str] | None = None,
    *,
    format: ArchiveFormat = "tar",  # noqa: A002 - the API's own word
    on_bytes: OnBytes = ignore_bytes,
) -> Flow[Path]:
    """Bring a checkpoint home as one file.

    Args:
        job: the job, or its id.
        step: the newest, the best by the job's own measure, or that of a step.
        to: the file; `{step}.tar` or `{step}.safetensors` here by default.
        format: "tar" unpacks to `{step}/`; "safetensors" holds parameters and batch statistics only.
        on_bytes: called with the number of bytes that have just come in.
    """
    checkpoint = yield from find(job, step)
    target = Path(to) if to is not None else Path(f"{checkpoint.step}{SUFFIX[format]}")
    request = get(job_path(job, "checkpoints", str(checkpoint.step), "archive"), format=format)
    return (yield from save_stream(request, target, on_bytes))


def list_artifacts(job: JobRef) -> Flow[list[File]]:
    """Every artifact of a job."""
    return (yield from fetch_list(File, job_path(job, "artifacts")))


def download_artifact(
    job: JobRef,
    path: str,
    to: str | PathLike[str] | None = None,
    *,
    on_bytes: OnBytes = ignore_bytes,
) -> Flow[Path]:
    """Bring one artifact home, checked against its SHA-256.

    Args:
        job: the job, or its id.
        path: as `artifacts` lists it.
        to: the file, or a folder that exists; by default the artifact's own name, here.
        on_bytes: called with the number of bytes that have just come in.
    """
    found = [file for file in (yield from list_artifacts(job)) if file.path == path]
    if not found:
        raise NoArtifact(f"{job_id(job)} has no artifact {path}")
    target = Path(to) if to is not None else Path()
    if target.is_dir():
        target /= Path(path).name
    return (yield from download_to(Wanted(f"{job_path(job, 'artifacts')}/{quote(path)}", found[0]), target, on_bytes))
