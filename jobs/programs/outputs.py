"""What a run puts out for good, beside its state: draws and measurements, a file for each block or step.

A file is written once, whole, and never changed; a checkpoint's manifest names those that belong to its step. A run that
resumes reads them back and knows what the first one knew.

    draws/{step}.npz            the draws of the block that ended at `step`, (chains, draws, …) by site
    predictions/{step}.npz      the same of a job that predicts from the draws of another, which then lie in draws/
    measurements/{step}.json    numbers measured at `step`: they decide early stopping and name the best step
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

DRAWS, MEASUREMENTS, PREDICTIONS = "draws", "measurements", "predictions"
EVALUATED = "_evaluated"


class Outputs:
    """The outputs of one run.

    Args:
        folder: where they are kept; what earlier attempts left there up to `step` is taken up, what lies beyond is not.
        step: the step that the run starts from.
        own: the folder of the blocks that the run puts out. Draws in another folder were given to it, and stay part of its outputs.
    """

    def __init__(self, folder: Path, step: int = 0, own: str = DRAWS) -> None:
        self.folder, self._own = folder, own
        for name in (own, MEASUREMENTS):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._given = [] if own == DRAWS else self._blocks_in(DRAWS)
        self._names = [name for name in self._found() if _step_of(name) <= step]
        self._measured = {
            _step_of(name): json.loads((folder / name).read_text()) for name in self._names if name.startswith(MEASUREMENTS)
        }

    def names(self, step: int) -> list[str]:
        """The files that belong to a run up to `step`, relative to the folder."""
        return [*self._given, *(name for name in self._names if _step_of(name) <= step)]

    def keep_draws(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the draws of the block that ends at `step`."""
        name = self._name_of(step)
        part = self.folder / (name + ".part")
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        self._finish(part, name)

    def keep_last_draws(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the draws that belong to the state after `step`: what was drawn for an earlier state is no part of it."""
        self._names = [name for name in self._names if not name.startswith(f"{self._own}/")]
        self.keep_draws(step, arrays)

    def measure(self, step: int, values: Mapping[str, Any], *, evaluated: bool = False) -> None:
        """Record numbers measured at a step. Those that are not finite are left out: JSON has no word for them.

        Args:
            step: where they were measured.
            values: numbers by name; an array holds one for each trial, of which the mean goes by the name itself.
            evaluated: they are all that the step's evaluation gives; it need not be done again.
        """
        values = dict(_by_trial(values))
        if evaluated:
            values = {**values, EVALUATED: 1.0}
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        merged = self._measured.get(step, {}) | finite
        if merged == self._measured.get(step, {}):
            return
        self._measured[step] = merged
        name = f"{MEASUREMENTS}/{step:012d}.json"
        part = self.folder / (name + ".part")
        part.write_text(json.dumps(merged, sort_keys=True))
        self._finish(part, name)

    def blocks(self, after: int = 0) -> list[int]:
        """The steps at which blocks of draws ended, later ones than `after`."""
        return sorted(step for name in self._names if name.startswith(self._own) and (step := _step_of(name)) > after)

    def block(self, step: int) -> Mapping[str, np.ndarray]:
        """The draws of the block that ended at a step, each array read when it is asked for: (chains, draws, …) by site."""
        return np.load(self.folder / self._name_of(step), allow_pickle=False)

    def draws(self) -> dict[str, np.ndarray]:
        """All draws so far, in memory: (chains, draws, …) by site."""
        blocks = [_read(self.folder / self._name_of(step)) for step in self.blocks()]
        return {name: np.concatenate([block[name] for block in blocks], axis=1) for name in (blocks[0] if blocks else {})}

    def at(self, step: int, trial: int | None = None) -> dict[str, float]:
        """What was measured at a step, by one trial if it says so; empty if nothing was."""
        return _shown(self._measured.get(step, {}), trial)

    def evaluated(self, step: int) -> bool:
        """Whether the evaluation of a step has been recorded."""
        return EVALUATED in self._measured.get(step, {})

    def series(self, name: str) -> list[tuple[int, float]]:
        """One measurement by step."""
        return [(step, values[name]) for step, values in sorted(self._measured.items()) if name in values]

    def best(self, name: str, mode: str, trial: int | None = None) -> dict[str, float] | None:
        """The step with the least (`min`) or greatest (`max`) value and all that was measured there; None if it never was."""
        sign = 1 if mode == "min" else -1
        series = [(sign * value, step) for step, value in self.series(name if trial is None else _of_trial(name, trial))]
        if not series:
            return None
        step = min(series)[1]
        return {"step": step, **_shown(self._measured[step], trial)}

    def _name_of(self, step: int) -> str:
        return f"{self._own}/{step:012d}.npz"

    def _blocks_in(self, folder: str) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in (self.folder / folder).glob("*.npz"))

    def _found(self) -> list[str]:
        measured = [str(path.relative_to(self.folder)) for path in (self.folder / MEASUREMENTS).glob("*.json")]
        return sorted([*self._blocks_in(self._own), *measured])

    def _finish(self, part: Path, name: str) -> None:
        part.replace(self.folder / name)
        if name not in self._names:
            self._names.append(name)


def _of_trial(name: str, trial: int) -> str:
    return f"{name}[trial={trial}]"


def _by_trial(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        each = np.asarray(value, np.float64)
        yield name, float(each.mean())
        if each.ndim:
            yield from ((_of_trial(name, trial), float(one)) for trial, one in enumerate(each))


def _shown(values: Mapping[str, float], trial: int | None) -> dict[str, float]:
    if trial is None:
        return {name: value for name, value in values.items() if name != EVALUATED and not name.endswith("]")}
    suffix = _of_trial("", trial)
    return {name.removesuffix(suffix): value for name, value in values.items() if name.endswith(suffix)}


def _step_of(name: str) -> int:
    return int(Path(name).stem)


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
