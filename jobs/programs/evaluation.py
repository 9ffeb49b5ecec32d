"""Evaluation over the held-out part of the data: all of it, once, in order."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from jobs.programs.measures import finish
from jobs.programs.mesh import Layout
from jobs.programs.module import ModuleForm
from jobs.programs.objectives import Objective

IN_FLIGHT = 4


class Evaluation:
    """Mean loss and metrics over the held-out part, weighted by sample.

    Args:
        spec: the resolved spec (`data.eval_fraction`, `data.eval_dataset`, `data.eval_batches`).
        layout, form, objective: as in training.
    """

    def __init__(self, spec: dict[str, Any], layout: Layout, form: ModuleForm, objective: Objective) -> None:
        self.exists: bool = spec["data"]["eval_fraction"] > 0 or spec["data"]["eval_dataset"] is not None
        self._batches: int | None = spec["data"]["eval_batches"]
        self._layout, self._form, self._objective = layout, form, objective
        self._named: list[str] = spec["metrics"]
        one = self._batch_sums
        self._measure = jax.jit(one if spec["ensemble"] is None else jax.vmap(one, in_axes=(0, None)))

    def run(self, sections: dict[str, Any], interrupted: Callable[[], bool]) -> dict[str, np.ndarray] | None:
        """`eval/loss` and the metrics beside it, or None if `interrupted` said to leave off before the end.

        Each is a scalar, or an array with a value for each member of an ensemble.
        """
        pending: list[tuple[dict[str, jax.Array], jax.Array]] = []
        sums: dict[str, Any] = {}
        weights: Any = 0.0
        variables = {name: sections[name] for name in ("params", "rngs", "batch_stats") if name in sections}
        variables["params"] = sections.get("averaged", variables["params"])
        for batch in itertools.islice(self._objective.held_out(), self._batches):
            if interrupted():
                return None
            with jax.set_mesh(self._layout.mesh):
                pending.append(self._measure(variables, self._placed(batch)))
            if len(pending) > IN_FLIGHT:
                sums, weights = _added(sums, weights, pending.pop(0))
        for each in pending:
            sums, weights = _added(sums, weights, each)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return {f"eval/{name}": finish(name, total / weights, self._named) for name, total in sums.items()}

    def _batch_sums(self, variables: dict[str, Any], batch: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], jax.Array]:
        module = self._form.give(variables)
        still = nnx.view(module, deterministic=True, use_running_average=True, raise_if_not_found=False)
        return self._objective.measure(still, batch)

    def _placed(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        rows = len(next(iter(batch.values())))
        axis = "batch" if rows % self._layout.data_shards == 0 else None  # the last batch under a user's own loss may be shorter
        return {name: jax.device_put(a, self._layout.sharding(axis, *(None,) * (a.ndim - 1))) for name, a in batch.items()}


def _added(sums: dict[str, Any], weights: Any, more: tuple[dict[str, jax.Array], jax.Array]) -> tuple[dict[str, Any], Any]:
    found = {name: np.asarray(value, np.float64) for name, value in more[0].items()}
    return {name: sums.get(name, 0.0) + value for name, value in found.items()}, weights + np.asarray(more[1], np.float64)
