"""Optimizers and schedules of Optax from the fitted objects of a spec."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jobs.programs.library import arguments, found
from jobs.programs.masks import label_tree, mask_tree
from jobs.spec.catalog import load
from jobs.spec.optimizers import MASKS, POINTER, injected, rates
from jobs.spec.pointers import join

Named = dict[str, Any]
Rate = Callable[[Any], Any]
"""Something as a function of the number of updates done."""


def build(optimizer: Named, paths: Collection[str] = ()) -> optax.GradientTransformation:
    """The transformation that a resolved `optimizer` names.

    Args:
        optimizer: fitted to the catalog.
        paths: the dotted paths of the parameters, for masks over them.

    Raises:
        UserFault: a mask's pattern matches no parameter.
    """
    return _Builder(tuple(paths)).build(optimizer, POINTER)


def build_schedule(schedule: Named) -> optax.Schedule:
    """The schedule that a fitted object names: a function of the number of updates done."""
    return _Builder(()).schedule(schedule, "")


def learning_rate(optimizer: Named) -> Rate | None:
    """The learning rate; None for an optimizer that has none of its own, or one for each part of the parameters.

    In a chain it is the last one, by which all before it is scaled.
    """
    return learning_rates(optimizer).get("learning_rate")


def learning_rates(optimizer: Named) -> dict[str, Rate]:
    """Every learning rate by the name of its metric: `learning_rate`, or `learning_rate/{label}` of a `partition`."""
    return {name: _slowed(_rate(value), every) for name, (value, every) in rates(optimizer).items()}


def hyperparams(opt_state: Any) -> dict[str, Any]:
    """What `inject_hyperparams` used in the last update, as metrics; the learning rate is one already."""
    return {
        f"hyperparams/{name}": value
        for state in states_of(opt_state, optax.InjectStatefulHyperparamsState)
        for name, value in state.hyperparams.items()
        if name != "learning_rate"
    }


def clipped_fraction(clip: Named, grads: Any, norm: jax.Array) -> jax.Array:
    """How much of a gradient a clip cuts: all or nothing by its norm, or the part of its entries that are too large."""
    if clip["type"] == "clip_by_global_norm":
        return (norm > clip["max_norm"]).astype(jnp.float32)
    leaves = jax.tree.leaves(grads)
    beyond = [jnp.sum(jnp.abs(leaf) > clip["max_delta"], dtype=jnp.float32) for leaf in leaves]
    return jnp.sum(jnp.stack(beyond)) / sum(leaf.size for leaf in leaves)


def states_of(opt_state: Any, kind: type) -> Iterator[Any]:
    """The states of one kind of transformation, however deep in the state of an optimizer."""
    if isinstance(opt_state, kind):
        yield opt_state
    inner = opt_state.values() if isinstance(opt_state, dict) else opt_state if isinstance(opt_state, tuple | list) else ()
    for each in inner:
        yield from states_of(each, kind)


def _rate(value: Any) -> Rate:
    return build_schedule(value) if isinstance(value, dict) else optax.constant_schedule(value)


def _slowed(rate: Rate, every: int) -> Rate:
    return rate if every == 1 else lambda count: rate(count // every)


class _Builder:
    """Builds what a fitted object names, for parameters of known paths."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._paths = paths

    def build(self, optimizer: Named, pointer: str) -> optax.GradientTransformation:
        special = {"chain": self._chain, "inject_hyperparams": self._inject, "MultiSteps": self._multi_steps, "sam": self._sam}
        if optimizer["type"] in special:
            return special[optimizer["type"]](optimizer, pointer)
        return found("optimizers", optimizer["type"])(**self._arguments(optimizer, pointer))

    def schedule(self, schedule: Named, pointer: str) -> optax.Schedule:
        given = self._arguments(schedule, pointer)
        if given.get("boundaries_and_scales") is not None:
            # JSON has no integer keys.
            given["boundaries_and_scales"] = {int(step): scale for step, scale in given["boundaries_and_scales"].items()}
        return found("schedules", schedule["type"])(**given)

    def _chain(self, optimizer: Named, pointer: str) -> optax.GradientTransformation:
        return optax.chain(*self._arguments(optimizer, pointer)["transforms"])

    def _multi_steps(self, optimizer: Named, pointer: str) -> optax.GradientTransformation:
        return optax.MultiSteps(**self._arguments(optimizer, pointer)).gradient_transformation()

    def _sam(self, optimizer: Named, pointer: str) -> optax.GradientTransformation:
        # It says that it takes extra arguments such as `value`, and refuses them.
        return optax.GradientTransformation(*optax.contrib.sam(**self._arguments(optimizer, pointer)))

    def _inject(self, optimizer: Named, pointer: str) -> optax.GradientTransformation:
        inner = optimizer["inner_factory"]
        factory = found("optimizers", inner["type"])
        static = set(inspect.signature(factory).parameters) - set(injected(inner))
        wrapped = optax.inject_hyperparams(factory, static, optimizer["hyperparam_dtype"])
        return wrapped(**self._arguments(inner, join(pointer, "inner_factory")))

    def _arguments(self, value: Named, pointer: str) -> dict[str, Any]:
        return {name: self._built(item, join(pointer, name), name) for name, item in arguments(value).items()}

    def _built(self, value: Any, pointer: str, name: str = "") -> Any:
        if name == "param_labels":
            return label_tree(value, self._paths, pointer)
        if isinstance(value, tuple):
            return tuple(self._built(item, join(pointer, at)) for at, item in enumerate(value))
        return self._built_of_object(value, pointer, name) if isinstance(value, dict) else value

    def _built_of_object(self, value: Named, pointer: str, name: str) -> Any:
        if name in MASKS:
            return mask_tree(value, self._paths, pointer)
        if name == "transforms":
            return {label: self.build(item, join(pointer, label)) for label, item in value.items()}
        if "type" not in value:
            return value
        is_schedule = value["type"] in load().sections["schedules"]
        return self.schedule(value, pointer) if is_schedule else self.build(value, pointer)
