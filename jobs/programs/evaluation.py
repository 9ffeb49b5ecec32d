"""Evaluation over the held-out part of the data: all of it, once, in order."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from jobs.programs.mesh import Layout
from jobs.programs.module import ModuleForm
from jobs.programs.objectives import Objective

IN_FLIGHT = 4


class Evaluation:
    """Mean loss over the held-out part, weighted by sample.

    Args:
        spec: the resolved spec (`data.eval_fraction`, `data.eval_dataset`, `data.eval_batches`).
        layout, form, objective: as in training.
    """

    def __init__(self, spec: dict[str, Any], layout: Layout, form: ModuleForm, objective: Objective) -> None:
        self.exists: bool = spec["data"]["eval_fraction"] > 0 or spec["data"]["eval_dataset"] is not None
        self._batches: int | None = spec["data"]["eval_batches"]
        self._layout, self._form, self._objective = layout, form, objective
        self._measure = jax.jit(self._batch_loss)

    def run(self, sections: dict[str, Any], interrupted: Callable[[], bool]) -> dict[str, float] | None:
        """`eval/loss`, or None if `interrupted` said to leave off before the end."""
        pending: list[tuple[jax.Array, jax.Array]] = []
        sums = np.zeros(2)
        variables = {name: sections[name] for name in ("params", "rngs", "batch_stats") if name in sections}
        for batch in itertools.islice(self._objective.held_out(), self._batches):
            if interrupted():
                return None
            with jax.set_mesh(self._layout.mesh):
                pending.append(self._measure(variables, self._placed(batch)))
            if len(pending) > IN_FLIGHT:
                sums += np.asarray(pending.pop(0), np.float64)
        for pair in pending:
            sums += np.asarray(pair, np.float64)
        return {"eval/loss": float(sums[0] / sums[1])}

    def _batch_loss(self, variables: dict[str, Any], batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        module = self._form.give(variables)
        still = nnx.view(module, deterministic=True, use_running_average=True, raise_if_not_found=False)
        return self._objective.loss(still, batch)

    def _placed(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        rows = len(next(iter(batch.values())))
        axis = "batch" if rows % self._layout.data_shards == 0 else None  # the last batch under a user's own loss may be shorter
        return {name: jax.device_put(a, self._layout.sharding(axis, *(None,) * (a.ndim - 1))) for name, a in batch.items()}
