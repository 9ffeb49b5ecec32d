"""Whether the data bound what a flat prior leaves open: looked at once, where chains are after their warm-up.

A density of finite mass falls by more than a factor of ten from one decade to the next, far out along any coordinate. So the log
density is followed from each chain's place, along one unconstrained coordinate of a flat prior at a time, as far as numbers go.
What only several coordinates together leave open is not seen here; R-hat tells of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import distributions as dist
from numpyro import handlers
from numpyro.infer.util import potential_energy

from jobs.errors import UserFault

Model = Callable[..., Any]
NEAR = (10.0, 20.0, 40.0, 80.0)
"""Distances up to where an exponential overflows: scales are sampled as their logarithms."""

DISTANCES = (*NEAR, *(10.0**power for power in range(3, 13)))
"""How far from a chain's place the density is looked at; the later ones in sizes of the coordinate."""

FAR = len(DISTANCES)
STEPS = np.array([0.0, *DISTANCES, *(-each for each in DISTANCES)])
"""The place itself, and both ways from it."""

LEAST_DISTANCE = 20.0
"""Where numbers end before that, nothing is said."""

MOST_FALL = 1.0
"""Nats that a density may fall, from the chain's place and over the last decade, and count as one that does not fall."""

MOST_COORDINATES = 64


def flat_sites(sites: Mapping[str, Any]) -> list[str]:
    """The latent sites of a trace whose prior has no finite mass by itself."""
    latent = {name: site for name, site in sites.items() if site["type"] == "sample" and not site["is_observed"]}
    return sorted(name for name, site in latent.items() if _is_flat(site["fn"]))


def require_proper(model: Model, flat: list[str], data: Mapping[str, Any], places: Mapping[str, Any]) -> None:
    """Raise UserFault `improper_posterior` where the density of every chain does not fall along a coordinate of a flat prior.

    Args:
        model: the model, in the form that is sampled.
        flat: sites with flat priors.
        data: its arguments.
        places: unconstrained values by site, (chains, …).
    """
    here = {name: jnp.asarray(np.asarray(value)) for name, value in places.items()}
    given = {name: jnp.asarray(np.asarray(value)) for name, value in data.items()}

    def density(one: Any) -> jax.Array:
        return jnp.negative(potential_energy(handlers.seed(model, jax.random.key(0)), (), given, one))

    if _may_run_long(density, here):
        return

    @jax.jit
    def along(unit: Any) -> jax.Array:
        def far(chain: Any, step: jax.Array) -> jax.Array:
            return density(jax.tree.map(lambda value, way: value + way * step * _size(value, step), chain, unit))

        return jax.vmap(lambda chain: jax.lax.map(lambda step: far(chain, step), STEPS.astype(jnp.result_type(float))))(here)

    for name, at in _coordinates(flat, here):
        found = np.asarray(along(_unit(here, name, at)), np.float64)
        for way, columns in (("grows", slice(1, FAR + 1)), ("falls", slice(FAR + 1, None))):
            if all(does_not_fall(chain[0], chain[columns]) for chain in found):
                raise _fault(name, here[name].shape[1:], at, way)


def does_not_fall(here: float, beyond: np.ndarray) -> bool:
    """Whether a log density is as high as here where finite numbers end, and as before that: it has no finite mass there.

    Args:
        here: where a chain is.
        beyond: at `DISTANCES` from there.
    """
    told = int(np.argmin(np.append(np.isfinite(beyond), False)))
    if told < 2 or DISTANCES[told - 1] < LEAST_DISTANCE or not np.isfinite(here):
        return False
    before, last = beyond[told - 2], beyond[told - 1]
    return bool(last >= here - MOST_FALL and last >= before - MOST_FALL)


def _size(value: jax.Array, step: jax.Array) -> jax.Array:
    return jnp.where(jnp.abs(step) <= NEAR[-1], 1.0, jnp.maximum(1.0, jnp.abs(value)))


def _is_flat(fn: Any) -> bool:
    while not isinstance(fn, dist.ImproperUniform):
        fn = getattr(fn, "base_dist", None)
        if fn is None:
            return False
    return True


def _may_run_long(density: Callable[[Any], jax.Array], here: Mapping[str, jax.Array]) -> bool:
    """Whether it has a loop without a fixed end, such as a solver that takes ever smaller steps far out."""
    one = {name: jax.ShapeDtypeStruct(value.shape[1:], value.dtype) for name, value in here.items()}
    return "while[" in str(jax.make_jaxpr(density)(one))


def _coordinates(flat: list[str], here: Mapping[str, jax.Array]) -> list[tuple[str, int]]:
    """Sites and positions in them; of very many some, at even distances."""
    every = [(name, at) for name in flat for at in range(math.prod(here[name].shape[1:]))]
    return every[:: max(1, -(-len(every) // MOST_COORDINATES))]


def _unit(here: Mapping[str, jax.Array], name: str, at: int) -> dict[str, jax.Array]:
    unit = {each: jnp.zeros(value.shape[1:], value.dtype) for each, value in here.items()}
    return unit | {name: unit[name].reshape(-1).at[at].set(1).reshape(unit[name].shape)}


def _fault(site: str, shape: tuple[int, ...], at: int, way: str) -> UserFault:
    index = ",".join(str(int(each)) for each in np.unravel_index(at, shape)) if shape else ""
    name = f"{site}[{index}]" if shape else site
    message = (
        f"the posterior is improper: its density does not fall as {name} {way} without bound (on the scale that it is sampled on), "
        f"so the chains would wander off for ever. {name} has a flat prior, and the data do not bound it: give it a proper prior, "
        "such as Normal or HalfNormal, or data that tell of it"
    )
    return UserFault("improper_posterior", message, "/model")
