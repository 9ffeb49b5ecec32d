"""When a job ends before its last step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from jobs.errors import Issue
from jobs.spec.checkpoint import Metric
from jobs.spec.pointers import listed, quoted
from jobs.spec.strict import Document, as_object

MOST_QUANTITIES = 1000
MOST_ERROR = 1e30

SAMPLED = ("r_hat/max", "ess_bulk/min", "ess_tail/min", "divergences")
"""Metrics of a sampling job that have one value at a step."""


class TrainStop(Document):
    """When training ends early."""

    on_nonfinite: Literal["fail", "ignore"] = Field(default="fail", description="What a loss that is not finite does to the job.")
    metric: Metric | None = Field(default=None, description="The metric that is watched.")
    mode: Literal["min", "max"] = Field(default="min", description="Whether less is better, or more.")
    target: Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)] | None = Field(
        default=None, description="A value that is enough: the job ends where the metric has reached it."
    )
    patience: Annotated[int, Field(ge=1, le=10**6)] | None = Field(
        default=None, description="Evaluations without a better value to bear with."
    )


_MCSE_SCHEMA: JsonDict = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "object", "additionalProperties": {"type": "number", "exclusiveMinimum": 0}, "minProperties": 1},
        {"type": "null"},
    ]
}


def _check_mcse(value: Any) -> Any:
    by_name = as_object(value)
    numbers = list(by_name.values()) if by_name else [value]
    if value is not None and not all(_is_positive(number) for number in numbers):
        detail = 'must be a number above 0 (relative to each deviation), numbers by quantity such as {"mu": 0.1}, or null'
        raise PydanticCustomError("wrong_type", detail)
    if by_name and (len(by_name) > MOST_QUANTITIES or any(not 0 < len(name) <= 200 or "\x00" in name for name in by_name)):
        raise PydanticCustomError("out_of_range", "must name at most 1000 quantities, each by 1 to 200 characters")
    return value if by_name is None else {name: float(number) for name, number in by_name.items()}


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < MOST_ERROR


class McmcStop(Document):
    """When sampling ends early: once every target is met, or its time is up. Looked at every `checkpoint.every_draws` draws."""

    min_ess_bulk: Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)] | None = Field(
        default=None, description="Effective sample size that every quantity must reach."
    )
    min_ess_tail: Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)] | None = Field(
        default=None, description="Effective sample size in the tails that every quantity must reach."
    )
    max_r_hat: Annotated[float, Field(gt=1, le=100, allow_inf_nan=False)] | None = Field(
        default=None, description="R-hat that no quantity may exceed."
    )
    max_mcse: Annotated[Any, AfterValidator(_check_mcse), WithJsonSchema(_MCSE_SCHEMA)] = Field(
        default=None,
        description="Monte Carlo standard error of means: one number in standard deviations, or numbers by quantity.",
    )
    max_seconds: Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)] | None = Field(
        default=None, description="Running time after which what has been drawn is enough."
    )
    min_draws: Annotated[int, Field(ge=4, le=10**9)] = Field(
        default=100, description="Draws of each chain before any of these rules may end the job."
    )


def check_stop(stop: TrainStop, *, evaluates: bool, save_every: int | None) -> Iterator[Issue]:
    """Faults between the stop rule and the steps at which it is looked at.

    Args:
        stop: the rule.
        evaluates: whether there are any evaluations.
        save_every: steps between checkpoints; None where the job is saved by time alone.
    """
    if stop.metric is None:
        if stop.patience is not None or stop.target is not None:
            rule = "patience" if stop.patience is not None else "target"
            yield Issue("/stop/metric", "requires", f'{rule} needs a metric to watch: set it, for example to "eval/loss"')
    elif evaluates or stop.metric.startswith("eval/"):
        return
    elif stop.patience is not None or stop.target is None:
        detail = "patience counts evaluations, and the job has none: set data.eval_fraction, for example to 0.1"
        yield Issue("/stop/metric", "requires", detail)
    elif save_every is None:
        detail = "without evaluations a target is looked at where the job is saved by steps: set checkpoint.every_steps"
        yield Issue("/stop/target", "requires", detail)


def warn_of_best(kind: str, metric: str, save_every: int | None, eval_every: int | None) -> Iterator[Issue]:
    """Warnings about a metric that has no value at some steps that are saved."""
    pointer = "/checkpoint/keep_best/metric"
    if kind == "mcmc" and metric not in SAMPLED:
        detail = f"no metric {quoted(metric)} is measured by {kind} jobs, so none counts as best; use {listed(SAMPLED[:3])}"
        yield Issue(pointer, "never_measured", detail)
    elif kind == "train" and metric.startswith("eval/"):
        if eval_every is None:
            yield Issue(pointer, "never_measured", "is measured at the last step at most: set data.eval_fraction and eval_every")
        elif save_every is None or save_every % eval_every:
            detail = f"is measured every {eval_every} steps, and not at every step that is saved: let eval_every divide every_steps"
            yield Issue(pointer, "seldom_measured", detail)


def warn_of_idle_stop(stop: TrainStop) -> Iterator[Issue]:
    """A warning where a metric is watched and nothing can come of it."""
    if stop.metric is not None and stop.patience is None and stop.target is None:
        detail = "stop.metric has no effect without patience or target: set one of them, or leave metric out"
        yield Issue("/stop/patience", "no_effect", detail)
