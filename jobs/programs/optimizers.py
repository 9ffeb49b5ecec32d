"""Optimizers and schedules of Optax from the fitted objects of a spec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import optax

from jobs.programs.library import arguments, found
from jobs.spec.catalog import load

Named = dict[str, Any]
SINGLE_RATE = ("learning_rate", "max_learning_rate")


def build(optimizer: Named) -> optax.GradientTransformation:
    """The transformation that a resolved `optimizer` names."""
    given = {name: _built(value) for name, value in arguments(optimizer).items()}
    if optimizer["type"] == "chain":
        return optax.chain(*given["transforms"])
    if optimizer["type"] == "MultiSteps":
        return optax.MultiSteps(**given).gradient_transformation()
    if optimizer["type"] == "sam":
        # It says that it takes extra arguments such as `value`, and refuses them.
        return optax.GradientTransformation(*optax.contrib.sam(**given))
    return found("optimizers", optimizer["type"])(**given)


def build_schedule(schedule: Named) -> optax.Schedule:
    """The schedule that a fitted object names: a function of the number of updates done."""
    given = {name: _built(value) for name, value in arguments(schedule).items()}
    if given.get("boundaries_and_scales") is not None:
        # JSON has no integer keys.
        given["boundaries_and_scales"] = {int(step): scale for step, scale in given["boundaries_and_scales"].items()}
    return found("schedules", schedule["type"])(**given)


def learning_rate(optimizer: Named) -> Callable[[Any], Any] | None:
    """The learning rate as a function of the number of updates done; None for an optimizer that has none of its own.

    In a chain it is the last one, by which all before it is scaled.
    """
    if optimizer["type"] == "MultiSteps":
        inner, every = learning_rate(optimizer["opt"]), optimizer["every_k_schedule"]
        return None if inner is None else lambda count: inner(count // every)
    rate = next((optimizer[name] for name in SINGLE_RATE if optimizer.get(name) is not None), None)
    if rate is not None:
        return build_schedule(rate) if isinstance(rate, dict) else optax.constant_schedule(rate)
    return next((rate for inner in _inside(optimizer) if (rate := learning_rate(inner)) is not None), None)


def _inside(optimizer: Named) -> Iterator[Named]:
    """The optimizers within another, the last first."""
    values = [item for value in optimizer.values() for item in (value if isinstance(value, list) else [value])]
    legal = load().sections["optimizers"]
    yield from (value for value in reversed(values) if isinstance(value, dict) and value.get("type") in legal)


def _built(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_built(item) for item in value)
    if not isinstance(value, dict) or "type" not in value:
        return value
    return build_schedule(value) if value["type"] in load().sections["schedules"] else build(value)
