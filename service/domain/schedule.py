"""When a job saves and evaluates, told before it runs."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from jobs.preflight import Findings, Notice
from jobs.spec.job import Spec


class Schedule(BaseModel):
    """Something that happens every `every` units, and at the end: `count` times in all. None of it where `every` is null."""

    every: int | None
    every_seconds: float | None
    first: int | None
    last: int | None
    count: int


class Schedules(BaseModel):
    """When checkpoints are saved and evaluations run; counts leave out saves by time."""

    save: Schedule
    evaluate: Schedule


class ValidationReport(Findings):
    """What can be told of a job without running any of it. Above level `schema` a worker's findings are in it."""

    level: str
    kind: str
    platform: str
    devices: int
    devices_open: bool
    mesh_axes: dict[str, int]
    total: int
    unit: str
    schedule: Schedules
    warnings: list[Notice]
    resolved_spec: dict[str, Any]


def report(spec: Spec, level: str, found: Findings | None = None) -> ValidationReport:
    """The report on a spec that has been read, with what a worker found."""
    findings = found or Findings()
    saving = spec.resolved["checkpoint"]
    save = _schedule(saving.get("every_steps") or saving.get("every_draws"), spec.total, saving.get("every_seconds"))
    # Field by field, not anew from a document: what a worker has said has been checked.
    parts: dict[str, Any] = {name: getattr(findings, name) for name in Findings.model_fields if name != "notices"}
    return ValidationReport(
        **parts,
        level=level,
        kind=spec.kind,
        platform=spec.platform,
        devices=spec.devices,
        devices_open=spec.devices_open,
        mesh_axes=spec.resolved["mesh"]["axes"],
        total=spec.total,
        unit=spec.unit,
        schedule=Schedules(save=save, evaluate=_schedule(spec.resolved.get("eval_every"), spec.total, None)),
        warnings=[*(Notice.model_validate(warning) for warning in spec.warnings), *findings.notices],
        resolved_spec=spec.resolved,
    )


def _schedule(every: int | None, total: int, seconds: float | None) -> Schedule:
    if every is None:
        return Schedule(every=None, every_seconds=seconds, first=None, last=total if seconds is not None else None, count=0)
    return Schedule(every=every, every_seconds=seconds, first=min(every, total), last=total, count=-(-total // every))
