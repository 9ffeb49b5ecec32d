"""Predictions as a program: a model run again with the draws of another job, over new data, a batch of draws after the other.

A block is a number of draws of each chain. The state holds nothing but a counter: what is predicted for a draw follows from the
draw, the data and the seed alone, so that a run that was broken off goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jobs.errors import UserFault
from jobs.programs import data as datasets
from jobs.programs import reparams
from jobs.programs.mesh import Layout
from jobs.programs.models import posteriors
from jobs.programs.outputs import Outputs
from jobs.programs.posterior.blocks import Arrays, Blocks
from jobs.programs.posterior.predicted import predicted
from jobs.programs.posterior.replay import PREDICTIVE_STREAM, Batches, Replay
from jobs.programs.program import Block, Measurement, PyTree, Sections, State
from jobs.spec.imports import is_own
from jobs.spec.predict import OBSERVED

BLOCK_NUMBERS = 2**24
"""Numbers that a block puts out at most: 64 MiB."""

ANY_STEP = 2**62
FITTED = "fitted_"


class PredictProgram:
    """A `predict` job.

    Args:
        spec: the resolved spec.
        layout: one device.
        path: the data file, None for inline and builtin data.
        form: the data file's format.
        beside: where the draws are.
    """

    unit = "draw"

    def __init__(
        self, spec: dict[str, Any], layout: Layout, path: Path | None, form: str | None, beside: datasets.Beside = datasets.ALONE
    ) -> None:
        self.spec, self.layout = spec, layout
        self.total: int = spec["num_samples"]
        self.chains: int = spec["num_chains"]
        self._draws = Blocks(Outputs(beside.draws, ANY_STEP)) if beside.draws is not None else None
        self.data = self._load(path, form) | self._fitted(beside.fitted)
        self.replay = self._look()
        self._batches = Batches(self._told, PREDICTIVE_STREAM, spec["seed"], self.replay.latent)
        numbers = self.chains * sum(int(np.prod(each.shape, dtype=np.int64)) for each in self._batches.forms.values())
        self._most = max(1, BLOCK_NUMBERS // max(1, numbers))

    def init(self) -> State:
        """Nothing is predicted yet.

        Raises:
            UserFault: the draws are not of the form that the model has with this data.
        """
        self._require_draws()
        return State(0, jax.device_put({"counters": {"draws": jnp.zeros((), jnp.int32)}}, self.layout.replicated))

    def abstract(self) -> Sections:
        """Shapes and shardings of the sections."""
        return {"counters": {"draws": jax.ShapeDtypeStruct((), jnp.int32, sharding=self.layout.replicated)}}

    def adopt(self, state: State, params: Sections) -> State:
        """There are no parameters to start from."""
        return state

    def place(self, step: int, sections: Sections, position: dict[str, int]) -> State:
        """Take up a state."""
        self._require_draws()
        return State(step, sections, position)

    def phase(self, state: State) -> str:
        """Draws are put out, as in sampling."""
        return "sampling"

    def compile(self, state: State) -> None:
        """The first batch is compiled as it runs: its size follows from the draws."""

    @property
    def executable(self) -> Any:
        """Batches are compiled as they run."""
        return None

    def lower(self, sections: Sections) -> jax.stages.Lowered:
        """One draw's predictions, as they go to the compiler."""
        return jax.jit(self._told).lower(jax.random.key(0), dict(self.replay.latent))

    def log_density(self, key: jax.Array) -> jax.Array:
        """The model run once: the sum of what it predicts."""
        drawn = self.replay.from_prior(key, {})
        return sum((jnp.sum(jnp.asarray(value, float)) for value in drawn.values()), jnp.zeros(()))

    def fetch(self, state: State) -> None:
        """All data is on the device."""

    def advance(self, state: State) -> tuple[State, Block]:
        """Predictions with the draws up to the next block edge."""
        if self._draws is None:
            raise RuntimeError("predictions need draws")
        edge, thinning = self._edge(state.step), self.spec["posterior"]["thinning"]
        count = edge - state.step
        latent = self._draws.take(self.replay.latent, (np.arange(state.step, edge) + 1) * thinning - 1)
        forms = self._batches.forms
        drawn: Arrays = {name: np.empty((self.chains, count, *form.shape), form.dtype) for name, form in forms.items()}
        for (rows, at), arrays in self._batches.run(self.chains, state.step, count, latent):
            for name, array in arrays.items():
                drawn[name][rows, at.start - state.step : at.stop - state.step] = array
        sections: PyTree = {"counters": {"draws": state.sections["counters"]["draws"] + count}}
        return State(edge, sections, state.position), Block(edge, [], sections["counters"]["draws"], drawn)

    def effort(self) -> None:
        """Nobody has counted what a model takes."""

    def explain(self, state: State) -> None:
        """What is not finite is told in the result."""

    def settle(self, block: Block) -> None:
        """Wait for a block."""
        jax.block_until_ready(block.ready)

    def saves_at(self, step: int) -> bool:
        """Every multiple of `checkpoint.every_draws`, and the last."""
        return step == self.total or (step > 0 and step % self.spec["checkpoint"]["every_draws"] == 0)

    def evaluates_at(self, step: int) -> bool:
        """There is nothing to evaluate."""
        return False

    def evaluate(self, state: State, outputs: Outputs, interrupted: Callable[[], bool]) -> Measurement | None:
        """There is nothing to evaluate."""

    def stops(self, step: int, outputs: Outputs) -> str | None:
        """Only at its end."""
        return None

    def companions(self, folder: Path) -> list[str]:
        """The state needs nothing beside it."""
        return []

    def result(self, state: State, outputs: Outputs, stopped_by: str) -> tuple[dict[str, Any], list[str]]:
        """Mean, deviation and quantiles of every row; the draws as NetCDF."""
        return predicted(outputs, {name: value for name, value in self.data.items() if value is not None}, stopped_by)

    def disk_bytes(self) -> int:
        """What the predictions take: as blocks, and once more as NetCDF."""
        one = sum(int(np.prod(form.shape, dtype=np.int64)) * form.dtype.itemsize for form in self._batches.forms.values())
        return 2 * self.chains * self.total * one

    def _told(self, key: jax.Array, sample: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return self.replay.predict(key, sample, recorded=True)

    def _edge(self, step: int) -> int:
        every = self.spec["checkpoint"]["every_draws"]
        return min((step // every + 1) * every, step + self._most, self.total)

    def _load(self, path: Path | None, form: str | None) -> dict[str, Any]:
        model = self.spec["model"]
        arrays: dict[str, Any] = dict(posteriors.observed(self.spec, path, form, response=False))
        if is_own(model):
            # What such a function observes nobody knows; by NumPyro's custom it is None where it is to be predicted.
            return dict.fromkeys(self.spec["posterior"]["args"]) | arrays
        if OBSERVED in posteriors.arguments_of(model) and OBSERVED not in arrays:
            rows = len(next(iter(arrays.values())))
            return arrays | {OBSERVED: jnp.zeros(rows)}
        return arrays

    def _fitted(self, file: datasets.DataFile | None) -> dict[str, Any]:
        """What the model was fitted to, where predictions hang on it: its arguments again, as `fitted_x` and so on."""
        fitted = self.spec["data"].get("fitted")
        if fitted is None:
            return {}
        if fitted["dataset"] is not None and file is None:
            raise UserFault("dataset_invalid", "the data that the model was fitted to is gone", "/posterior/job")
        where = (file.path, file.form) if file is not None else (None, None)
        arrays = posteriors.observed(self.spec | {"data": fitted}, *where)
        return {FITTED + name: array for name, array in arrays.items()}

    def _look(self) -> Replay:
        model = posteriors.build_model(self.spec["model"])
        if self.spec["reparam"] is not None:
            model, _ = reparams.apply(model, self.spec["reparam"], self.data, reparams.trace(model, self.data, 0))
        replay = Replay.of(model, self.data)
        unknown = frozenset(replay.latent) - frozenset(self._draws.forms) if self._draws is not None else frozenset[str]()
        return Replay.of(model, self.data, unknown) if unknown else replay

    def _require_draws(self) -> None:
        if self._draws is None or not self._draws.draws:
            raise UserFault("dataset_invalid", "the job that was named has no draws to predict from", "/posterior/job")
        for name, wanted in self.replay.latent.items():
            have = self._draws.forms[name].shape
            if have != wanted.shape:
                message = (
                    f"the draws of {name} have shape {list(have)}, and with this data the model would have {list(wanted.shape)}: "
                    "predict for the same groups, or write the model so that this site does not depend on the rows"
                )
                raise UserFault("dataset_invalid", message, "/data")
        if not self.replay.observed:
            raise UserFault("user_code_error", "the model observes nothing, so there is nothing to predict", "/posterior/job")
