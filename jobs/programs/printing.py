"""What a job prints of itself into its log: statistics of parameters and gradients, and the shapes of its state."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jobs.programs.masks import chosen
from jobs.programs.program import Sections, flatten


class Printer:
    """Prints from within a compiled step, every so many steps. Without a rule it adds nothing to the step.

    Args:
        rule: `debug.print` of the resolved spec.
        paths: of all parameters.

    Raises:
        UserFault: a pattern matches none of them.
    """

    def __init__(self, rule: Mapping[str, Any] | None, paths: list[str]) -> None:
        self._every = 0 if rule is None else rule["every"]
        self._paths = [] if rule is None else chosen(rule["paths"], paths, "/debug/print/paths")

    def __call__(self, count: jax.Array, params: Mapping[str, Any], grads: Mapping[str, Any]) -> None:
        """Print where it is due, called while the step is traced.

        Args:
            count: updates done before this step.
            params: before the update, by path.
            grads: their gradients.
        """
        if not self._paths:
            return
        shown = [(params[path], grads[path]) for path in self._paths]
        jax.lax.cond((count + 1) % self._every == 0, self._print, lambda *_: None, count + 1, shown)

    def _print(self, step: jax.Array, shown: list[tuple[jax.Array, jax.Array]]) -> None:
        for path, (value, gradient) in zip(self._paths, shown, strict=True):
            jax.debug.callback(partial(_line, path, value.shape), step, _statistics(value), _statistics(gradient))


def _statistics(array: jax.Array) -> jax.Array:
    """Mean, standard deviation, least and greatest."""
    wide = array.astype(jnp.float32)
    return jnp.stack([jnp.mean(wide), jnp.std(wide), jnp.min(wide), jnp.max(wide)])


def _line(path: str, shape: tuple[int, ...], step: Any, value: Any, gradient: Any) -> None:
    told = "; ".join(
        f"{name} mean {mean:.4g} std {std:.4g} min {least:.4g} max {most:.4g}"
        for name, (mean, std, least, most) in (("value", value), ("gradient", gradient))
    )
    sys.stdout.write(f"step {int(step)} {path} {shape}: {told}\n")


def shapes(sections: Sections) -> Iterator[str]:
    """A line for each array of a state: its path, format, shape, sharding, and bytes on one device."""
    for section, tree in sections.items():
        for path, leaf in flatten(tree).items():
            own = leaf.sharding.shard_shape(leaf.shape)
            spec = getattr(leaf.sharding, "spec", "")
            yield f"{section}.{path} {leaf.dtype}{list(leaf.shape)} {spec} {math.prod(own) * leaf.dtype.itemsize} bytes on a device"
