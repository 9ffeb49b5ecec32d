"""Several trainings of one job side by side: the members of an ensemble differ in their seed alone, and are one vmapped program.

Every array of a state has the members along a new first axis. All members see the same batches in the same order; member i has
the seed `seed + i` (modulo 2^32), so that it is, up to rounding, the job that has this seed and no ensemble.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jobs.programs.program import PyTree, Sections
from jobs.programs.update import Update

TRIAL = "trial"
"""The label of what is measured for each member."""

SEEDS = 2**32


class Members:
    """An update of every member at once.

    Args:
        one: the update of one.
        count: how many there are.
    """

    def __init__(self, one: Update, count: int) -> None:
        self._one, self._count = one, count
        self.metrics = one.metrics

    def fresh(self, seed: int) -> Sections:
        """The sections of all members at step 0."""
        return jax.vmap(self._one.fresh)(np.array(seeds(seed, self._count), np.uint32))

    def begin(self, params: PyTree) -> Sections:
        """What is kept beside parameters that no update has yet changed."""
        return jax.vmap(self._one.begin)(params)

    def __call__(self, sections: Sections, batch: PyTree) -> tuple[Sections, dict[str, jax.Array]]:
        """The next sections, and what was measured: an array with a value for each member."""
        return jax.vmap(self._one, in_axes=(0, None))(sections, batch)


def seeds(seed: int, count: int) -> list[int]:
    """The seed of each member."""
    return [(seed + member) % SEEDS for member in range(count)]


def side_by_side(shardings: PyTree) -> PyTree:
    """Shardings of arrays with the members along a new first axis, which every device holds whole."""
    return jax.tree.map(lambda one: NamedSharding(one.mesh, PartitionSpec(None, *one.spec)), shardings)


def mean_over(values: Any) -> float:
    """What rules look at: the mean over the members; of a plain value, itself."""
    return float(np.mean(np.asarray(values, np.float64)))
