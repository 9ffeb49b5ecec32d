"""The rules between the parts of a job that fits a guide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jobs.errors import Issue
from jobs.spec import mcmc_checks, origin, stop
from jobs.spec.catalog import named
from jobs.spec.checkpoint import TrainCheckpoint
from jobs.spec.draft import Check
from jobs.spec.mesh import OPEN, Placement
from jobs.spec.numerics import Debug, warn_of_debug
from jobs.spec.optimizers import FUNCTIONAL, MASKS, POINTER, check_parts, check_schedules, warn_of_optimizer
from jobs.spec.pointers import join
from jobs.spec.program.document import Program
from jobs.spec.stop import TrainStop

Named = dict[str, Any]


def _check_mesh(placement: Placement) -> Iterator[Issue]:
    if placement.devices != 1 or OPEN in placement.axes.values():
        yield Issue("/mesh/axes", "out_of_range", "a guide is fitted on one device: leave mesh out, or give every axis size 1")


def _check_program(program: Program) -> Iterator[Issue]:
    yield from mcmc_checks.check_program(program, {"type": "a guide"})


def _check_optimizer(optimizer: Named) -> Iterator[Issue]:
    for _, value, pointer in named("optimizers", optimizer, POINTER):
        if value["type"] in FUNCTIONAL:
            detail = f"{value['type']} computes the loss of a batch again, and an ELBO is drawn anew each time: use another"
            yield Issue(join(pointer, "type"), "conflict", detail)
            return
        for name in MASKS:
            if value.get(name) not in (None, True, False):
                detail = "patterns over the parameters of a network have nothing to match in a guide: leave them out"
                yield Issue(join(pointer, name), "conflict", detail)
        if value["type"] in ("partition", "masked", "freeze", "selective_transform"):
            yield Issue(join(pointer, "type"), "conflict", "parts of a network's parameters have no like in a guide: use another")


def _check_stop(rule: TrainStop, eval_every: int | None, given: frozenset[str], checkpoint: TrainCheckpoint) -> Iterator[Issue]:
    evaluates = eval_every is not None or "eval_every" not in given
    by_time = "every_steps" in checkpoint.model_fields_set and checkpoint.every_steps is None
    yield from stop.check_stop(rule, evaluates=evaluates, save_every=None if by_time else 1)


def _warn_of_debug(debug: Debug, steps: int) -> Iterator[Issue]:
    yield from warn_of_debug(debug, steps)


CHECKS: tuple[Check, ...] = (
    *mcmc_checks.DATA_CHECKS,
    Check(("program",), _check_program),
    Check(("placement",), _check_mesh),
    Check(("optimizer",), check_schedules),
    Check(("optimizer",), check_parts),
    Check(("optimizer",), _check_optimizer),
    Check(("stop", "eval_every", "given", "checkpoint"), _check_stop),
)
WARNINGS: tuple[Check, ...] = (
    Check(("debug", "steps"), _warn_of_debug),
    Check(("stop",), stop.warn_of_idle_stop),
    Check(("optimizer", "steps"), warn_of_optimizer),
)
WHOLE_ORIGIN_CHECKS: tuple[Check, ...] = (
    Check(("model", "origin"), origin.check_same_model),
    Check(("guide", "origin"), origin.check_same_guide),
    Check(("optimizer", "origin"), origin.check_same_optimizer),
    Check(("steps", "origin"), origin.check_same_length),
)
