"""Training as a program: a Flax NNX model, an Optax optimizer, one jitted and sharded step with donated state."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jobs.programs import autopsy, optimizers
from jobs.programs import data as datasets
from jobs.programs.evaluation import Evaluation
from jobs.programs.flops import forward_flops
from jobs.programs.mesh import Layout
from jobs.programs.module import ModuleForm
from jobs.programs.objectives import Objective, build_objective
from jobs.programs.outputs import Outputs
from jobs.programs.program import Block, Effort, Finding, Measurement, NotFinite, PyTree, Sections, State
from jobs.spec.optimizers import figures

GUARD = "guard"
"""Among what a step puts out, a number that is finite if all is well. It is no metric."""

MOVING = ("rngs", "batch_stats")
"""Sections that a forward pass may change."""


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
        optimizer = optimizers.build(spec["optimizer"], self.form.logical_axes)
        self.optimizer: optax.GradientTransformationExtraArgs = optax.with_extra_args_support(optimizer)
        self._rates = optimizers.learning_rates(spec["optimizer"])
        self._shapes = jax.eval_shape(self._fresh)
        self._shardings = self._place_sections()
        self._evaluation = Evaluation(spec, layout, self.form, self.objective)
        self._skips = "apply_if_finite" in str(spec["optimizer"])  # it leaves gradients out that are not finite, as it was asked to
        self._step: Callable[..., Any] | None = None
        self._feed: datasets.Feed | None = None
        self._batch: datasets.Batch | None = None
        self._clock = time.perf_counter()

    def init(self) -> State:
        """Everything at step 0, made on the mesh where it belongs: never whole on one device."""
        with jax.set_mesh(self.layout.mesh):
            sections = jax.jit(self._fresh, out_shardings=self._shardings)()
        return self.place(0, sections, {"next_index": 0})

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
        names = [GUARD, "train/loss", "grad_norm", *figures(self.spec["optimizer"])]
        out = (self._shardings, dict.fromkeys(names, self.layout.replicated))
        step = jax.jit(self._update, donate_argnums=0, out_shardings=out)
        with jax.set_mesh(self.layout.mesh):
            ahead = not self.spec["debug"]["disable_jit"]
            self._step = step.lower(state.sections, self._sharded(self.objective.example())).compile() if ahead else step
        self._clock = time.perf_counter()

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
        measured = [Measurement(step, metrics | self._timed())] if logged else []
        return State(step, sections, {"next_index": self._feed.position}), Block(step, measured, guard)

    def effort(self) -> Effort | None:
        """Units and FLOPs of one step (`flops.py` tells how they are counted)."""
        batch = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in self.objective.example().items()}
        moving = {name: self._shapes[name] for name in MOVING if name in self._shapes}
        with jax.set_mesh(self.layout.mesh):
            forward = forward_flops(self._loss, self._shapes["params"], moving, batch)
        name, units = self.objective.rate
        return Effort(name, units, 3 * forward)

    def settle(self, block: Block) -> None:
        """Wait for a block.

        Raises:
            NotFinite: the loss or the gradient's norm is not, and the spec says that this ends the job.
        """
        value = float(block.ready)
        if not np.isfinite(value) and self.spec["stop"]["on_nonfinite"] == "fail":
            raise NotFinite(block.step, f"the loss or its gradient became {value} at step {block.step}", "/optimizer")

    def explain(self, state: State) -> Finding | None:
        """Find the operation, the parameters or the samples behind a number that is not finite."""
        self.fetch(state)
        if self._feed is None or self._batch is None:
            raise RuntimeError("place comes before explain")
        samples = self._feed.samples(state.position["next_index"])
        batch, self._batch = self._batch, None
        with jax.set_mesh(self.layout.mesh):
            return autopsy.examine(self._update, state, batch, self._sharded(batch), samples)

    def saves_at(self, step: int) -> bool:
        """Every `checkpoint.every_steps`, and the last."""
        every = self.spec["checkpoint"]["every_steps"]
        return step == self.total or (every is not None and step > 0 and step % every == 0)

    def evaluates_at(self, step: int) -> bool:
        """Every `eval_every`, and the last step, where a part is held out."""
        every = self.spec["eval_every"]
        return self._evaluation.exists and step > 0 and (step == self.total or (every is not None and step % every == 0))

    def evaluate(self, state: State, outputs: Outputs, interrupted: Callable[[], bool]) -> dict[str, float] | None:
        """`eval/…` over the held-out part, or None if `interrupted` said to leave off."""
        return self._evaluation.run(state.sections, interrupted)

    def stops(self, step: int, outputs: Outputs) -> str | None:
        """`patience`: the metric has not got better in so many evaluations."""
        stop = self.spec["stop"]
        if stop["patience"] is None or not self.evaluates_at(step):
            return None
        values = [value for at, value in outputs.series(stop["metric"]) if at <= step and self.evaluates_at(at)]
        best = min if stop["mode"] == "min" else max
        since = len(values) - 1 - values.index(best(values)) if values else 0
        return "patience" if since >= stop["patience"] else None

    def result(self, state: State, outputs: Outputs, stopped_by: str) -> tuple[dict[str, Any], list[str]]:
        """`final` and `best` measurements; a character model's vocabulary as an artifact."""
        keep = self.spec["checkpoint"]["keep_best"] or {
            "metric": "eval/loss" if self._evaluation.exists else "train/loss",
            "mode": "min",
        }
        final = {"step": state.step, **outputs.at(state.step)}
        result = {"final": final, "best": outputs.best(keep["metric"], keep["mode"]), "stopped_by": stopped_by}
        return result, self.objective.write_artifacts(outputs.folder)

    # -- one step ------------------------------------------------------------------------------------------------------------

    def _fresh(self) -> Sections:
        sections: Sections = self.form.fresh(self.spec["seed"])
        return sections | {"opt_state": self.optimizer.init(sections["params"]), "counters": {"step": jnp.int32(0)}}

    def _place_sections(self) -> Sections:
        """Shardings by section: a parameter's own, the same for what the optimizer keeps in its shape, else replicated."""
        shapes, logical = self._shapes["params"], self.form.logical_axes
        params = {path: self.layout.of_parameter(path, leaf.shape, logical[path]) for path, leaf in shapes.items()}

        def of_leaf(path: Any, leaf: Any) -> Any:
            name = str(getattr(path[-1], "key", ""))
            return params[name] if name in params and shapes[name].shape == leaf.shape else self.layout.replicated

        placed = {name: jax.tree_util.tree_map_with_path(of_leaf, section) for name, section in self._shapes.items()}
        return placed | {"params": params}

    def _update(self, sections: Sections, batch: PyTree) -> tuple[Sections, dict[str, jax.Array]]:
        params, count = sections["params"], sections["counters"]["step"]
        moving = {name: sections[name] for name in MOVING if name in sections}
        loss, grads, moved = self._gradients(params, moving, batch)

        def again(params: PyTree, obj_fn: Any = None) -> jax.Array:
            # For the few optimizers that search along a line or look at curvature: the loss of this batch elsewhere.
            # A line search refuses what its function does not take, and is handed `obj_fn` with all else.
            return self._loss(params, moving, batch)[0]

        functions = {"value": loss, "grad": grads, "value_fn": again, "obj_fn": again}
        updates, opt_state = self.optimizer.update(grads, sections["opt_state"], params, **functions)
        rates = {name: jnp.asarray(rate(count), jnp.float32) for name, rate in self._rates.items()}
        norm = optax.tree.norm(grads)
        # One number to read for both: the loss, or the norm of a gradient that is not finite although the loss is.
        guard = loss if self._skips else jnp.where(jnp.isfinite(norm), loss, norm)
        metrics = {GUARD: guard, "train/loss": loss, "grad_norm": norm, **rates, **optimizers.hyperparams(opt_state)}
        new = {"params": optax.apply_updates(params, updates), "opt_state": opt_state, "counters": {"step": count + 1}}
        return new | moved, metrics

    def _gradients(self, params: PyTree, moving: PyTree, batch: PyTree) -> tuple[jax.Array, PyTree, PyTree]:
        """Mean loss and its gradient, accumulated over micro-batches by a scan that keeps one gradient in memory."""
        pieces = self.spec["grad_accumulation"]
        gradient = jax.value_and_grad(self._loss, has_aux=True)
        if pieces == 1:
            (loss, moved), grads = gradient(params, moving, batch)
            return loss, grads, moved

        def one(carry: PyTree, piece: PyTree) -> tuple[PyTree, None]:
            total, grads, moving = carry
            (loss, moved), more = gradient(params, moving, piece)
            return (total + loss, jax.tree.map(jnp.add, grads, more), moved), None

        zero = (jnp.float32(0), jax.tree.map(jnp.zeros_like, params), moving)
        (total, grads, moved), _ = jax.lax.scan(one, zero, self._pieces(batch, pieces))
        return total / pieces, jax.tree.map(lambda g: g / pieces, grads), moved

    def _pieces(self, batch: PyTree, count: int) -> PyTree:
        """Micro-batches along a new first axis, each spread over the whole data axis."""

        def cut(array: jax.Array) -> jax.Array:
            pieces = array.reshape(count, array.shape[0] // count, *array.shape[1:])
            return self.layout.constrain(pieces, None, "batch", *(None,) * (array.ndim - 1))

        return jax.tree.map(cut, batch)

    def _loss(self, params: PyTree, moving: PyTree, batch: PyTree) -> tuple[jax.Array, PyTree]:
        module = self.form.give({"params": params, **moving})
        total, weight = self.objective.loss(module, batch)
        after = self.form.take(module)
        return total / weight, {name: after[name] for name in moving}

    def _sharded(self, batch: datasets.Batch) -> PyTree:
        return {name: jax.device_put(a, self.layout.sharding("batch", *(None,) * (a.ndim - 1))) for name, a in batch.items()}

    def _timed(self) -> dict[str, float]:
        now = time.perf_counter()
        seconds, self._clock = (now - self._clock) / self.spec["log_every"], now
        name, units = self.objective.rate
        return {"step_seconds": seconds, name: units / max(seconds, 1e-9)}
