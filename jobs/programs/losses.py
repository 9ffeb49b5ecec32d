"""Losses of Optax from the fitted objects of a spec."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import optax

from jobs.programs.library import arguments, found

Loss = Callable[[jax.Array, jax.Array], jax.Array]
"""(outputs, targets) → one loss for each row, or for each value of it."""


def build(loss: dict[str, Any]) -> Loss:
    """The function that a resolved `loss` names. `next_token` is the cross-entropy of logits with integer tokens."""
    if loss["type"] in ("next_token", "import"):  # a loss of a user's own is called by its objective, never through this one
        return optax.losses.softmax_cross_entropy_with_integer_labels
    return functools.partial(found("losses", loss["type"]), **arguments(loss))
