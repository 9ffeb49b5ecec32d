"""Objectives with a user's own model or loss: the same data under the same protocol, called in another way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jobs.programs.data import Batch
from jobs.programs.user_code import Loss, own_loss
from jobs.spec.binding import WEIGHT
from jobs.spec.imports import is_own

TARGET = "y"
MASK = "mask"
Arrays = dict[str, jax.Array]
Sums = tuple[Arrays, jax.Array]


def adapt(spec: dict[str, Any], base: Any) -> Any:
    """The objective that a spec asks for, made of one that has its data.

    Args:
        spec: the resolved spec.
        base: an objective of the catalog over the same data.
    """
    if spec["loss"]["type"] == "import":
        return OwnLoss(base, own_loss(spec["loss"]))
    if is_own(spec["model"]) and spec["data"]["args"] is not None:
        return OwnModel(base, inputs(spec))
    return base


def inputs(spec: dict[str, Any]) -> list[str]:
    """The columns of a table that a model is called with: those that are neither target nor weight."""
    return [name for name in spec["data"]["args"] or ("x",) if name not in (TARGET, WEIGHT)]


class _Adapted:
    """An objective that has all but its loss from another."""

    def __init__(self, base: Any) -> None:
        self._base = base
        self.source, self.rate = base.source, base.rate

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        """A fresh model."""
        return self._base.build(rngs)

    def example(self) -> Batch:
        """A training batch of zeros."""
        return self._base.example()

    def held_out(self) -> Iterator[Batch]:
        """Batches that cover the evaluation part."""
        return self._base.held_out()

    def write_artifacts(self, outputs: Path) -> list[str]:
        """Files that belong beside the parameters."""
        return self._base.write_artifacts(outputs)


class OwnModel(_Adapted):
    """A model of a user's own under a loss of the catalog.

    Args:
        base: the objective with data and loss.
        inputs: the columns to call the model with: a single one by position, so that its name is the user's own affair, several by
            name.
    """

    def __init__(self, base: Any, inputs: list[str]) -> None:
        super().__init__(base)
        self._inputs = inputs

    def loss(self, model: Any, batch: Arrays) -> tuple[jax.Array, jax.Array]:
        """The loss of each row, as for a model of the catalog."""
        return self._base.loss(self._bound(model, batch), batch | {"x": batch[TARGET]})

    def measure(self, model: Any, batch: Arrays) -> Sums:
        """The same with the metrics beside it."""
        return self._base.measure(self._bound(model, batch), batch | {"x": batch[TARGET]})

    def _bound(self, model: Any, batch: Arrays) -> Any:
        inputs = {name: batch[name] for name in self._inputs}

        def call(_: Any) -> Any:
            return model(*inputs.values()) if len(inputs) == 1 else model(**inputs)

        return call


class OwnLoss(_Adapted):
    """A loss of a user's own: one number for a batch of every bound column, or of `tokens`.

    A mask would have to be heeded by the user's code, so there is none: the last batch of an evaluation is as long as what is left.

    Args:
        base: the objective with the data.
        own: the loss.
    """

    def __init__(self, base: Any, own: Loss) -> None:
        super().__init__(base)
        self._own = own

    def loss(self, model: Any, batch: Arrays) -> tuple[jax.Array, jax.Array]:
        """The user's scalar, weighted by the rows of the batch."""
        sums, weight = self.measure(model, batch)
        return sums["loss"], weight

    def measure(self, model: Any, batch: Arrays) -> Sums:
        """The same for the scalar and each metric beside it, by name."""
        value, metrics = self._own(model, batch)
        weight = jnp.float32(next(iter(batch.values())).shape[0])
        return {name: jnp.asarray(each, jnp.float32) * weight for name, each in (metrics | {"loss": value}).items()}, weight

    def held_out(self) -> Iterator[Batch]:
        """The evaluation part without filling."""
        for batch in self._base.held_out():
            whole = np.all(batch[MASK].reshape(len(batch[MASK]), -1) > 0, axis=1)
            if whole.any():
                yield {name: array[whole] for name, array in batch.items() if name != MASK}
