"""One optimizer update as a pure function of a state's sections and a batch."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jobs.programs import optimizers
from jobs.programs.averaging import build_average
from jobs.programs.mesh import Layout
from jobs.programs.module import ModuleForm
from jobs.programs.objectives import Objective
from jobs.programs.printing import Printer
from jobs.programs.program import PyTree, Sections
from jobs.spec.optimizers import clip_of
from jobs.spec.optimizers import figures as figures_of

MOVING = ("rngs", "batch_stats")
"""Sections that a forward pass may change."""


GUARD = "guard"
"""Among what a step puts out, a number that is finite if all is well. It is no metric."""


class Update:
    """What a training job does at every step.

    Args:
        spec: the resolved spec.
        layout: the mesh, over which micro-batches are spread.
        form: the module's fixed part.
        objective: the loss.
    """

    def __init__(self, spec: dict[str, Any], layout: Layout, form: ModuleForm, objective: Objective) -> None:
        self._layout, self._form, self._objective = layout, form, objective
        self._pieces: int = spec["grad_accumulation"]
        self._sums = jnp.dtype(spec["precision"]["accumulation"])
        self._optimizer = optax.with_extra_args_support(optimizers.build(spec["optimizer"], form.logical_axes))
        self._average = build_average(spec)
        self._rates = optimizers.learning_rates(spec["optimizer"])
        self._skips = "apply_if_finite" in str(spec["optimizer"])  # it leaves gradients out that are not finite, as it was asked to
        self._printer = Printer(spec["debug"]["print"], list(form.logical_axes))
        self._clip = clip_of(spec["optimizer"])
        self._norms = tuple(name for name in ("param_norm", "update_norm") if name in spec["metrics"])
        self.metrics = ["train/loss", "grad_norm", *figures_of(spec["optimizer"]), *self._norms]

    def fresh(self, seed: Any) -> Sections:
        """The sections of a state at step 0."""
        sections: Sections = self._form.fresh(seed)
        return sections | self.begin(sections["params"])

    def begin(self, params: PyTree) -> Sections:
        """What is kept beside parameters that no update has yet changed."""
        averaged = {} if self._average is None else {"averaged": self._average.init(params)}
        return {"opt_state": self._optimizer.init(params), **averaged, "counters": {"step": jnp.int32(0)}}

    def __call__(self, sections: Sections, batch: PyTree) -> tuple[Sections, dict[str, jax.Array]]:
        """The next sections, and what was measured on the way: a scalar for each of `metrics`, and `GUARD`."""
        params, count = sections["params"], sections["counters"]["step"]
        moving = {name: sections[name] for name in MOVING if name in sections}
        loss, grads, moved = self._gradients(params, moving, batch)
        self._printer(count, params, grads)

        def again(params: PyTree, obj_fn: Any = None) -> jax.Array:
            # For the few optimizers that search along a line or look at curvature: the loss of this batch elsewhere.
            # A line search refuses what its function does not take, and is handed `obj_fn` with all else.
            return self.loss(params, moving, batch)[0]

        functions = {"value": loss, "grad": grads, "value_fn": again, "obj_fn": again}
        updates, opt_state = self._optimizer.update(grads, sections["opt_state"], params, **functions)
        new = {"params": optax.apply_updates(params, updates), "opt_state": opt_state, "counters": {"step": count + 1}}
        if self._average is not None:
            new["averaged"] = self._average.update(sections["averaged"], new["params"], opt_state, count)
        figures = self._figures(grads, opt_state, count)
        # One number to read for both: the loss, or the norm of a gradient that is not finite although the loss is.
        norm = figures["grad_norm"]
        guard = loss if self._skips else jnp.where(jnp.isfinite(norm), loss, norm)
        norms = {"param_norm": new["params"], "update_norm": updates}
        measured = {GUARD: guard, "train/loss": loss, **{name: optax.tree.norm(norms[name]) for name in self._norms}}
        return new | moved, measured | figures

    def loss(self, params: PyTree, moving: PyTree, batch: PyTree) -> tuple[jax.Array, PyTree]:
        """Mean loss of a batch, and the sections that the forward pass moved."""
        total, (weight, moved) = self._total(params, moving, batch)
        return _over(total, weight), moved

    def _figures(self, grads: PyTree, opt_state: PyTree, count: jax.Array) -> dict[str, jax.Array]:
        """Figures of a step that cost next to nothing."""
        norm = optax.tree.norm(grads)
        rates = {name: jnp.asarray(rate(count), jnp.float32) for name, rate in self._rates.items()}
        clipped = {} if self._clip is None else {"clipped_fraction": optimizers.clipped_fraction(self._clip, grads, norm)}
        return {"grad_norm": norm, **rates, **optimizers.hyperparams(opt_state), **clipped}

    def _gradients(self, params: PyTree, moving: PyTree, batch: PyTree) -> tuple[jax.Array, PyTree, PyTree]:
        """Mean loss and its gradient, accumulated over micro-batches by a scan that keeps one gradient in memory."""
        if self._pieces == 1:
            (loss, moved), grads = jax.value_and_grad(self.loss, has_aux=True)(params, moving, batch)
            return loss, grads, moved

        def one(carry: PyTree, piece: PyTree) -> tuple[PyTree, None]:
            total, weight, grads, moving = carry
            (more, (weighed, moved)), slope = jax.value_and_grad(self._total, has_aux=True)(params, moving, piece)
            grads = jax.tree.map(lambda a, b: a + b.astype(a.dtype), grads, slope)
            return (total + more, weight + weighed, grads, moved), None

        zeros = jax.tree.map(lambda p: jnp.zeros_like(p, self._sums), params)
        zero = (jnp.float32(0), jnp.float32(0), zeros, moving)
        (total, weight, grads, moved), _ = jax.lax.scan(one, zero, self._cut(batch))
        return _over(total, weight), jax.tree.map(lambda g, p: _over(g, weight).astype(p.dtype), grads, params), moved

    def _total(self, params: PyTree, moving: PyTree, batch: PyTree) -> tuple[jax.Array, tuple[jax.Array, PyTree]]:
        """Sum of losses, with the sum of weights and what the forward pass moved."""
        module = self._form.give({"params": params, **moving})
        total, weight = self._objective.loss(module, batch)
        after = self._form.take(module)
        return total, (weight, {name: after[name] for name in moving})

    def _cut(self, batch: PyTree) -> PyTree:
        """Micro-batches along a new first axis, each spread over the whole data axis."""

        def cut(array: jax.Array) -> jax.Array:
            pieces = array.reshape(self._pieces, array.shape[0] // self._pieces, *array.shape[1:])
            return self._layout.constrain(pieces, None, "batch", *(None,) * (array.ndim - 1))

        return jax.tree.map(cut, batch)


def _over(total: jax.Array, weight: jax.Array) -> jax.Array:
    # A batch of weightless samples teaches nothing: its loss is 0, not 0 / 0.
    return total / jnp.maximum(weight, jnp.finfo(jnp.float32).tiny).astype(total.dtype)
