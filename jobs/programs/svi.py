"""Variational inference as a program: NumPyro's SVI under our own block loop, compiled once.

The numbers are those of `numpyro.infer.SVI.run` with the same key, within rounding; and the same to the bit however many steps go
to the device at once and wherever the job is saved.

Source: Hoffman, Blei, Wang and Paisley (2013), JMLR 14; Kucukelbir, Tran, Ranganath, Gelman and Blei (2017), JMLR 18(14).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from numpyro.infer.svi import SVIState
from optax import contrib

from jobs.errors import UserFault
from jobs.programs import data as datasets
from jobs.programs import early, fitting, optimizers, posterior, starting
from jobs.programs.dispatch import Dispatch
from jobs.programs.fitting import Guide
from jobs.programs.library import arguments, found
from jobs.programs.mesh import Layout
from jobs.programs.models import posteriors
from jobs.programs.outputs import Outputs
from jobs.programs.posterior_model import look
from jobs.programs.program import Block, Measurement, PyTree, Sections, State
from jobs.programs.user_code import came_through
from jobs.spec.imports import is_own

OF_CHAINS = frozenset({"r_hat", "low_ess_bulk", "low_ess_tail"})
MOST_AT_ONCE = 10_000
"""Steps that go to the device at once."""


class SviProgram:
    """An `svi` job on one device.

    Args:
        spec: the resolved spec.
        layout: the mesh.
        path: the data file, None for inline and builtin data.
        form: the data file's format.
    """

    unit = "step"

    def __init__(
        self, spec: dict[str, Any], layout: Layout, path: Path | None, form: str | None, beside: datasets.Beside = datasets.ALONE
    ) -> None:
        self.spec, self.layout = spec, layout
        self.total: int = spec["steps"]
        self.data = self._load(path, form)
        self.looked = look(posteriors.build_model(spec["model"]), spec, self.data)
        self._svi: Any = fitting.build_svi(spec, self.looked.model)
        self._first = self._begin()
        self._run: Callable[..., Any] | None = None
        self._weigh: Callable[..., Any] | None = None
        self._dispatch = Dispatch(min(self.total, MOST_AT_ONCE), jax.ShapeDtypeStruct((), jnp.float32))

    def init(self) -> State:
        """The guide's first parameters."""
        return State(0, jax.tree.map(jnp.copy, self._first))

    def abstract(self) -> Sections:
        """Shapes and shardings of the sections."""
        place = NamedSharding(self.layout.mesh, self.layout.replicated.spec)
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), self._first)

    def adopt(self, state: State, params: Sections) -> State:
        """A fresh state that starts from other parameters of the guide."""
        taken = params["params"]
        _, (_, opt_state) = self._svi.optim.init(taken)
        fresh = jax.device_put({"params": taken, "opt_state": opt_state}, self.layout.replicated)
        return State(0, state.sections | jax.tree.map(jnp.copy, fresh))

    def place(self, step: int, sections: Sections, position: dict[str, int]) -> State:
        """Take up a state."""
        return State(step, sections, position)

    def phase(self, state: State) -> str:
        """Fitting has one phase."""
        return "training"

    def compile(self, state: State) -> None:
        """Compile the loop for this state. How many steps it makes is an argument, so that one program serves every block."""
        ahead = not (self.spec["debug"]["disable_jit"] or self.spec["debug"]["nans"])
        self._run = self.lower(state.sections).compile() if ahead else jax.jit(self._steps)

    @property
    def executable(self) -> Any:
        """What `compile` has made; None before, and where nothing is compiled."""
        return self._run if isinstance(self._run, jax.stages.Compiled) else None

    def lower(self, sections: Sections) -> jax.stages.Lowered:
        """The loop for these sections, or for arrays like them, as it goes to the compiler."""
        with jax.set_mesh(self.layout.mesh):
            return jax.jit(self._steps, donate_argnums=0).lower(sections, jnp.int32(0))

    def transition(self, sections: Sections) -> PyTree:
        """One step."""
        return self._steps(sections, jnp.int32(1))

    def fetch(self, state: State) -> None:
        """All data is on the device."""

    def advance(self, state: State) -> tuple[State, Block]:
        """Steps up to the next that is saved or evaluated, or as many as a second or so allows."""
        if self._run is None:
            raise RuntimeError("compile comes before advance")
        end = min(self._edge(state.step), state.step + self._dispatch.length)
        self._dispatch.begin()
        with jax.set_mesh(self.layout.mesh):
            sections, losses = self._run(state.sections, jnp.int32(end - state.step))
        self._dispatch.end(losses, end - state.step)
        steps = range(state.step + 1, end + 1)
        host = np.asarray(losses)[: len(steps)]
        self._require_finite(state.step, host)
        metrics = [self._measured(step, host[at]) for at, step in enumerate(steps) if self._logs(step)]
        return State(end, sections, state.position), Block(end, metrics, losses)

    def effort(self) -> None:
        """A step takes as much as its model does."""

    def explain(self, state: State) -> None:
        """What is not finite ends the job where it is seen."""

    def settle(self, block: Block) -> None:
        """Wait for a block."""
        jax.block_until_ready(block.ready)

    def saves_at(self, step: int) -> bool:
        """Every `checkpoint.every_steps`, and the last."""
        every = self.spec["checkpoint"]["every_steps"]
        return step == self.total or (every is not None and step > 0 and step % every == 0)

    def evaluates_at(self, step: int) -> bool:
        """Every `eval_every`, and the last, unless there is to be no evaluation."""
        every = self.spec["eval_every"]
        return every is not None and step > 0 and (step == self.total or step % every == 0)

    def evaluate(self, state: State, outputs: Outputs, interrupted: Callable[[], bool]) -> Measurement | None:
        """`eval/loss` and `eval/elbo`: the objective over many more draws of the guide, the same at each evaluation of a step."""
        if self._weigh is None:
            objective = found("losses", self.spec["loss"]["type"])
            weighed = objective(**arguments(self.spec["loss"]) | {"num_particles": self.spec["eval_particles"]})
            svi = self._svi

            def weigh(params: PyTree, key: jax.Array) -> jax.Array:
                return weighed.loss(key, svi.constrain_fn(params), svi.model, svi.guide, **self.data)

            self._weigh = jax.jit(weigh)
        key = jax.random.fold_in(jax.random.key(self.spec["seed"]), state.step)
        loss = float(self._weigh(self._averaged(state), key))
        return Measurement(state.step, {"eval/loss": loss, "eval/elbo": -loss})

    def stops(self, step: int, outputs: Outputs) -> str | None:
        """`target` or `patience` of a watched metric, looked at where the job is evaluated, or saved if it never is."""
        looks_at = self.saves_at if self.spec["eval_every"] is None else self.evaluates_at
        return early.stops(self.spec["stop"], step, outputs, looks_at)

    def companions(self, folder: Path) -> list[str]:
        """A guide's state needs nothing beside it."""
        return []

    def result(self, state: State, outputs: Outputs, stopped_by: str) -> tuple[dict[str, Any], list[str]]:
        """What training has to show, and what sampling has: the posterior table and the draws as NetCDF."""
        keep = self.spec["checkpoint"]["keep_best"] or {
            "metric": "train/loss" if self.spec["eval_every"] is None else "eval/loss",
            "mode": "min",
        }
        self.conclude(state, outputs)
        replay = posterior.Replay.of(self.looked.model, self.data)
        sampled, artifacts = posterior.result(outputs, self.data, self.spec, stopped_by, replay)
        final = {"step": state.step, **outputs.at(state.step)}
        # The draws are independent: what is said of chains says nothing of them.
        sampled["warnings"] = [each for each in sampled["warnings"] if each["code"] not in OF_CHAINS]
        return sampled | {"final": final, "best": outputs.best(keep["metric"], keep["mode"])}, artifacts

    def conclude(self, state: State, outputs: Outputs) -> None:
        """Draw from the guide: what predicts needs the draws, and neither the guide nor the data that it was fitted to."""
        if outputs.blocks() != [state.step]:
            outputs.keep_last_draws(state.step, self.draws(state))

    def draws(self, state: State) -> dict[str, np.ndarray]:
        """Draws from the guide: (1, draws, …) by site."""
        svi = self._svi
        fitted = Guide(self.looked.model, svi.guide, svi.constrain_fn(self._averaged(state)))
        key = jax.random.key(self.spec["seed"])
        drawn = fitting.draw(fitted, key, self.spec["num_samples"], self.data)
        return {name: np.asarray(value)[None] for name, value in drawn.items()}

    # -- the loop ------------------------------------------------------------------------------------------------------------

    def _load(self, path: Path | None, form: str | None) -> dict[str, jax.Array]:
        data = self.spec["data"]
        columns = datasets.columns_of(data, path, form)
        bound = datasets.bind(columns, data["args"] or {name: name for name in columns})
        arrays = posteriors.as_arrays(self.spec["model"], bound)
        return {name: jax.device_put(array, self.layout.replicated) for name, array in arrays.items()}

    def _begin(self) -> Sections:
        try:
            state = self._svi.init(jax.random.key(self.spec["seed"]), **self.data)
        except (RuntimeError, ValueError) as error:
            if is_own(self.spec["model"]) and came_through(error):
                raise
            raise starting.explained(error, self.looked.model, self.data, self.spec["seed"]) from error
        step, (params, opt_state) = state.optim_state
        sections = {
            "params": params,
            "opt_state": opt_state,
            "rngs": {"svi": state.rng_key},
            "counters": {"step": jnp.asarray(step, jnp.int32)},
        }
        return jax.tree.map(lambda a: jnp.copy(jax.device_put(jnp.asarray(a), self.layout.replicated)), sections)

    def _steps(self, sections: Sections, count: jax.Array) -> tuple[Sections, jax.Array]:
        """A loop of dynamic length; gives the loss of each step in a buffer."""

        def one(i: jax.Array, carry: PyTree) -> PyTree:
            state, losses = carry
            state, loss = self._svi.update(state, **self.data)
            return state, losses.at[i].set(loss.astype(jnp.float32))

        optim_state = (sections["counters"]["step"], (sections["params"], sections["opt_state"]))
        first = (SVIState(optim_state, None, sections["rngs"]["svi"]), jnp.zeros(self._dispatch.most, jnp.float32))
        state, losses = jax.lax.fori_loop(0, count, one, first)
        step, (params, opt_state) = state.optim_state
        return {"params": params, "opt_state": opt_state, "rngs": {"svi": state.rng_key}, "counters": {"step": step}}, losses

    def _averaged(self, state: State) -> PyTree:
        """The parameters to be judged: a schedule-free method's own average of them."""
        params = state.sections["params"]
        for inner in optimizers.states_of(state.sections["opt_state"], contrib.ScheduleFreeState):
            params = contrib.schedule_free_eval_params(inner, params)
        return params

    def _edge(self, step: int) -> int:
        """The next step that is saved or evaluated."""
        every = [each for each in (self.spec["checkpoint"]["every_steps"], self.spec["eval_every"]) if each is not None]
        return min([self.total, *((step // each + 1) * each for each in every)])

    def _logs(self, step: int) -> bool:
        return step % self.spec["log_every"] == 0 or self.saves_at(step) or self.evaluates_at(step)

    def _measured(self, step: int, loss: np.floating[Any]) -> Measurement:
        return Measurement(step, {"train/loss": jnp.asarray(loss), "elbo": jnp.asarray(-loss)})

    def _require_finite(self, before: int, losses: np.ndarray) -> None:
        lost = np.flatnonzero(~np.isfinite(losses))
        if lost.size and self.spec["stop"]["on_nonfinite"] == "fail":
            step = before + int(lost[0]) + 1
            advice = "lower the optimizer's learning_rate or guide.init_scale, change guide.init_loc_fn, or scale the data"
            raise UserFault("nan_loss", f"the ELBO became {-losses[lost[0]]} at step {step}: {advice}", "/optimizer")
