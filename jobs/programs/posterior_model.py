"""The model of a sampling job, looked at before anything is drawn: what is wrong with it is told here, each with its own code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.errors import UserFault
from jobs.programs import reparams
from jobs.spec.pointers import join
from jobs.spec.strict import as_list

Model = Callable[..., Any]
DISCRETE = ("DiscreteHMCGibbs", "MixedHMC", "DiscreteGibbs")
"""Kernels that move discrete sites."""
INVALID = "distribution got invalid"
"""What NumPyro says of a parameter outside its domain."""
TWICE = "unique names"
"""What NumPyro says of two sites of one name."""


@dataclass(frozen=True)
class Looked:
    """A model that can be sampled.

    Attributes:
        model: in the form that the job asks for.
        sites: of a trace of it.
        forms: what `reparam` has made of each site that it changed.
    """

    model: Model
    sites: Mapping[str, Any]
    forms: Mapping[str, str]

    @property
    def latent(self) -> list[str]:
        """The sites that are drawn, sorted."""
        return sorted(name for name, site in self.sites.items() if site["type"] == "sample" and not site["is_observed"])


def look(model: Model, spec: Mapping[str, Any], data: Mapping[str, Any]) -> Looked:
    """Trace a model once from its priors.

    Raises:
        UserFault: `duplicate_site`, `discrete_latent`, `no_latent_site`, `unknown_site`.
    """
    sites = _trace(model, data)
    shaped, forms = reparams.apply(model, spec["reparam"], data, sites)
    looked = Looked(shaped, _trace(shaped, data) if forms else sites, forms)
    _require_latent(looked, spec)
    for kernel, pointer in _kernels(spec.get("kernel"), "/kernel"):
        _require_blocks(looked, kernel, pointer)
        _require_values(looked, kernel.get("init_strategy"), join(pointer, "init_strategy"))
    _require_values(looked, spec.get("guide", {}).get("init_loc_fn"), "/guide/init_loc_fn")
    return looked


def _trace(model: Model, data: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return reparams.trace(model, data, 0)
    except ValueError as error:
        if INVALID not in str(error):
            raise
        advice = "check the model's priors, and that its data are what they should be, such as scales above 0"
        raise UserFault("no_valid_start", f"{error} No draw can have a finite density: {advice}.", "/model") from error
    except AssertionError as error:
        if TWICE not in str(error):
            raise
        raise UserFault("duplicate_site", f"two sites of the model have one name: {error}; rename one of them", "/model") from error


def _require_latent(looked: Looked, spec: Mapping[str, Any]) -> None:
    discrete = [name for name in looked.latent if looked.sites[name]["fn"].support.is_discrete]
    kernel = spec.get("kernel", {}).get("type")
    if not looked.latent:
        raise UserFault("no_latent_site", "the model has nothing to draw: every site of it is observed", "/model")
    if discrete and kernel not in DISCRETE:
        who = f"{kernel} moves" if kernel else "A guide is fitted"
        hint = "use the kernel DiscreteHMCGibbs or MixedHMC with an inner_kernel, or sum the site out, as MixtureSameFamily does"
        message = f"{who} only along continuous sites, and {', '.join(discrete[:5])} of the model is discrete: {hint}"
        raise UserFault("discrete_latent", message, "/kernel/type" if kernel else "/model")
    if kernel in DISCRETE and not discrete:
        hint = "use NUTS, or the inner_kernel alone"
        raise UserFault("no_discrete_latent", f"{kernel} moves discrete sites, and the model has none: {hint}", "/kernel/type")
    if kernel == "DiscreteGibbs" and len(discrete) < len(looked.latent):
        message = "DiscreteGibbs moves discrete sites alone, and the model has others: use DiscreteHMCGibbs with an inner_kernel"
        raise UserFault("discrete_latent", message, "/kernel/type")


def _kernels(kernel: Any, pointer: str) -> list[tuple[Mapping[str, Any], str]]:
    if kernel is None:
        return []
    return [(kernel, pointer), *_kernels(kernel.get("inner_kernel"), join(pointer, "inner_kernel"))]


def _require_blocks(looked: Looked, kernel: Mapping[str, Any], pointer: str) -> None:
    seen: set[str] = set()
    for at, block in enumerate(as_list(kernel.get("dense_mass")) or []):
        for inner, name in enumerate(block):
            where = join(pointer, "dense_mass", at, inner)
            if name not in looked.latent:
                raise _unknown(name, looked, where)
            if name in seen:
                raise UserFault("unknown_site", f"the site {name} stands in two blocks; leave it in one", where)
            seen.add(name)


def _require_values(looked: Looked, start: Mapping[str, Any] | None, pointer: str) -> None:
    for name in (start or {}).get("values", {}):
        if name not in looked.latent:
            raise _unknown(name, looked, join(pointer, "values", name))


def _unknown(name: str, looked: Looked, pointer: str) -> UserFault:
    return UserFault("unknown_site", f"the model has no latent site {name}; it has {', '.join(looked.latent[:20])}", pointer)
