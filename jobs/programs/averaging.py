"""Parameters averaged over the steps: what is evaluated and handed out in place of those that gradients are taken at."""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from jobs.programs import optimizers
from jobs.programs.program import PyTree
from jobs.spec.optimizers import is_schedule_free


class Average(Protocol):
    """An average of parameters, kept in the section `averaged` of a state."""

    def init(self, params: PyTree) -> PyTree:
        """The average before any update: the parameters themselves."""
        ...

    def update(self, average: PyTree, params: PyTree, opt_state: PyTree, count: jax.Array) -> PyTree:
        """The average after the update that gave `params` and `opt_state`; `count` updates came before it."""
        ...


def build_average(spec: dict[str, Any]) -> Average | None:
    """The average that a resolved spec asks for, or that its optimizer is about."""
    if spec["ema"] is not None:
        return Exponential(spec["ema"]["decay"])
    return ScheduleFree() if is_schedule_free(spec["optimizer"]) else None


class Exponential:
    """Exponential moving average, free of the bias to its start.

    After t updates the parameters of j updates ago have a weight in proportion to decay^j, and all weights add up to 1: the numbers
    that `optax.ema(decay, debias=True)` gives when it is fed with the parameters. They are kept in float32 at least: in bfloat16
    the small steps of a slow average would be lost.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay

    def init(self, params: PyTree) -> PyTree:
        """A copy of the parameters."""
        return jax.tree.map(lambda p: jnp.array(p, jnp.promote_types(p.dtype, jnp.float32), copy=True), params)

    def update(self, average: PyTree, params: PyTree, opt_state: PyTree, count: jax.Array) -> PyTree:
        """A step towards the new parameters."""
        share = (1 - self._decay) / -jnp.expm1((count + 1) * jnp.log(jnp.float32(self._decay)))
        return jax.tree.map(lambda a, p: a + share.astype(a.dtype) * (p - a), average, params)


class ScheduleFree:
    """What `optax.contrib.schedule_free_eval_params` gives for the parameters that a schedule-free method trains."""

    def init(self, params: PyTree) -> PyTree:
        """A copy of the parameters."""
        return jax.tree.map(jnp.copy, params)

    def update(self, average: PyTree, params: PyTree, opt_state: PyTree, count: jax.Array) -> PyTree:
        """The method's own average; parameters that another optimizer of a `partition` trains stay as they are."""
        found = dict(params)
        for state in optimizers.states_of(opt_state, contrib.ScheduleFreeState):
            own = {path: z for path, z in state.z.items() if not isinstance(z, optax.MaskedNode)}
            found |= contrib.schedule_free_eval_params(state._replace(z=own), {path: params[path] for path in own})
        return {path: value.astype(average[path].dtype) for path, value in found.items()}
