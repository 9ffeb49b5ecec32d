"""Kernels and distributions of NumPyro."""

from __future__ import annotations

import inspect
from typing import Any

import numpyro.distributions as dist
from numpyro import infer
from numpyro.distributions import constraints
from numpyro.infer.mcmc import MCMCKernel

from jobs.programs.catalog.arguments import BOOLEAN, COUNT, INTEGER, NUMBER, Rules, Schema, nullable
from jobs.programs.catalog.entries import Section, public

KERNELS = ("HMC", "NUTS")
_OTHER_KERNEL = "is not built into this version's sampler"
_LENGTH = NUMBER | {"exclusiveMinimum": 0}
KERNEL_RULES = Rules(
    schemas={
        "model": None,
        "potential_fn": None,
        "kinetic_fn": None,
        "inverse_mass_matrix": None,
        "init_strategy": None,
        "step_size": _LENGTH,
        "adapt_step_size": BOOLEAN,
        "adapt_mass_matrix": BOOLEAN,
        "dense_mass": BOOLEAN,
        "target_accept_prob": NUMBER | {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "num_steps": nullable(COUNT),
        "trajectory_length": nullable(_LENGTH),
        "max_tree_depth": COUNT | {"maximum": 20},
        "find_heuristic_step_size": BOOLEAN,
        "forward_mode_differentiation": BOOLEAN,
        "regularize_mass_matrix": BOOLEAN,
    },
    # NUTS takes no trajectory length, though its constructor does.
    own={"NUTS.trajectory_length": None},
)

ROOTS = {"Distribution", "ExpandedDistribution", "ImproperUniform", "Independent", "MaskedDistribution", "TransformedDistribution"}
FACTORIES = (
    "Bernoulli", "Binomial", "Categorical", "Geometric", "Multinomial", "NegativeBinomial", "TruncatedCauchy", "TruncatedNormal",
)  # fmt: skip
UNTOLD = {
    "Categorical": "Categorical distribution over 0, 1, … with probabilities or logits",
    "TruncatedCauchy": "Cauchy distribution between low and high",
    "TruncatedNormal": "Normal distribution between low and high",
}
"""A line for what NumPyro has no docstring for."""

_VECTOR: Schema = {"type": "array", "items": NUMBER, "minItems": 1, "maxItems": 10_000}
_MATRIX: Schema = {"type": "array", "items": _VECTOR, "minItems": 1, "maxItems": 1000}
_POSITIVE, _UNIT = NUMBER | {"exclusiveMinimum": 0}, NUMBER | {"minimum": 0, "maximum": 1}
_SHAPE: Schema = {"type": "array", "items": COUNT, "maxItems": 8}
DISTRIBUTION_RULES = Rules(
    schemas={
        "validate_args": None,
        "num_steps": COUNT,
        "dimension": COUNT | {"minimum": 2},
        "event_shape": _SHAPE,
        "batch_shape": _SHAPE,
        "total_count_max": nullable(COUNT),
        "sample_method": {"enum": ["onion", "cvine"]},
    },
    own={"Delta.v": NUMBER, "CAR.is_sparse": None, "Poisson.is_sparse": None, "CAR.adj_matrix": _MATRIX},
)


def kernels() -> Section:
    """The kernels whose state and adaptation the sampler knows."""
    section = Section()
    for name, found in public(infer).items():
        if name in KERNELS:
            section.add(f"numpyro.infer.{name}", found, KERNEL_RULES, kinds=["mcmc"])
        elif inspect.isclass(found) and issubclass(found, MCMCKernel):
            section.excluded[name] = _OTHER_KERNEL
    return section.sorted()


def distributions() -> Section:
    """Every distribution of NumPyro that numbers and arrays of numbers build."""
    section = Section(untold=UNTOLD)
    for name, found in public(dist).items():
        is_class = inspect.isclass(found) and issubclass(found, dist.Distribution)
        if name in ROOTS:
            section.excluded[name] = "is a form of other distributions, not one itself"
        elif is_class or name in FACTORIES:
            section.add(f"numpyro.distributions.{name}", found, _rules_of(found))
    return section.sorted()


def _rules_of(found: Any) -> Rules:
    """Rules that know the domain of each parameter from the distribution itself; null is allowed where it is the default."""
    domains = getattr(found, "arg_constraints", {})
    schemas = {name: schema for name, domain in domains.items() if (schema := _of_domain(domain)) is not None}
    if not inspect.isclass(found):
        one = found.__name__ not in {"Categorical", "Multinomial"}
        schemas = {"probs": _UNIT if one else _VECTOR, "logits": NUMBER if one else _VECTOR, "scale": _POSITIVE}
    parameters = inspect.signature(found).parameters
    merged = {name: _with_default(schema, parameters[name]) for name, schema in schemas.items() if name in parameters}
    return Rules(schemas={**merged, **DISTRIBUTION_RULES.schemas}, own=DISTRIBUTION_RULES.own)


def _with_default(schema: Schema, parameter: inspect.Parameter) -> Schema:
    """The same schema, with the default allowed: null, or a number that stands for every element."""
    if parameter.default is None:
        return nullable(schema)
    return {"anyOf": [NUMBER, schema]} if isinstance(parameter.default, float) and schema["type"] == "array" else schema


def _of_domain(domain: Any) -> Schema | None:
    """The schema of the values in a domain; None where the domain depends on other arguments."""
    if isinstance(domain, type(constraints.dependent)):
        return None
    if domain.event_dim > 0:
        return {1: _VECTOR, 2: _MATRIX}.get(domain.event_dim)
    if domain is constraints.nonnegative_integer:
        return INTEGER
    if domain is constraints.unit_interval:
        return _UNIT
    return _POSITIVE if domain is constraints.positive else NUMBER
