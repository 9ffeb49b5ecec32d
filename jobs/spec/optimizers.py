"""Rules of optimizers and schedules that no schema of their arguments can state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jobs.errors import Issue
from jobs.spec.catalog import named
from jobs.spec.pointers import join

Named = dict[str, Any]
POINTER = "/optimizer"


def check_schedules(optimizer: Named) -> Iterator[Issue]:
    """Schedules whose arguments contradict each other."""
    for section, value, pointer in named("optimizers", optimizer, POINTER):
        if section == "schedules":
            yield from _faults_of_schedule(value, pointer)


def check_accumulation(optimizer: Named, pieces: int) -> Iterator[Issue]:
    """Two ways of accumulating gradients at once."""
    if pieces > 1 and any(value["type"] == "MultiSteps" for _, value, _ in named("optimizers", optimizer, POINTER)):
        detail = "MultiSteps accumulates gradients too, and schedules would then count neither: leave one of the two out"
        yield Issue("/grad_accumulation", "conflict", detail)


def warn_of_optimizer(optimizer: Named, steps: int) -> Iterator[Issue]:
    """What an optimizer or schedule does that its user may not expect."""
    for _, value, pointer in named("optimizers", optimizer, POINTER):
        warmup = value.get("warmup_steps")
        if warmup is not None and warmup >= steps:
            yield Issue(
                join(pointer, "warmup_steps"), "never_reached", "the job ends before its warm-up does: use fewer, or more steps"
            )
        if value["type"].startswith("schedule_free"):
            detail = "evaluated and saved are the parameters that gradients are taken at, not the average that this method is about"
            yield Issue(join(pointer, "type"), "training_iterate", detail)


def _faults_of_schedule(value: Named, pointer: str) -> Iterator[Issue]:
    if value["type"] == "warmup_cosine_decay_schedule":
        yield from _faults_of_warmup(value, pointer)
    elif value["type"] == "sgdr_schedule":
        for at, cycle in enumerate(value["cosine_kwargs"]):
            yield from _faults_of_warmup(cycle, join(pointer, "cosine_kwargs", at))
    elif value["type"] == "join_schedules":
        yield from _faults_of_joints(value, join(pointer, "boundaries"))
    elif value["type"] == "linear_onecycle_schedule" and value["pct_start"] >= value["pct_final"]:
        yield Issue(join(pointer, "pct_start"), "out_of_range", f"must be less than pct_final, which is {value['pct_final']:g}")


def _faults_of_warmup(value: Mapping[str, Any], pointer: str) -> Iterator[Issue]:
    if value["warmup_steps"] >= value["decay_steps"]:
        detail = f"must be less than decay_steps, which is {value['decay_steps']} and counts the warm-up too"
        yield Issue(join(pointer, "warmup_steps"), "out_of_range", detail)


def _faults_of_joints(value: Mapping[str, Any], pointer: str) -> Iterator[Issue]:
    boundaries, wanted = value["boundaries"], len(value["schedules"]) - 1
    if len(boundaries) != wanted:
        yield Issue(pointer, "out_of_range", f"must hold {wanted}, one between each two schedules")
    elif sorted(set(boundaries)) != boundaries:
        yield Issue(pointer, "out_of_range", "must grow: each schedule begins after the one before it")
