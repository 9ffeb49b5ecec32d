"""What a child is handed with its first message: the data, and what is read beside it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from jobs.programs.data import Beside, DataFile
from jobs.programs.preflight.look import Subject
from worker import limits
from worker.channel import Message


def beside(start: Message) -> Beside:
    """The files that are read beside the data."""
    assignment, paths = start["assignment"], start["beside"]
    files = {role: DataFile(Path(paths[role]), file["format"], file["sha256"]) for role, file in assignment["beside"].items()}
    sha256 = assignment["dataset"]["sha256"] if assignment["dataset"] else ""
    draws = Path(start["outputs"]) if start["resume"] and predicts(start) else None
    return Beside(sha256, files.get("tokenizer"), files.get("eval"), Path(start["encoded"]), draws, files.get("fitted"))


def predicts(start: Message) -> bool:
    """Whether the job works with the draws of another."""
    return start["assignment"]["spec"]["kind"] == "predict"


def folders(start: Message) -> list[Path]:
    """Where the bundles of a user's code are unpacked."""
    return [Path(folder) for folder in start.get("code", {}).values()]


def subject(start: Message) -> Subject:
    """The job as it is built and weighed. Starts the backend."""
    assignment = start["assignment"]
    spec: dict[str, Any] = assignment["spec"]
    dataset = assignment["dataset"]
    return Subject(
        spec=spec,
        axes=assignment["mesh_axes"],
        path=Path(start["dataset"]) if start["dataset"] else None,
        form=dataset["format"] if dataset else None,
        host_bytes=limits.host_bytes(spec),
        limit=limits.limit_of(spec, math.prod(assignment["mesh_axes"].values())),
        beside=beside(start),
        folders=tuple(folders(start)),
        disk_bytes=limits.disk_bytes(Path(start["directory"])),
    )
