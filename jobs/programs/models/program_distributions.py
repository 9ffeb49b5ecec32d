"""Distributions of a program as NumPyro's objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints, transforms

from jobs.programs.library import found
from jobs.programs.models.program_expressions import evaluate, evaluate_size, fault
from jobs.spec.catalog import load
from jobs.spec.pointers import join
from jobs.spec.program.distributions import role_of
from jobs.spec.program.forms import CONSTRAINTS, TRANSFORMS

Scope = Mapping[str, Any]
REFUSALS = (AssertionError, AttributeError, IndexError, NotImplementedError, TypeError, ValueError)
INTEGERS = ("total_count", "n", "permutation")
"""Arguments whose integers stay integers; all other numbers become real."""


class Restricted(dist.Distribution):
    """A distribution's density on a part of its support, not normalised: Stan's `real<lower=0> x; x ~ normal(0, 1);`.

    Args:
        base: gives the density.
        support: where the value lies; its axes are among the event's.
    """

    pytree_data_fields = ("base", "_support")

    def __init__(self, base: dist.Distribution, support: constraints.Constraint) -> None:
        outer = base.event_dim - support.event_dim
        if outer < 0:
            axes = "axis" if support.event_dim == 1 else "axes"
            raise ValueError(f"the constraint is on {support.event_dim} {axes} of one value: give the site a shape")
        self.base = base
        self._support = constraints.independent(support, outer) if outer else support
        super().__init__(base.batch_shape, base.event_shape)

    @property
    def support(self) -> Any:
        """Where the value lies."""
        return self._support

    def log_prob(self, value: Any, intermediates: list[Any] | None = None) -> Any:
        """The density of the base."""
        return self.base.log_prob(value)


def build(value: dict[str, Any], scope: Scope, pointer: str) -> dist.Distribution:
    """The distribution that a normalised object names.

    Raises:
        UserFault: its arguments do not go together.
    """
    properties = load().entry("distributions", value["type"])["schema"]["properties"]
    given = {name: _argument(value[name], role_of(schema), name, scope, join(pointer, name)) for name, schema in properties.items()}
    try:
        return _modified(_made(value["type"], given), value, scope, pointer)
    except REFUSALS as error:
        raise fault(pointer, f"NumPyro cannot build {value['type']} of these: {_first_line(error)}") from error


def build_constraint(value: dict[str, Any], scope: Scope, pointer: str) -> constraints.Constraint:
    """The constraint that a normalised object names."""
    arguments = CONSTRAINTS[value["type"]]
    given = {name: _argument(value[name], argument.role, name, scope, join(pointer, name)) for name, argument in arguments.items()}
    constraint: Any = getattr(constraints, value["type"])
    return constraint(*given.values()) if given else constraint


def build_transform(value: dict[str, Any], scope: Scope, pointer: str) -> transforms.Transform:
    """The transform that a normalised object names."""
    arguments = TRANSFORMS[value["type"]]
    given = {name: _argument(value[name], argument.role, name, scope, join(pointer, name)) for name, argument in arguments.items()}
    if value["type"] == "inverse":
        return given["of"].inv
    if "permutation" in given:
        given["permutation"] = jnp.asarray(given["permutation"])
    return getattr(transforms, value["type"])(**given)


def shaped(found: dist.Distribution, shape: tuple[int, ...]) -> dist.Distribution:
    """The distribution of one value with this many more axes, which all belong to it."""
    if isinstance(found, dist.ImproperUniform) and found.batch_shape == ():
        found = dist.ImproperUniform(found.support, shape, found.event_shape)
    else:
        found = found.expand(shape)
    return found.to_event(len(shape)) if shape else found


def restricted(found: dist.Distribution, support: constraints.Constraint) -> Restricted:
    """A distribution on a part of its support; axes of its arguments become the constraint's where it has no axes of its own."""
    missing = support.event_dim - found.event_dim
    return Restricted(found.to_event(missing) if 0 < missing <= len(found.batch_shape) else found, support)


def _made(name: str, given: dict[str, Any]) -> dist.Distribution:
    if name == "ImproperUniform":
        return dist.ImproperUniform(given["support"], tuple(given["batch_shape"]), tuple(given["event_shape"]))
    if name == "Independent":
        return given["base_dist"].to_event(given["reinterpreted_batch_ndims"])
    if name == "ExpandedDistribution":
        return given["base_dist"].expand(tuple(given["batch_shape"]))
    if name == "MaskedDistribution":
        return given["base_dist"].mask(jnp.asarray(given["mask"]))
    return found("distributions", name)(**{key: tuple(item) if key.endswith("_shape") else item for key, item in given.items()})


def _modified(made: dist.Distribution, value: dict[str, Any], scope: Scope, pointer: str) -> dist.Distribution:
    if value["expand"] is not None:
        sizes = [evaluate_size(size, scope, join(pointer, "expand", at)) for at, size in enumerate(value["expand"])]
        made = made.expand(tuple(sizes))
    count = evaluate_size(value["to_event"], scope, join(pointer, "to_event"))
    made = made.to_event(count) if count else made
    if value["mask"] is not None:
        made = made.mask(jnp.asarray(evaluate(value["mask"], scope, join(pointer, "mask"))).astype(bool))
    return made


def _argument(value: Any, role: str, name: str, scope: Scope, pointer: str) -> Any:
    if value is None or role == "choice":
        return value
    if role == "value":
        return _numbers(evaluate(value, scope, pointer), name)
    if role == "size":
        return evaluate_size(value, scope, pointer)
    if isinstance(value, list):
        return [_argument(item, role.rstrip("s"), name, scope, join(pointer, at)) for at, item in enumerate(value)]
    builders: dict[str, Any] = {"distribution": build, "transform": build_transform, "constraint": build_constraint}
    return builders[role.rstrip("s")](value, scope, pointer)


def _numbers(value: Any, name: str) -> Any:
    """An argument as the library wants it: numbers as they are, arrays as JAX's."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float):
        return value
    array = jnp.asarray(value)
    return array if name in INTEGERS or array.dtype.kind != "i" else array.astype(jnp.result_type(float))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
