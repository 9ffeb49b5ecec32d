"""Models with some of their sites in another form of the same meaning.

Source: Gorinova, Moore and Hoffman (2020), Automatic Reparameterisation of Probabilistic Programs, ICML; Papaspiliopoulos, Roberts
and Sköld (2007), Statistical Science 22(1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.infer import init_to_uniform
from numpyro.infer.reparam import LocScaleReparam, Reparam, TransformReparam

from jobs.errors import UserFault
from jobs.programs.library import arguments, found
from jobs.spec.pointers import join
from jobs.spec.reparam import AUTO, POINTER

Model = Callable[..., Any]
LOCATED: Mapping[type, tuple[str, ...]] = {
    dist.Normal: (),
    dist.Cauchy: (),
    dist.Laplace: (),
    dist.Logistic: (),
    dist.Gumbel: (),
    dist.StudentT: ("df",),
}
"""Families of a location and a scale, and their other parameters."""


def apply(model: Model, asked: Any, data: Mapping[str, Any], sites: Mapping[str, Any]) -> tuple[Model, dict[str, str]]:
    """The model in the form that a resolved `reparam` asks for.

    Args:
        model: the NumPyro model.
        asked: None, "auto", or fitted objects by site.
        data: the model's arguments.
        sites: a trace of the model.

    Returns: the model, and the form of each site that has another.

    Raises:
        UserFault: `unknown_site`, for a name that no latent site has.
    """
    if asked is None:
        return model, {}
    forms = found_by_looking(model, data) if asked == AUTO else _named(asked, sites)
    return handlers.reparam(model, config=forms), {name: type(form).__name__ for name, form in forms.items()}


def _named(asked: Mapping[str, Any], sites: Mapping[str, Any]) -> dict[str, Reparam]:
    latent = [name for name, site in sites.items() if site["type"] == "sample" and not site["is_observed"]]
    for name in asked:
        if name not in latent:
            detail = f"the model has no latent site of this name; its sites are {', '.join(latent[:20])}"
            raise UserFault("unknown_site", detail, join(POINTER, name))
    return {name: found("reparams", form["type"])(**arguments(form)) for name, form in asked.items()}


def found_by_looking(model: Model, data: Mapping[str, Any]) -> dict[str, Reparam]:
    """Forms for the latent sites whose place or spread follows from other latent sites: those are what makes a posterior a funnel.

    They are told by running the model at two points: such parameters come out different.
    """
    one, other = (trace(model, data, seed) for seed in (0, 1))
    forms = {name: _form(site, other[name]) for name, site in one.items() if name in other and _is_free(site)}
    return {name: form for name, form in forms.items() if form is not None}


def trace(model: Model, data: Mapping[str, Any], seed: int) -> Mapping[str, Any]:
    """The sites of a model at a point near the origin of its unconstrained space, where a flat prior has values too."""
    begun = handlers.substitute(handlers.seed(model, jax.random.key(seed)), substitute_fn=init_to_uniform)
    return handlers.trace(begun).get_trace(**data)


def _is_free(site: Mapping[str, Any]) -> bool:
    return site["type"] == "sample" and not site["is_observed"] and not site["fn"].support.is_discrete


def _form(site: Mapping[str, Any], again: Mapping[str, Any]) -> Reparam | None:
    family, other = _bare(site["fn"]), _bare(again["fn"])
    if type(family) in LOCATED:
        return LocScaleReparam(0.0, LOCATED[type(family)]) if _moves(family, other, ("loc", "scale")) else None
    if isinstance(family, dist.TransformedDistribution) and type(_bare(family.base_dist)) in LOCATED:
        base = _bare(family.base_dist)
        return None if _moves(base, _bare(other.base_dist), ("loc", "scale")) else _transform(family, other)
    return None


def _transform(family: Any, other: Any) -> Reparam | None:
    differ = [_differ(a, b) for a, b in zip(jax.tree.leaves(family.transforms), jax.tree.leaves(other.transforms), strict=True)]
    return TransformReparam() if any(differ) else None


def _moves(family: Any, other: Any, names: tuple[str, ...]) -> bool:
    return any(_differ(getattr(family, name), getattr(other, name)) for name in names)


def _differ(one: Any, other: Any) -> bool:
    return np.shape(one) != np.shape(other) or not np.array_equal(np.asarray(one), np.asarray(other), equal_nan=True)


def _bare(family: Any) -> Any:
    while isinstance(family, dist.Independent | dist.ExpandedDistribution | dist.MaskedDistribution):
        family = family.base_dist
    return family
