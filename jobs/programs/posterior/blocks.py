"""Draws as a run has put them out: a file for each block, of which one at a time is in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from jobs.programs.outputs import Outputs

STATISTIC = "sample_stats/"
"""Prefix of a kernel's statistics among the arrays of a block of draws."""

HIDDEN = "_"
"""Prefix of sites that are how a model is written, not what it is about: they are kept with the draws, but not reported."""

Arrays = dict[str, np.ndarray]


def apart(arrays: Mapping[str, np.ndarray]) -> tuple[Arrays, Arrays]:
    """What is reported of blocks of draws: sites and statistics, each by its own name. Hidden sites are left out."""
    sites = {name: array for name, array in arrays.items() if is_reported(name)}
    statistics = {name.removeprefix(STATISTIC): array for name, array in arrays.items() if name.startswith(STATISTIC)}
    return sites, statistics


def is_reported(name: str) -> bool:
    """Whether an array of a block is a site that is reported: no statistic, and not hidden."""
    return not name.startswith((STATISTIC, HIDDEN))


@dataclass(frozen=True)
class Form:
    """The form of an array of draws: the shape of one draw, and its dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Numbers in one draw."""
        return int(np.prod(self.shape, dtype=np.int64))


class Blocks:
    """The draws of a run.

    Args:
        outputs: what it has put out; nothing may be added while this is in use.

    Attributes:
        chains, draws: how many are kept.
        forms: of every array, by its name in the files.
    """

    def __init__(self, outputs: Outputs) -> None:
        self._outputs, self._steps = outputs, outputs.blocks()
        first = outputs.block(self._steps[0]) if self._steps else {}
        self.forms = {name: Form(first[name].shape[2:], first[name].dtype) for name in first}
        # The smallest array tells how long a block is: the others need not be read for that.
        self._least = min(self.forms, key=lambda name: self.forms[name].size, default="")
        self._lengths = [outputs.block(step)[self._least].shape[1] for step in self._steps]
        self.chains = len(first[self._least]) if self._steps else 0

    @property
    def draws(self) -> int:
        """Draws of each chain."""
        return sum(self._lengths)

    def __iter__(self) -> Iterator[tuple[int, int, Mapping[str, np.ndarray]]]:
        """Each block with the number of its first draw and how many it has."""
        start = 0
        for step, length in zip(self._steps, self._lengths, strict=True):
            if length:
                yield start, length, self._outputs.block(step)
            start += length

    def take(self, names: Iterable[str], which: np.ndarray) -> Arrays:
        """Some draws of each chain: `which` are their numbers, ascending."""
        wanted = list(names)
        parts: list[Arrays] = []
        for start, count, block in self:
            here = which[(which >= start) & (which < start + count)] - start
            if here.size:
                parts.append({name: block[name][:, here] for name in wanted})
        return {name: np.concatenate([part[name] for part in parts], axis=1) for name in wanted}

    def whole(self, name: str) -> np.ndarray:
        """One array over all draws: (chains, draws, …)."""
        return np.concatenate([block[name] for _, _, block in self], axis=1)

    def sites(self) -> dict[str, Form]:
        """The sites that are reported, sorted."""
        return {name: form for name, form in sorted(self.forms.items()) if is_reported(name)}

    def statistics(self) -> dict[str, Form]:
        """The kernel's statistics, by their own names."""
        return {name.removeprefix(STATISTIC): form for name, form in self.forms.items() if name.startswith(STATISTIC)}
