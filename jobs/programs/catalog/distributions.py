"""Distributions of NumPyro: whatever numbers, expressions of numbers, and other distributions build."""

from __future__ import annotations

import inspect
from typing import Any

import numpyro.distributions as dist
from numpyro.distributions import constraints

from jobs.programs.catalog.arguments import COUNT, INTEGER, NUMBER, Rules, Schema, nullable
from jobs.programs.catalog.entries import Section, public

ROOTS = {
    "Distribution": "is the form of all others, not one itself",
    "EulerMaruyama": "needs sde_fn, a function: write its steps with a scan and a factor",
}
FACTORIES = {
    "Bernoulli": (0, True), "Binomial": (0, True), "Categorical": (0, True), "Geometric": (0, True),
    "HurdleDistribution": (None, None),
    "HurdleNegativeBinomial2": (0, True), "Mixture": (None, None), "Multinomial": (1, True), "NegativeBinomial": (0, True),
    "RelaxedBernoulli": (0, False), "TruncatedCauchy": (0, False), "TruncatedDistribution": (0, False), "TruncatedGamma": (0,
    False),
    "TruncatedNormal": (0, False), "ZeroInflatedDistribution": (None, True), "ZeroInflatedNegativeBinomial2": (0, True),
}  # fmt: skip
"""Functions that give a distribution: the axes of its event, and whether it is discrete; None where that depends on another."""
OF_OTHERS = {"ImproperUniform", "Independent", "ExpandedDistribution", "MaskedDistribution", "TransformedDistribution",
             "FoldedDistribution", "HurdleLogits", "HurdleProbs", "MixtureGeneral", "MixtureSameFamily",
             "IntervalCensoredDistribution",
             "LeftCensoredDistribution", "RightCensoredDistribution"}  # fmt: skip
"""Classes of which the same is true."""
SETTLED = {"Categorical": (0, True), "CategoricalLogits": (0, True), "CategoricalProbs": (0, True), "BetaBinomial": (0, True),
           "BinomialLogits": (0, True), "BinomialProbs": (0, True), "Levy": (0, False), "Delta": (None, False),
           "ZeroSumNormal": (None, False), "Unit": (1, False)}  # fmt: skip
"""What a class does not say of itself, for its support depends on its arguments."""
UNTOLD = {
    "RelaxedBernoulli": "Relaxed Bernoulli distribution on (0, 1), with a temperature",
    "Categorical": "Categorical distribution over 0, 1, … with probabilities or logits",
    "HurdleNegativeBinomial2": "Negative binomial with mean and concentration, behind a hurdle at zero",
    "Mixture": "Mixture of components: one distribution with a last batch axis, or a list of distributions",
    "TruncatedCauchy": "Cauchy distribution between low and high",
    "TruncatedDistribution": "A distribution between low and high: Cauchy, Laplace, Logistic, Normal, SoftLaplace or StudentT",
    "TruncatedGamma": "Gamma distribution between low and high",
    "TruncatedNormal": "Normal distribution between low and high",
    "ZeroInflatedNegativeBinomial2": "Negative binomial with mean and concentration, with more zeros",
}
"""A line for what NumPyro has no docstring for."""

_VECTOR: Schema = {"type": "array", "items": NUMBER, "minItems": 1, "maxItems": 10_000}
_MATRIX: Schema = {"type": "array", "items": _VECTOR, "minItems": 1, "maxItems": 1000}
_POSITIVE, _UNIT = NUMBER | {"exclusiveMinimum": 0}, NUMBER | {"minimum": 0, "maximum": 1}
EXPRESSION: Schema = {"$ref": "#/$defs/expression"}
SIZE: Schema = {"$ref": "#/$defs/size"}
SIZES: Schema = {"type": "array", "items": SIZE, "maxItems": 8}
DISTRIBUTION: Schema = {"$ref": "#/$defs/distribution"}
_LISTED: Schema = {"type": "array", "items": DISTRIBUTION, "minItems": 1, "maxItems": 64}

RULES: dict[str, Schema | None] = {
    "validate_args": None,
    "is_sparse": None,
    "num_steps": SIZE,
    "dimension": SIZE,
    "reinterpreted_batch_ndims": SIZE,
    "event_dim": SIZE,
    "event_shape": SIZES,
    "batch_shape": SIZES,
    "total_count_max": {"anyOf": [COUNT, {"type": "null"}, SIZE]},
    "sample_method": {"enum": ["onion", "cvine"]},
    **dict.fromkeys(
        ("base_dist", "base_distribution", "mixing_distribution", "component_distribution", "marginal_dist"), DISTRIBUTION
    ),
    "component_distributions": _LISTED,
    "transforms": {"anyOf": [{"$ref": "#/$defs/transform"}, {"type": "array", "items": {"$ref": "#/$defs/transform"}, "minItems": 1,
                                                             "maxItems": 64}]},
    "support": {"$ref": "#/$defs/constraint"},
}  # fmt: skip
OWN: dict[str, Schema | None] = {
    "Delta.v": {"anyOf": [NUMBER, EXPRESSION]},
    "CAR.adj_matrix": {"anyOf": [_MATRIX, EXPRESSION]},
    "ImproperUniform.batch_shape": SIZES | {"default": []},
    "ImproperUniform.event_shape": SIZES | {"default": []},
    **{f"{side}CensoredDistribution.censored": {"anyOf": [{"type": "boolean"}, EXPRESSION]} for side in ("Left", "Right")},
    "MaskedDistribution.mask": {"anyOf": [{"type": "boolean"}, EXPRESSION]},
    "FoldedDistribution.support": None,
    "MixtureGeneral.support": {"anyOf": [{"$ref": "#/$defs/constraint"}, {"type": "null"}]},
    "Mixture.component_distributions": {"anyOf": [DISTRIBUTION, _LISTED]},
}


def distributions() -> Section:
    """Every distribution of NumPyro that can be written in a program."""
    section = Section(untold=UNTOLD)
    for name, found in public(dist).items():
        is_class = inspect.isclass(found) and issubclass(found, dist.Distribution)
        if name in ROOTS:
            section.excluded[name] = ROOTS[name]
        elif is_class or name in FACTORIES:
            axes, discrete = _nature(name, found)
            section.add(f"numpyro.distributions.{name}", found, _rules_of(name, found), event_dim=axes, discrete=discrete)
    return section.sorted()


def _nature(name: str, found: Any) -> tuple[int | None, bool | None]:
    """The axes of an event, and whether it is discrete; None where that depends on the arguments."""
    if name in FACTORIES or name in SETTLED or name in OF_OTHERS:
        return {**dict.fromkeys(OF_OTHERS, (None, None)), **FACTORIES, **SETTLED}[name]
    support = found.support
    try:
        return support.event_dim, bool(support.is_discrete)
    except (AttributeError, NotImplementedError):
        return None, None


def _rules_of(name: str, found: Any) -> Rules:
    """Rules that know the domain of each parameter from the distribution itself; null is allowed where it is the default."""
    domains = getattr(found, "arg_constraints", {})
    domains = domains if isinstance(domains, dict) else {}
    parameters = inspect.signature(found).parameters
    schemas: dict[str, Schema | None] = {}
    for parameter in parameters.values():
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            domain = _of_domain(domains.get(parameter.name)) if inspect.isclass(found) else _of_name(name, parameter.name)
            schemas[parameter.name] = _valued(domain, parameter)
    return Rules(schemas={**schemas, **RULES}, own=OWN)


def _of_name(function: str, parameter: str) -> Schema | None:
    """The domain of a factory's parameter, which says none itself."""
    vectors = function in {"Categorical", "Multinomial"}
    known = {"probs": _VECTOR if vectors else _UNIT, "logits": _VECTOR if vectors else NUMBER, "scale": _POSITIVE, "gate": _UNIT,
             "mean": _POSITIVE, "concentration": _POSITIVE, "rate": _POSITIVE, "temperature": _POSITIVE}  # fmt: skip
    return known.get(parameter)


def _valued(domain: Schema | None, parameter: inspect.Parameter) -> Schema:
    """Numbers of a domain, or an expression; null where it is the default."""
    options = [
        domain or NUMBER,
        *([NUMBER] if isinstance(parameter.default, float) and (domain or {}).get("type") == "array" else []),
    ]
    if parameter.default is None:
        options[0] = nullable(options[0])
    return {"anyOf": [*reversed(options), EXPRESSION]}


def _of_domain(domain: Any) -> Schema | None:
    """The schema of the values in a domain; None where the domain depends on other arguments."""
    if domain is None or isinstance(domain, type(constraints.dependent)):
        return None
    if domain.event_dim > 0:
        return {1: _VECTOR, 2: _MATRIX}.get(domain.event_dim)
    if domain is constraints.nonnegative_integer:
        return INTEGER
    if domain is constraints.unit_interval:
        return _UNIT
    return _POSITIVE if domain is constraints.positive else NUMBER
