"""What inference is made of: kernels, where chains start, reparameterisations, guides and objectives of NumPyro."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpyro.infer.autoguide
import numpyro.infer.elbo
import numpyro.infer.initialization
import numpyro.infer.reparam
from numpyro import infer
from numpyro.infer.autoguide import AutoGuide
from numpyro.infer.mcmc import MCMCKernel

from jobs.programs.catalog.arguments import BOOLEAN, COUNT, NULL, NUMBER, Rules, Schema, nullable
from jobs.programs.catalog.entries import Section, public

_LENGTH = NUMBER | {"exclusiveMinimum": 0}
_UNIT = NUMBER | {"minimum": 0, "maximum": 1}
_SITE: Schema = {"type": "string", "minLength": 1, "maxLength": 200}
_DEPTH: Schema = COUNT | {"maximum": 20}
_VECTOR: Schema = {"type": "array", "items": NUMBER, "minItems": 1, "maxItems": 10_000}
_MATRIX: Schema = {"type": "array", "items": _VECTOR, "minItems": 1, "maxItems": 1000}
_CUBE: Schema = {"type": "array", "items": _MATRIX, "minItems": 1, "maxItems": 1000}
_BLOCK: Schema = {"type": "array", "items": _SITE, "minItems": 1, "maxItems": 1000}
_BLOCKS: Schema = {"type": "array", "items": _BLOCK, "maxItems": 1000, "description": "blocks of sites that share a dense matrix"}
UNIFORM = {"type": "init_to_uniform", "radius": 2.0}
MEDIAN = {"type": "init_to_median", "num_samples": 15}


def _start(default: Mapping[str, Any]) -> Schema:
    return {"$ref": "#/$defs/init", "default": dict(default)}


def _moves(*names: str) -> Schema:
    """Moves of an ensemble by name, each with its weight; null: the library's own."""
    return {
        "type": ["object", "null"],
        "patternProperties": {"|".join(names): _LENGTH},
        "propertyNames": {"description": f"one of {', '.join(names)}"},
        "default": None,
        "description": "weights of moves by name; null: the first alone",
    }


def _by_site(schema: Schema, **more: Any) -> Schema:
    named = {"description": "the name of a site"}
    return {"type": "object", "patternProperties": {"[\\s\\S]{1,200}": schema}, "propertyNames": named, **more}


MOVES = {"AIES": ("DEMove", "StretchMove"), "ESS": ("DifferentialMove", "GaussianMove", "KDEMove", "RandomMove")}
KERNEL_RULES = Rules(
    schemas={
        "model": None,
        "potential_fn": None,
        "kinetic_fn": None,
        "proxy": None,
        "inner_kernel": {"$ref": "#/$defs/gradient_kernel"},
        "inverse_mass_matrix": {
            "anyOf": [_VECTOR, _MATRIX, {"enum": ["init_from"]}, NULL],
            "description": "to start adapting from, by the sites' names; null: ones; init_from: the guide's spread",
        },
        "init_strategy": _start(UNIFORM),
        "step_size": _LENGTH,
        "adapt_step_size": BOOLEAN,
        "adapt_mass_matrix": BOOLEAN,
        "dense_mass": {"anyOf": [BOOLEAN, _BLOCKS]},
        "target_accept_prob": NUMBER | {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "num_steps": nullable(COUNT),
        "trajectory_length": nullable(_LENGTH),
        "max_tree_depth": {
            "anyOf": [_DEPTH, {"type": "array", "items": _DEPTH, "minItems": 2, "maxItems": 2}],
            "description": "a pair: in warm-up, and after",
        },
        "find_heuristic_step_size": BOOLEAN,
        "forward_mode_differentiation": BOOLEAN,
        "regularize_mass_matrix": BOOLEAN,
        "adapt_state_size": nullable(COUNT | {"minimum": 2}),
        "randomize_split": BOOLEAN,
        "max_steps": COUNT,
        "max_iter": COUNT,
        "init_mu": _LENGTH,
        "tune_mu": BOOLEAN,
        "num_blocks": COUNT,
        "num_discrete_updates": nullable(COUNT),
        "random_walk": BOOLEAN,
        "modified": BOOLEAN,
    },
    own={
        # NUTS takes no trajectory length, though its constructor does.
        "NUTS.trajectory_length": None,
        "BarkerMH.dense_mass": BOOLEAN,
        "SA.dense_mass": BOOLEAN,
        **{f"{kernel}.moves": _moves(*names) for kernel, names in MOVES.items()},
    },
)
GRADIENT_KERNELS = ("HMC", "NUTS")
"""Those that others may have inside them."""

START_RULES = Rules(
    schemas={
        "site": None,
        "radius": _LENGTH | {"default": 2.0},
        "num_samples": COUNT | {"maximum": 100_000},
        "values": _by_site({"anyOf": [NUMBER, _VECTOR, _MATRIX, _CUBE]}, default={}, description="by site, as the model has it"),
    }
)
REPARAM_RULES = Rules(
    schemas={
        "centered": nullable(_UNIT),
        "shape_params": {"type": "array", "items": _SITE, "maxItems": 10, "default": []},
        "dim": {"type": "integer", "minimum": -8, "maximum": -1},
        "flip": BOOLEAN,
        "smooth": _UNIT,
        "args": None,
        "kwargs": None,
    }
)
GUIDE_RULES = Rules(
    schemas={
        "model": None,
        "prefix": None,
        "create_plates": None,
        "hessian_fn": None,
        "nonlinearity": None,
        "init_loc_fn": _start(UNIFORM),
        "init_scale": _LENGTH,
        "rank": nullable(COUNT),
        "num_flows": COUNT | {"maximum": 100},
        "hidden_factors": {"type": "array", "items": COUNT | {"maximum": 1000}, "minItems": 1, "maxItems": 8},
        "hidden_dims": {"type": ["array", "null"], "items": COUNT, "minItems": 1, "maxItems": 8},
        "skip_connections": BOOLEAN,
        "batch_ndim": COUNT | {"maximum": 8},
        "forward_mode_differentiation": BOOLEAN,
        "K": COUNT | {"maximum": 1000},
        "base_dist": {"enum": ["diagonal", "cholesky"]},
        "eta_init": _LENGTH,
        "eta_max": _LENGTH,
        "gamma_init": NUMBER | {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
    },
    own={"AutoDelta.init_loc_fn": _start(MEDIAN)},
)
NOT_GUIDES = {
    "AutoContinuous": "is a form of other guides, not one itself",
    "AutoGuide": "is a form of other guides, not one itself",
    "AutoGuideList": "is put together in code",
}
OBJECTIVE_RULES = Rules(
    schemas={
        "num_particles": COUNT | {"maximum": 100_000},
        "vectorize_particles": BOOLEAN,
        "multi_sample_guide": None,
        "sum_sites": None,
        "alpha": NUMBER | {"default": 0.0},
    }
)
NOT_OBJECTIVES = {
    "ELBO": "is a form of other objectives, not one itself",
    "TraceEnum_ELBO": "enumerates by a library that workers do not have",
}
UNTOLD = {
    "DiscreteGibbs": "Metropolis updates of discrete latent sites, where a model has no others",
    "DiscreteHMCGibbs": "Metropolis updates of discrete latent sites, in turn with HMC or NUTS for the others",
    "HMCECS": "HMC or NUTS over a subsample of the data, for models with subsampled plates",
    "MixedHMC": "Hamiltonian Monte Carlo that updates discrete latent sites along its trajectory",
}
"""A line for what NumPyro has no docstring for, or one that begins otherwise."""


def kernels() -> Section:
    """Every kernel that plain arguments build; wrappers take an `inner_kernel`."""
    section = Section(untold=UNTOLD)
    for name, found in public(infer).items():
        if inspect.isclass(found) and issubclass(found, MCMCKernel):
            role: dict[str, Any] = {"role": "gradient"} if name in GRADIENT_KERNELS else {}
            section.add(f"numpyro.infer.{name}", found, KERNEL_RULES, kinds=["mcmc"], **role)
    return section.sorted()


def inits() -> Section:
    """Where chains and guides start."""
    section = Section()
    for name, found in public(numpyro.infer.initialization).items():
        if name.startswith("init_to_"):
            section.add(f"numpyro.infer.{name}", found, START_RULES)
    return section.sorted()


def reparams() -> Section:
    """Other forms of a site with the same meaning."""
    section = Section()
    for name, found in public(numpyro.infer.reparam).items():
        if inspect.isclass(found) and issubclass(found, numpyro.infer.reparam.Reparam) and name != "Reparam":
            section.add(f"numpyro.infer.reparam.{name}", found, REPARAM_RULES)
    return section.sorted()


def guides() -> Section:
    """Families that a posterior is fitted in."""
    section = Section(untold=UNTOLD)
    for name, found in public(numpyro.infer.autoguide).items():
        if name in NOT_GUIDES:
            section.excluded[name] = NOT_GUIDES[name]
        elif inspect.isclass(found) and issubclass(found, AutoGuide):
            section.add(f"numpyro.infer.autoguide.{name}", found, GUIDE_RULES, kinds=["svi"])
    return section.sorted()


def objectives() -> Section:
    """What a guide is fitted by."""
    section = Section()
    for name, found in public(numpyro.infer.elbo).items():
        if name in NOT_OBJECTIVES:
            section.excluded[name] = NOT_OBJECTIVES[name]
        elif inspect.isclass(found) and issubclass(found, numpyro.infer.elbo.ELBO):
            section.add(f"numpyro.infer.{name}", found, OBJECTIVE_RULES, kinds=["svi"])
    return section.sorted()
