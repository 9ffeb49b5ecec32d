"""The way through: from a resolved spec to findings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from jobs.preflight import Examined, Findings, Notice
from jobs.programs.data import ALONE, Beside
from jobs.programs.mcmc import McmcProgram
from jobs.programs.preflight import checklist, compiling, notices, sampling, shapes
from jobs.programs.preflight.candidates import Retrial
from jobs.programs.preflight.compiling import Limit
from jobs.programs.program import Program
from jobs.programs.purity import program_warnings
from jobs.programs.registry import build_program
from jobs.programs.svi import SviProgram
from jobs.programs.train import TrainProgram

MOST_NOTICES = 20


@dataclass(frozen=True)
class Subject:
    """What is looked at.

    Attributes:
        spec: the resolved spec.
        axes: mesh axis sizes.
        path, form, beside: the data, as `build_program` takes it.
        host_bytes: memory that the job may have on its host.
        limit: what a device has; None where that is not known.
        folders: where the bundles of a user's code are unpacked.
        disk_bytes: what is free where the attempt writes; None where that is not known.
    """

    spec: dict[str, Any]
    axes: Mapping[str, int]
    path: Path | None
    form: str | None
    host_bytes: int
    limit: Limit | None
    beside: Beside = ALONE
    folders: tuple[Path, ...] = ()
    disk_bytes: int | None = None

    def build(self, spec: dict[str, Any] | None = None) -> Program:
        """The program, or the one of another spec over the same data."""
        return build_program(spec or self.spec, self.axes, self.path, self.form, self.beside)


class Stopwatch:
    """Seconds by what was done in them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        """Do some work; gives what it gives."""
        began = time.perf_counter()
        try:
            return work()
        finally:
            self.seconds[name] = round(time.perf_counter() - began, 3)


def examine(subject: Subject, level: str, versions: Mapping[str, str], *, virtual: bool) -> Findings:
    """Look at a job.

    Args:
        subject: the job, its data and the memory it may have.
        level: `shapes` traces it; `compile` also compiles it for its mesh.
        versions: of the libraries, to be told.
        virtual: whether the devices are only made for this.

    Raises:
        UserFault: the job cannot be built.
    """
    watch = Stopwatch()
    program = watch.time("build", subject.build)
    parts = _shapes(subject, program, watch)
    if level == "compile":
        parts |= _compiled(subject, program, watch)
    device = jax.devices()[0]
    examined = Examined(
        platform=device.platform,
        device_kind=device.device_kind,
        devices=len(jax.devices()),
        virtual=virtual,
        mesh_axes=dict(subject.axes),
        versions=dict(versions),
        seconds=watch.seconds,
    )
    findings = Findings(examined=examined, **parts)
    return findings.model_copy(
        update={
            "checklist": checklist.checklist(subject.spec, findings, parts.get("verdict") is not None, _traced(program, watch)),
            "notices": [*notices.notices(subject.spec, findings), *_impure(subject, program)],
        }
    )


def _impure(subject: Subject, program: Program) -> list[Notice]:
    """What is impure or outdated in a user's own code."""
    found: list[Notice] = []
    for warning in program_warnings(program, subject.folders)[:MOST_NOTICES]:
        where = f"{warning['file']}, line {warning['line']}: " if warning["file"] else ""
        found.append(Notice(pointer="/model", code=warning["code"], detail=where + warning["detail"]))
    return found


def _shapes(subject: Subject, program: Program, watch: Stopwatch) -> dict[str, Any]:
    if isinstance(program, McmcProgram):
        return {"sampling": watch.time("sites", lambda: sampling.sampling(program, subject.host_bytes, subject.disk_bytes))}
    if isinstance(program, SviProgram):
        return watch.time("trace", lambda: shapes.fitting(program))
    if isinstance(program, TrainProgram):
        return watch.time("trace", lambda: shapes.training(program))
    return {}


def _traced(program: Program, watch: Stopwatch) -> checklist.Traced:
    return watch.time("purity", lambda: checklist.trace(program))


def _compiled(subject: Subject, program: Program, watch: Stopwatch) -> dict[str, Any]:
    compiled, executable = watch.time("compile", lambda: compiling.compile_step(program))
    parts: dict[str, Any] = {"compiled": compiled}
    if subject.limit is None:
        return parts
    verdict = compiling.verdict(compiled, subject.limit)
    parts["verdict"] = verdict
    if verdict.code == "would_oom":
        del executable
        retrial = Retrial(subject.spec, subject.axes, subject.build, subject.limit)
        parts["suggestions"] = watch.time("suggestions", lambda: retrial.ranked(verdict.need_bytes))
    return parts
