"""Convergence while a run goes on, at a bounded cost: of some elements, over all their draws so far."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jobs.programs.outputs import Outputs
from jobs.programs.posterior import convergence
from jobs.programs.posterior.blocks import STATISTIC, is_reported

MOST_WATCHED = 200
MOST_NUMBERS = 2**22
"""Numbers that are kept of them at a job's end: 32 MiB."""

LEAST_WATCHED = 8
LEAST_DRAWS = convergence.LEAST_DRAWS


class Watch:
    """Elements of a run's sites that are watched while it goes on; the result's table covers all.

    Args:
        outputs: what the run puts out. What lies there already is taken up.
        expected: draws of each chain at the end.
        most_steps: transitions with so many steps have come to the end of their tree; None where there are no trees.
    """

    def __init__(self, outputs: Outputs, expected: int, most_steps: int | None = None) -> None:
        self._outputs, self._expected, self._most_steps = outputs, expected, most_steps
        self._seen = 0
        self._chosen: dict[str, np.ndarray] = {}
        self._parts: list[np.ndarray] = []
        self._energy: list[np.ndarray] = []
        self._counts = {"divergences": 0, "tree_depth_saturated": 0}

    def measure(self) -> dict[str, float]:
        """How the draws so far do.

        Returns: `r_hat/max`, `ess_bulk/min`, `ess_tail/min`, `mcse/max` (of a mean, in standard deviations), `bfmi/min`, and how
        many transitions diverged (`divergences`) or came to the end of their tree (`tree_depth_saturated`).
        """
        for step in self._outputs.blocks(self._seen):
            self._take(self._outputs.block(step))
            self._seen = step
        told = {name: float(count) for name, count in self._counts.items() if name == "divergences" or self._most_steps}
        if self._parts:
            self._parts = [np.concatenate(self._parts, axis=2)]
            told |= _worst(self._parts[0])
        if self._energy:
            self._energy = [np.concatenate(self._energy, axis=1)]
            told |= _least("bfmi/min", convergence.bfmi(self._energy[0]))
        return told

    def _take(self, block: Mapping[str, np.ndarray]) -> None:
        if not self._chosen:
            self._chosen = self._choose(block)
        parts = [_flat(block[name])[which] for name, which in self._chosen.items()]
        self._parts += [np.concatenate(parts)] if parts else []
        if STATISTIC + "diverging" in block:
            self._counts["divergences"] += int(block[STATISTIC + "diverging"].sum())
        if STATISTIC + "energy" in block:
            self._energy.append(np.asarray(block[STATISTIC + "energy"], np.float64))
        if self._most_steps and STATISTIC + "num_steps" in block:
            self._counts["tree_depth_saturated"] += int((block[STATISTIC + "num_steps"] >= self._most_steps).sum())

    def _choose(self, block: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Which elements of each site: small sites whole, of large ones some at even distances."""
        sizes = {name: int(np.prod(block[name].shape[2:], dtype=np.int64)) for name in block if is_reported(name)}
        chains = next((len(block[name]) for name in sizes), 1)
        left = max(LEAST_WATCHED, min(MOST_WATCHED, MOST_NUMBERS // max(1, chains * self._expected)))
        chosen: dict[str, np.ndarray] = {}
        for at, name in enumerate(sorted(sizes, key=lambda name: (sizes[name], name))):
            count = min(sizes[name], max(1, left // (len(sizes) - at)))
            if left > 0:
                chosen[name] = np.unique(np.linspace(0, sizes[name] - 1, count).astype(np.int64))
            left -= count
        return dict(sorted(chosen.items()))


def worst(sites: Mapping[str, np.ndarray]) -> dict[str, float]:
    """What `Watch` tells of convergence, of the first elements of arrays in memory; empty where there are too few draws to tell."""
    parts = [_flat(array) for _, array in sorted(sites.items())]
    return _worst(np.concatenate(parts)[:MOST_WATCHED]) if parts else {}


def _worst(values: np.ndarray) -> dict[str, float]:
    if values.shape[2] < LEAST_DRAWS:
        return {}
    size = convergence.ess_mean(values)
    spread = values.reshape(len(values), -1).std(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = convergence.mcse_mean(values, size) / np.where(spread > 0, spread, np.nan)
    return (
        _least("r_hat/max", -convergence.r_hat(values), -1.0)
        | _least("ess_bulk/min", convergence.ess_bulk(values))
        | _least("ess_tail/min", convergence.ess_tail(values))
        | _least("mcse/max", -error, -1.0)
    )


def _least(name: str, values: np.ndarray, sign: float = 1.0) -> dict[str, float]:
    """The least of the values that can be told, if any can."""
    finite = values[np.isfinite(values)]
    return {name: sign * float(finite.min())} if finite.size else {}


def _flat(array: np.ndarray) -> np.ndarray:
    """(chains, draws, …) as (elements, chains, draws) in float64."""
    return np.ascontiguousarray(np.moveaxis(np.asarray(array, np.float64).reshape(*array.shape[:2], -1), 2, 0))
