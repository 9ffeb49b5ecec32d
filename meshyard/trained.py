"""A trained model, ready to call: out of a job's checkpoint or a folder that was downloaded.

Computing needs what a worker has (`pip install 'meshyard[worker]'`); it is imported when it is first needed, so that the client and
the command line go without.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshyard.errors import MissingExtra, NoCheckpoint
from meshyard.flows.requests import job_id

if TYPE_CHECKING:
    from meshyard.client import Client
    from meshyard.flows.checkpoints import Which
    from meshyard.models import Job

CACHE = "~/.cache/meshyard/checkpoints"
OWN_PACKAGES = frozenset({"jobs", "meshyard"})


def load(
    job: Job | str | PathLike[str],
    step: Which | None = None,
    *,
    client: Client | None = None,
    to: str | PathLike[str] | None = None,
    trial: int | None = None,
    target: Callable[..., Any] | None = None,
) -> Any:
    """The model that a training job has made: a `flax.nnx.Module` with its parameters, in eval mode, on the first device.

    Every file is checked against its SHA-256 as it is downloaded; what is there already is checked again and not fetched again.

    Args:
        job: the job, its id, or the folder of a checkpoint that was downloaded before.
        step: the newest, the best by the job's own measure, or that of a step; None: the best if any was measured, else the newest.
        client: of the service; a new one by default, for the server that the environment names.
        to: folder to keep the download in; below `~/.cache/meshyard/checkpoints` by default.
        trial: the member of an ensemble; None for any other job.
        target: for a model of your own, the class that its `target` names, imported by you: code from a service is never run here.

    Raises:
        NoCheckpoint: there is none such.
        DownloadCorrupt: bytes came twice that are not the manifest's.
        MissingExtra: JAX and Flax are not installed here.
        MeshyardError: it is a sampling job, or not a checkpoint, or an ensemble of which no member is named, or
            a model of your own without `target`.
    """
    programs = numerical()
    return programs.load(fetch(job, step, client=client, to=to), trial, target).module


def fetch(
    job: Job | str | PathLike[str],
    step: Which | None = None,
    *,
    client: Client | None = None,
    to: str | PathLike[str] | None = None,
) -> Path:
    """The folder of a checkpoint on this machine, verified; the arguments are those of `load`."""
    if isinstance(job, PathLike):
        return Path(os.fspath(job))
    if isinstance(job, str) and Path(job).is_dir():
        return Path(job)
    if client is not None:
        return _fetched(client, job, step, to)
    from meshyard.client import Client  # noqa: PLC0415  (a folder needs no client)

    with Client() as own:
        return _fetched(own, job, step, to)


def numerical() -> Any:
    """The module `jobs.programs.trained`. Raises MissingExtra where the libraries that it needs are not installed."""
    try:
        from jobs.programs import trained  # noqa: PLC0415  (the base install has no JAX)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing in OWN_PACKAGES:
            raise
        raise MissingExtra(missing, "worker") from error
    return trained


def _fetched(client: Client, job: Job | str, step: Which | None, to: str | PathLike[str] | None) -> Path:
    found = client.checkpoints.find(job, step if step is not None else _usual(client, job))
    folder = Path(CACHE).expanduser() / job_id(job) if to is None else Path(to)
    return client.checkpoints.download(job, found.step, to=folder)


def _usual(client: Client, job: Job | str) -> Which:
    try:
        return client.checkpoints.find(job, "best").step
    except NoCheckpoint:
        return "latest"
