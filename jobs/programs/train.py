"""Training as a program: a Flax NNX model, an Optax optimizer, one jitted and sharded step with donated state."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jobs.errors import UserFault
from jobs.programs import autopsy, early, exporting
from jobs.programs import data as datasets
from jobs.programs.ensemble import TRIAL, Members, seeds, side_by_side
from jobs.programs.evaluation import Evaluation
from jobs.programs.flops import forward_flops
from jobs.programs.mesh import HOST, Layout
from jobs.programs.module import ModuleForm
from jobs.programs.objectives import Objective, build_objective
from jobs.programs.outputs import Outputs
from jobs.programs.program import Block, Effort, Finding, Measurement, NotFinite, PyTree, Sections, State
from jobs.programs.update import GUARD, MOVING, Update

PARAMETERS = ("params", "batch_stats")
"""What a trained model consists of."""

BEGUN = ("opt_state", "averaged", "counters")
"""What is kept beside its parameters, and follows from them at step 0."""


class TrainProgram:
    """A `train` job on one mesh.

    Args:
        spec: the resolved spec.
        layout: the mesh and where logical axes lie on it.
        path: the data file, None for inline and builtin data.
        form: the data file's format.
        beside: what is read beside the data file.
    """

    unit = "step"

    def __init__(
        self, spec: dict[str, Any], layout: Layout, path: Path | None, form: str | None, beside: datasets.Beside = datasets.ALONE
    ) -> None:
        self.spec, self.layout = spec, layout
        self.total: int = spec["steps"]
        self.objective: Objective = build_objective(spec, layout, path, form, beside)
        self.form = ModuleForm(self.objective.build)
        one = Update(spec, layout, self.form, self.objective)
        self.loss = one.loss
        self._update: Update | Members = one
        self.one = self._shapes = jax.eval_shape(self._fresh)
        self._shardings = self._place_sections()
        if spec["ensemble"] is not None:
            self._update = Members(one, spec["ensemble"])
            self._shapes, self._shardings = jax.eval_shape(self._fresh), side_by_side(self._shardings)
        if spec["offload"] == "opt_state":
            self._shardings |= {"opt_state": self._beside_devices(self._shardings["opt_state"])}
        if spec["export"]["jax_export"]:
            exporting.check(spec, self._shapes, self.objective.example())
        self._evaluation = Evaluation(spec, layout, self.form, self.objective)
        self._step: Callable[..., Any] | None = None
        self._feed: datasets.Feed | None = None
        self._batch: datasets.Batch | None = None
        self._clock = time.perf_counter()

    def init(self) -> State:
        """Everything at step 0, made on the mesh where it belongs: never whole on one device."""
        with jax.set_mesh(self.layout.mesh):
            sections = jax.jit(self._fresh, out_shardings=self._shardings)()
        return self.place(0, sections, {"next_index": 0})

    def adopt(self, state: State, params: Sections) -> State:
        """A state at step 0 that starts from other parameters."""
        known = {name: params[name] for name in PARAMETERS if name in params}
        with jax.set_mesh(self.layout.mesh):
            begun = {name: placed for name, placed in self._shardings.items() if name in BEGUN}
            rest = jax.jit(self._update.begin, out_shardings=begun)(known["params"])
        return self.place(0, state.sections | known | rest, state.position)

    def abstract(self) -> Sections:
        """Shapes and shardings of the sections."""
        return jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), self._shapes, self._shardings)

    def place(self, step: int, sections: Sections, position: dict[str, int]) -> State:
        """Take up a state and put the data where it stood."""
        data = self.spec["data"]
        self._batch = None
        self._feed = datasets.Feed(self.objective.source, data["batch_size"], data["shuffle_seed"], position["next_index"])
        return State(step, sections, position)

    def phase(self, state: State) -> str:
        """Training has one phase."""
        return "training"

    def compile(self, state: State) -> None:
        """Compile the step for this state and batch."""
        ahead = not (self.spec["debug"]["disable_jit"] or self.spec["debug"]["nans"])
        self._step = self.lower(state.sections).compile() if ahead else self._jitted()
        self._clock = time.perf_counter()

    @property
    def executable(self) -> jax.stages.Compiled | None:
        """What `compile` has made; None before, and where nothing is compiled."""
        return self._step if isinstance(self._step, jax.stages.Compiled) else None

    def lower(self, sections: Sections) -> jax.stages.Lowered:
        """The step for these sections, or for arrays like them, as it goes to the compiler."""
        with jax.set_mesh(self.layout.mesh):
            return self._jitted().lower(sections, self.example())

    def example(self) -> PyTree:
        """A batch in shapes alone, as it lies on the mesh."""
        return {
            name: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=self.layout.sharding("batch", *(None,) * (a.ndim - 1)))
            for name, a in self.objective.example().items()
        }

    def _jitted(self) -> Any:
        out = (self._shardings, dict.fromkeys([GUARD, *self._update.metrics], self.layout.replicated))
        # To find what gave a NaN, JAX runs the step's function anew on the same arguments.
        return jax.jit(self._updated, donate_argnums=() if self.spec["debug"]["nans"] else 0, out_shardings=out)

    def fetch(self, state: State) -> None:
        """Wait for the next batch."""
        if self._feed is None:
            raise RuntimeError("place comes before fetch")
        if self._batch is None:
            self._batch = next(self._feed)

    def advance(self, state: State) -> tuple[State, Block]:
        """One optimizer step on the next batch."""
        self.fetch(state)
        if self._step is None or self._feed is None or self._batch is None:
            raise RuntimeError("compile and place come before advance")
        batch, self._batch = self._sharded(self._batch), None
        with jax.set_mesh(self.layout.mesh):
            sections, metrics = self._step(state.sections, batch)
        guard = metrics.pop(GUARD)
        step = state.step + 1
        logged = step % self.spec["log_every"] == 0 or self.saves_at(step) or self.evaluates_at(step)
        measured = self._measured(step, metrics) if logged else []
        return State(step, sections, {"next_index": self._feed.position}), Block(step, measured, guard)

    def effort(self) -> Effort | None:
        """Units and FLOPs of one step (`flops.py` tells how they are counted)."""
        batch = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in self.objective.example().items()}
        moving = {name: self.one[name] for name in MOVING if name in self.one}
        with jax.set_mesh(self.layout.mesh):
            forward = forward_flops(self.loss, self.one["params"], moving, batch)
        name, units = self.objective.rate
        members = self.spec["ensemble"] or 1
        return Effort(name, members * units, members * 3 * forward)

    def settle(self, block: Block) -> None:
        """Wait for a block.

        Raises:
            NotFinite: the loss or the gradient's norm is not, and the spec says that this ends the job.
        """
        values = np.atleast_1d(np.asarray(block.ready))
        lost = np.flatnonzero(~np.isfinite(values))
        if lost.size and self.spec["stop"]["on_nonfinite"] == "fail":
            whose = "" if self.spec["ensemble"] is None else f" of trial {lost[0]}"
            told = f"the loss{whose} or its gradient became {values[lost[0]]} at step {block.step}"
            raise NotFinite(block.step, told, "/optimizer")

    def explain(self, state: State) -> Finding | None:
        """Find the operation, the parameters or the samples behind a number that is not finite."""
        self.fetch(state)
        if self._feed is None or self._batch is None:
            raise RuntimeError("place comes before explain")
        samples = self._feed.samples(state.position["next_index"])
        batch, self._batch = self._batch, None
        with jax.set_mesh(self.layout.mesh):
            return autopsy.examine(self._updated, state, batch, self._sharded(batch), samples)

    def saves_at(self, step: int) -> bool:
        """Every `checkpoint.every_steps`, and the last."""
        every = self.spec["checkpoint"]["every_steps"]
        return step == self.total or (every is not None and step > 0 and step % every == 0)

    def evaluates_at(self, step: int) -> bool:
        """Every `eval_every`, and the last step, where a part is held out."""
        every = self.spec["eval_every"]
        return self._evaluation.exists and step > 0 and (step == self.total or (every is not None and step % every == 0))

    def evaluate(self, state: State, outputs: Outputs, interrupted: Callable[[], bool]) -> Measurement | None:
        """`eval/…` over the held-out part, or None if `interrupted` said to leave off."""
        values = self._evaluation.run(state.sections, interrupted)
        return None if values is None else Measurement(state.step, values, self._label)

    def stops(self, step: int, outputs: Outputs) -> str | None:
        """`target`: the metric has reached it; `patience`: it has not got better in so many evaluations.

        Looked at where the job is evaluated, or saved if it never is: at steps that do not depend on where it was resumed.
        """
        looks_at = self.evaluates_at if self._evaluation.exists else self.saves_at
        return early.stops(self.spec["stop"], step, outputs, looks_at)

    def companions(self, folder: Path) -> list[str]:
        """A character model's vocabulary."""
        return self.objective.write_artifacts(folder)

    def result(self, state: State, outputs: Outputs, stopped_by: str) -> tuple[dict[str, Any], list[str]]:
        """`final` and `best` measurements; a character model's vocabulary as an artifact."""
        keep = self.spec["checkpoint"]["keep_best"] or {
            "metric": "eval/loss" if self._evaluation.exists else "train/loss",
            "mode": "min",
        }
        final = {"step": state.step, **outputs.at(state.step)}
        result = {"final": final, "best": outputs.best(keep["metric"], keep["mode"]), "stopped_by": stopped_by}
        if self.spec["ensemble"] is not None:
            result["trials"] = [
                {"trial": at, "seed": seed, "final": {"step": state.step, **outputs.at(state.step, at)},
                 "best": outputs.best(keep["metric"], keep["mode"], at)}
                for at, seed in enumerate(seeds(self.spec["seed"], self.spec["ensemble"]))
            ]  # fmt: skip
        return result, [*self.objective.write_artifacts(outputs.folder), *self._export(state, outputs.folder)]

    def _export(self, state: State, folder: Path) -> list[str]:
        if not self.spec["export"]["jax_export"]:
            return []
        return exporting.write(self.spec, state.sections, self.objective.example(), folder)

    # -- one step ------------------------------------------------------------------------------------------------------------

    def _fresh(self) -> Sections:
        return self._update.fresh(self.spec["seed"])

    def _place_sections(self) -> Sections:
        """Shardings by section: a parameter's own, the same for what the optimizer keeps in its shape, else replicated."""
        shapes, logical = self._shapes["params"], self.form.logical_axes
        params = {path: self.layout.of_parameter(path, leaf.shape, logical[path]) for path, leaf in shapes.items()}

        def of_leaf(path: Any, leaf: Any) -> Any:
            name = str(getattr(path[-1], "key", ""))
            return params[name] if name in params and shapes[name].shape == leaf.shape else self.layout.replicated

        placed = {name: jax.tree_util.tree_map_with_path(of_leaf, section) for name, section in self._shapes.items()}
        return placed | {"params": params}

    def _beside_devices(self, shardings: PyTree) -> PyTree:
        """The same in the host's memory, for arrays that are worth a copy.

        Raises:
            UserFault: the devices copy from no memory of the host.
        """
        if HOST not in {memory.kind for memory in self.layout.mesh.devices.flat[0].addressable_memories()}:
            raise UserFault("compile_failed", 'these devices share no memory with their host: set offload to "none"', "/offload")
        shapes = self._shapes["opt_state"]
        return jax.tree.map(lambda leaf, placed: placed.with_memory_kind(HOST) if leaf.ndim else placed, shapes, shardings)

    def _updated(self, sections: Sections, batch: PyTree) -> tuple[Sections, dict[str, jax.Array]]:
        """The update, with everything on the devices while it is computed."""
        if self.spec["offload"] == "opt_state":
            placed = self._shardings["opt_state"]
            near = jax.tree.map(lambda a, s: jax.device_put(a, s.with_memory_kind("device")), sections["opt_state"], placed)
            sections = sections | {"opt_state": near}
        return self._update(sections, batch)

    def _sharded(self, batch: datasets.Batch) -> PyTree:
        return {name: jax.device_put(a, self.layout.sharding("batch", *(None,) * (a.ndim - 1))) for name, a in batch.items()}

    @property
    def _label(self) -> str | None:
        return None if self.spec["ensemble"] is None else TRIAL

    def _measured(self, step: int, metrics: dict[str, jax.Array]) -> list[Measurement]:
        if self._label is None:
            return [Measurement(step, metrics | self._timed())]
        return [Measurement(step, metrics, self._label), Measurement(step, self._timed())]

    def _timed(self) -> dict[str, float]:
        now = time.perf_counter()
        seconds, self._clock = (now - self._clock) / self.spec["log_every"], now
        name, units = self.objective.rate
        return {"step_seconds": seconds, name: units * (self.spec["ensemble"] or 1) / max(seconds, 1e-9)}
