"""Kernels of NumPyro from the fitted objects of a spec, each moving all chains at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.infer
from numpyro.infer.mcmc import MCMCKernel

from jobs.programs.library import arguments, found
from jobs.spec.mcmc_checks import ENSEMBLES, FROM_ORIGIN

Named = dict[str, Any]
Model = Callable[..., Any]
PyTree = Any
TOGETHER = ("HMC", "NUTS")
"""Kernels that take a batch of keys by themselves."""

STATISTICS = ("accept_prob", "diverging", "energy", "num_steps", "potential_energy")
AVERAGED = ("accept_prob", "num_steps")


class Chains:
    """A kernel over all chains.

    Args:
        kernel: a resolved `kernel`.
        model: the NumPyro model.
        one_by_one: whether chains run one after another.
        inverse_mass_matrix: what "init_from" stands for, where it is known.
    """

    def __init__(self, kernel: Named, model: Model, *, one_by_one: bool, inverse_mass_matrix: Any = None) -> None:
        with jax.ensure_compile_time_eval():
            self._kernel = build(kernel, model, inverse_mass_matrix)
        self._type: str = kernel["type"]
        self._one_by_one = one_by_one

    def init(self, keys: jax.Array, num_warmup: int, start: PyTree, data: Mapping[str, Any]) -> PyTree:
        """The first state.

        Args:
            keys: (chains,) random keys.
            num_warmup: transitions to adapt in.
            start: unconstrained values by site, (chains, …); None leaves it to the kernel.
            data: the model's arguments.
        """
        if self._type in TOGETHER or self._type in ENSEMBLES:
            return self._kernel.init(keys, num_warmup, start, (), data)
        if start is None:
            return jax.vmap(lambda key: self._kernel.init(key, num_warmup, None, (), data))(keys)
        return jax.vmap(lambda key, one: self._kernel.init(key, num_warmup, one, (), data))(keys, start)

    def sample(self, state: PyTree, data: Mapping[str, Any]) -> PyTree:
        """One transition of every chain."""
        if self._type in ENSEMBLES:
            return self._kernel.sample(state, (), data)
        if self._type in TOGETHER:
            if not self._one_by_one:
                return self._kernel.sample(state, (), data)
            return jax.lax.map(lambda chain: self._alone(chain, data), state)
        one = functools.partial(self._kernel.sample, model_args=(), model_kwargs=data)
        return jax.lax.map(one, state) if self._one_by_one else jax.vmap(one)(state)

    def sites(self, state: PyTree, data: Mapping[str, Any]) -> dict[str, jax.Array]:
        """The values of all sites as the model has them: (chains, …)."""
        return jax.vmap(self._kernel.postprocess_fn((), data))(state.z)

    def statistics(self, state: PyTree) -> dict[str, jax.Array]:
        """What the kernel tells of its last transition, of what it has: (chains,) each."""
        chains = jax.tree.leaves(state.z)[0].shape[0]
        inner = getattr(state, "inner_state", None)
        if inner is not None:
            return {"accept_prob": jnp.full(chains, inner.accept_prob)} if hasattr(inner, "accept_prob") else {}
        inner = getattr(state, "hmc_state", state)
        told = {name: getattr(inner, name) for name in STATISTICS if hasattr(inner, name)}
        return told | ({"accept_prob": state.accept_prob} if hasattr(state, "accept_prob") else {})

    def step_size(self, state: PyTree) -> jax.Array | None:
        """(chains,) step sizes of a kernel that has them."""
        return getattr(getattr(getattr(state, "hmc_state", state), "adapt_state", None), "step_size", None)

    def _alone(self, chain: PyTree, data: Mapping[str, Any]) -> PyTree:
        one = jax.tree.map(lambda a: a[None], chain)
        return jax.tree.map(lambda a: a[0], self._kernel.sample(one, (), data))


def build(kernel: Named, model: Model, inverse_mass_matrix: Any = None) -> MCMCKernel:
    """The kernel that a resolved `kernel` names, over a NumPyro model."""
    given = arguments(kernel)
    kind = found("kernels", kernel["type"])
    if "init_strategy" in given:
        given["init_strategy"] = start_of(kernel["init_strategy"])
    if isinstance(kernel.get("dense_mass"), list):
        given["dense_mass"] = [tuple(block) for block in kernel["dense_mass"]]
    if given.get("inverse_mass_matrix") is not None:
        asked = kernel["inverse_mass_matrix"]
        given["inverse_mass_matrix"] = inverse_mass_matrix if asked == FROM_ORIGIN else jnp.asarray(asked, jnp.result_type(float))
    if given.get("moves") is not None:
        given["moves"] = {getattr(kind, name)(): weight for name, weight in kernel["moves"].items()}
    if "inner_kernel" in given:
        return kind(build(given.pop("inner_kernel"), model, inverse_mass_matrix), **given)
    return kind(model, **given)


def start_of(start: Named) -> Callable[..., Any]:
    """The strategy that a fitted object of the section `inits` names."""
    given = arguments(start)
    if "values" in given:
        given["values"] = {name: jnp.asarray(value, jnp.result_type(float)) for name, value in start["values"].items()}
    return functools.partial(getattr(numpyro.infer, start["type"]), **given)
