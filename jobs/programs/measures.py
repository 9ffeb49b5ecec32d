"""Metrics beside the loss, measured in evaluations: sums over samples, so that batches of any weight average correctly.

A measure gives one number for each value that is predicted; `finish` turns the mean of all of them into the metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jobs.spec.measures import signed_outputs

TOP = 5
Each = Callable[[jax.Array, jax.Array], jax.Array]
"""(outputs, targets) → a number for each value that is predicted."""


def build_measures(names: Sequence[str], loss: Mapping[str, Any]) -> dict[str, Each]:
    """The measures of a resolved spec that look at outputs, by name."""
    known: dict[str, Each] = {
        "accuracy": _signs if signed_outputs(loss["type"]) else _classes,
        "top_5_accuracy": _among_top,
        **dict.fromkeys(("perplexity", "bits_per_byte"), optax.losses.softmax_cross_entropy_with_integer_labels),
        **dict.fromkeys(("mean_squared_error", "root_mean_squared_error"), optax.losses.squared_error),
        "mean_absolute_error": lambda outputs, targets: jnp.abs(outputs - targets),
    }
    return {name: known[name] for name in names if name in known}


def finish(name: str, mean: np.ndarray, named: Sequence[str]) -> np.ndarray:
    """The metric of a mean over all samples. What is not `named` is the loss, or a metric of a user's own loss: the mean itself."""
    last: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "perplexity": np.exp,
        "root_mean_squared_error": np.sqrt,
        "bits_per_byte": lambda nats: nats / math.log(2),
    }
    return last[name](mean) if name in last and name in named else mean


def _classes(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Whether the greatest score is that of the class, or of the likeliest class."""
    wanted = targets if targets.ndim < outputs.ndim else jnp.argmax(targets, axis=-1)
    return (jnp.argmax(outputs, axis=-1) == wanted).astype(jnp.float32)


def _among_top(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Whether fewer than five classes have a greater score."""
    own = jnp.take_along_axis(outputs, targets[..., None], axis=-1)
    return (jnp.sum(outputs > own, axis=-1) < TOP).astype(jnp.float32)


def _signs(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Whether an output is on the side of its target: of 0 for targets of either sign, of a half for probabilities."""
    middle = jnp.where(jnp.any(targets < 0), 0.0, 0.5)
    return ((outputs > 0) == (targets > middle)).astype(jnp.float32)
