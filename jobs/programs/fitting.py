"""Guides: built from a spec, restored from a checkpoint, drawn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from numpyro import handlers
from numpyro.infer import SVI
from numpyro.infer.autoguide import AutoGuide

from jobs.programs import optimizers
from jobs.programs.kernels import start_of
from jobs.programs.library import arguments, found
from jobs.programs.program import flatten, unflatten

Model = Callable[..., Any]
AT_ONCE = 256
"""Draws that are put together at once."""


@dataclass(frozen=True)
class Guide:
    """A guide with its parameters: what a posterior was fitted by."""

    model: Model
    guide: AutoGuide
    params: Mapping[str, Any]


def build_guide(guide: Mapping[str, Any], model: Model) -> AutoGuide:
    """The guide that a resolved `guide` names, over a NumPyro model."""
    given = arguments(dict(guide))
    given |= {name: list(value) for name, value in given.items() if isinstance(value, tuple)}
    given["init_loc_fn"] = start_of(guide["init_loc_fn"])
    return found("guides", guide["type"])(model, **given)


def build_svi(spec: Mapping[str, Any], model: Model) -> SVI:
    """Model, guide, optimizer and objective of a resolved spec."""
    objective = found("losses", spec["loss"]["type"])(**arguments(spec["loss"]))
    return SVI(model, build_guide(spec["guide"], model), optimizers.build(spec["optimizer"]), objective)


def restored(model: Model, spec: Mapping[str, Any], params: Mapping[str, Any], data: Mapping[str, Any]) -> Guide:
    """A guide with the parameters of a checkpoint.

    Args:
        model: the NumPyro model, in the form that the guide was fitted to.
        spec: of the job that fitted it.
        params: by dotted path, unconstrained.
        data: the model's arguments.

    Raises:
        KeyError: a parameter is missing.
        ValueError: one is of another shape.
    """
    svi: Any = build_svi(spec, model)
    template = svi.optim.get_params(svi.init(jax.random.key(0), **data).optim_state)
    wanted = flatten(template)
    for path, leaf in wanted.items():
        if jnp.shape(params[path]) != leaf.shape:
            raise ValueError(f"{path} has shape {jnp.shape(params[path])}, and {leaf.shape} here")
    return Guide(model, svi.guide, svi.constrain_fn(unflatten(template, params)))


def draw(fitted: Guide, key: jax.Array, count: int, data: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Draws of every site that is not observed: (count, …) by site, with what follows from them in the model."""
    latents = fitted.guide.sample_posterior(key, dict(fitted.params), sample_shape=(count,), **data)
    sites = fitted.guide.prototype_trace
    latents = {name: value for name, value in latents.items() if name in sites and sites[name]["type"] == "sample"}
    filled = jax.random.key(0)

    def whole(one: dict[str, Any]) -> dict[str, Any]:
        trace = handlers.trace(handlers.seed(handlers.substitute(fitted.model, data=one), filled)).get_trace(**data)
        kept = (site for site in trace.values() if site["type"] == "deterministic" or _is_drawn(site))
        return {site["name"]: jnp.asarray(site["value"]) for site in kept}

    return jax.lax.map(whole, latents, batch_size=min(AT_ONCE, count))


def _is_drawn(site: Mapping[str, Any]) -> bool:
    return site["type"] == "sample" and not site["is_observed"]
