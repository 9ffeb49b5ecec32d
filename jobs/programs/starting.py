"""Where chains start: by the kernel's own strategy, or from a guide that was fitted before; and what is wrong where they cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer.util import unconstrain_fn

from jobs.errors import UserFault
from jobs.programs import fitting
from jobs.programs.program import State
from jobs.programs.reparams import trace

Model = Callable[..., Any]
SPREAD_DRAWS = 1000
"""Draws of a guide that its spread is told by."""
TRIES = 10


@dataclass(frozen=True)
class Start:
    """Unconstrained values by site, (chains, …), and an inverse mass matrix if the kernel asks for one."""

    positions: dict[str, jax.Array]
    inverse_mass_matrix: jax.Array | None = None


@dataclass(frozen=True)
class Origin:
    """The job that fitted the guide: its resolved spec, and the guide's parameters as a checkpoint has them."""

    spec: Mapping[str, Any]
    params: Mapping[str, Any]


@runtime_checkable
class WarmStarted(Protocol):
    """A program that can start where a guide says, and tells what it has chosen."""

    def warm_start(self, origin: Origin) -> State:
        """A first state from a guide."""
        ...

    def notes(self) -> dict[str, dict[str, Any]]:
        """What was chosen, by the type of the event that tells it."""
        ...


def from_guide(model: Model, origin: Origin, spec: Mapping[str, Any], data: Mapping[str, Any]) -> Start:
    """Starts drawn from a guide.

    Args:
        model: of the sampling job.
        origin: the guide.
        spec: of the sampling job.
        data: the model's arguments.

    Raises:
        UserFault: `init_from_mismatch`, where the guide's draws are not what the model draws.
    """
    sites = trace(model, data, 0)
    latent = sorted(name for name, site in sites.items() if site["type"] == "sample" and not site["is_observed"])
    key = jax.random.key(spec["seed"])
    try:
        draws = fitting.draw(
            fitting.restored(model, origin.spec, origin.params, data), key, SPREAD_DRAWS + spec["num_chains"], data
        )
        free = jax.vmap(lambda one: unconstrain_fn(model, (), dict(data), one))({name: draws[name] for name in latent})
    except (KeyError, TypeError, ValueError) as error:
        detail = f"the guide of the job in init_from does not fit this model and its data: {type(error).__name__}: {error}"
        raise UserFault("init_from_mismatch", detail, "/init_from") from error
    positions = {name: value[: spec["num_chains"]] for name, value in free.items()}
    flat = np.concatenate([np.asarray(free[name]).reshape(len(free[name]), -1) for name in sorted(free)], axis=1)
    dense = spec["kernel"].get("dense_mass") or spec["kernel"].get("inner_kernel", {}).get("dense_mass")
    spread = np.cov(flat, rowvar=False).reshape(flat.shape[1], -1) if dense is True else flat.var(axis=0)
    return Start(positions, jnp.asarray(spread, flat.dtype))


def require_finite(told: Mapping[str, Any], model: Model, data: Mapping[str, Any], seed: int) -> None:
    """Raise UserFault `no_valid_start` where a chain starts at a density that is not finite."""
    if "potential_energy" not in told:
        return
    energy = np.asarray(told["potential_energy"])
    if not np.all(np.isfinite(energy)):
        raise _no_start(f"chain {int(np.argmin(np.isfinite(energy)))} found", model, data, seed)


def explained(error: Exception, model: Model, data: Mapping[str, Any], seed: int) -> UserFault:
    """The fault of a job whose kernel could not begin."""
    if "Cannot find valid initial parameters" in str(error):
        return _no_start("NumPyro found", model, data, seed)
    return UserFault("user_code_error", f"NumPyro could not start the chains: {error}", "/model")


def _no_start(who: str, model: Model, data: Mapping[str, Any], seed: int) -> UserFault:
    guilty = _not_finite(model, data, seed)
    where = f" The density of {', '.join(guilty)} is not finite at any of the points that were tried." if guilty else ""
    advice = 'check data and priors against each other, or start elsewhere with kernel.init_strategy, such as "init_to_median"'
    return UserFault("no_valid_start", f"{who} no starting point with a finite log density: {advice}.{where}", "/model")


def _not_finite(model: Model, data: Mapping[str, Any], seed: int) -> list[str]:
    """The sites whose density is finite at none of some points near the origin of the unconstrained space."""
    always: set[str] | None = None
    for at in range(TRIES):
        try:
            sites = trace(model, data, seed + at)
        except (RuntimeError, ValueError, NotImplementedError):
            return []
        bad = {
            name
            for name, site in sites.items()
            if site["type"] == "sample" and not np.all(np.isfinite(np.asarray(site["fn"].log_prob(site["value"]))))
        }
        always = bad if always is None else always & bad
    return sorted(always or ())[:5]
