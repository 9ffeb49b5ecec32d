"""Priors of a regression: those that a job sets, and weakly informative ones, scaled to the data, for all the rest.

Source of the defaults: rstanarm's (Gabry and Goodrich, "Prior Distributions for rstanarm Models", 2020): 2.5 standard deviations
of the response for each standard deviation of a predictor. The gamma prior of `nu` is Juárez and Steel's (2010), the inverse-gamma
prior of `shape` the one that brms has taken since 2023.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.errors import Issue
from jobs.spec.glm.coding import shown
from jobs.spec.glm.families import FAMILIES
from jobs.spec.pointers import join, nearest, quoted
from jobs.spec.program.distributions import read_distribution
from jobs.spec.program.reading import Reading
from jobs.spec.strict import as_object

Prior = Any
"""`"flat"`, or a distribution of the catalog whose arguments are numbers."""

POINTER = "/model/priors"
WIDTH = 2.5
POSITIVE = (
    "BetaPrime", "Chi2", "Exponential", "Gamma", "HalfCauchy", "HalfNormal", "InverseGamma", "LogNormal", "LogUniform", "Pareto",
    "Weibull",
)  # fmt: skip
REAL = (
    "AsymmetricLaplace", "Cauchy", "Gumbel", "Laplace", "Logistic", "Normal", "SoftLaplace", "StudentT", "TruncatedCauchy",
    "TruncatedNormal", "Uniform",
)  # fmt: skip


@dataclass(frozen=True)
class Scales:
    """What default priors are scaled by.

    Attributes:
        location: of the response, on the scale of the predictor.
        spread: of the response, on the scale of the predictor.
        response: standard deviation of the response itself.
        columns: standard deviation of each column, 1 where it does not vary.
    """

    location: float
    spread: float
    response: float
    columns: Mapping[str, float]


@dataclass(frozen=True)
class Parameter:
    """A parameter that takes a prior.

    Attributes:
        name: as results bear it.
        classes: further names under which a job may set its prior, the most particular first.
        positive: whether it is more than 0.
        column: the design's column whose scale its default prior takes.
    """

    name: str
    classes: tuple[str, ...] = ()
    positive: bool = False
    column: str | None = None


def parameters_of(model: Mapping[str, Any], design: Mapping[str, Any]) -> Iterator[Parameter]:
    """Every parameter of a model that takes a prior, population first.

    Args:
        model: with its family.
        design: what its table makes of its formula.
    """
    if model["family"] == "categorical":
        yield from _of_categories(design)
    else:
        if model["family"] == "ordinal":
            yield Parameter("threshold")
        elif design["intercept"]:
            yield Parameter("Intercept")
        yield from (Parameter(name, ("coefficients",), column=name) for name in design["columns"])
    for group in design["groups"]:
        names = [f"sd_{group['name']}__{column}" for column in group["columns"]]
        for name, column in zip(names, group["columns"], strict=True):
            yield Parameter(name, ("sd",), positive=True, column=column)
        if group["correlated"]:
            yield Parameter(f"cor_{group['name']}", ("cor",))
    yield from (Parameter(name, positive=True) for name in FAMILIES[model["family"]].parameters)


def _of_categories(design: Mapping[str, Any]) -> Iterator[Parameter]:
    """An intercept and slopes for each level of the response but the first."""
    levels = [shown(level) for level in design["response"]["levels"][1:]]
    if design["intercept"]:
        yield from (Parameter(f"Intercept[{level}]", ("Intercept",)) for level in levels)
    for name in design["columns"]:
        yield from (Parameter(f"{name}[{level}]", (name, "coefficients"), column=name) for level in levels)


def settle(parameters: list[Parameter], given: Mapping[str, Any], scales: Scales) -> tuple[dict[str, Prior], list[Issue]]:
    """Every parameter's prior, and what is wrong with those that the job sets."""
    legal = list(dict.fromkeys(name for parameter in parameters for name in (parameter.name, *parameter.classes)))
    issues = [
        Issue(join(POINTER, name), "unknown_name", f"the model has no parameter {quoted(name)}; {nearest(name, legal, before=at)}")
        for at, name in enumerate(name for name in given if name not in legal)
    ]
    settled: dict[str, Prior] = {}
    for parameter in parameters:
        key = next((name for name in (parameter.name, *parameter.classes) if name in given), None)
        if key is None or given[key] == "auto":
            settled[parameter.name] = default(parameter, scales)
        elif given[key] == "flat":
            settled[parameter.name] = "flat"
        else:
            prior, faults = _read(given[key], join(POINTER, key), parameter)
            settled[parameter.name] = prior
            issues += faults
    return settled, list(dict.fromkeys([*issues, *_faults_of_flat(settled)]))


def default(parameter: Parameter, scales: Scales) -> Prior:
    """A weakly informative prior."""
    unit = scales.columns.get(parameter.column or "", 1.0)
    kinds: dict[str, Prior] = {
        "sigma": {"type": "Exponential", "rate": _rounded(1 / scales.response)},
        "nu": {"type": "Gamma", "concentration": 2.0, "rate": 0.1},
        "shape": {"type": "InverseGamma", "concentration": 0.4, "rate": 0.3},
        "threshold": {"type": "StudentT", "df": 3.0, "loc": 0.0, "scale": WIDTH},
        "cor": {"type": "LKJ", "concentration": 1.0},
        "sd": {"type": "HalfNormal", "scale": _rounded(WIDTH * scales.spread / unit)},
        "Intercept": {"type": "Normal", "loc": _rounded(scales.location), "scale": _rounded(WIDTH * scales.spread)},
    }
    known = next((kinds[name] for name in (parameter.name, *parameter.classes) if name in kinds), None)
    return known or {"type": "Normal", "loc": 0.0, "scale": _rounded(WIDTH * scales.spread / unit)}


def _rounded(value: float) -> float:
    """Six digits: the last bits of a sum are nobody's prior."""
    return float(f"{min(max(value, 1e-30), 1e30) if value > 0 else value:.6g}")


def _read(value: Any, pointer: str, parameter: Parameter) -> tuple[Prior, list[Issue]]:
    found = as_object(value)
    if found is None:
        detail = 'must be a distribution, such as {"type": "Normal", "loc": 0, "scale": 1}, or "flat", or "auto" for the default'
        return None, [Issue(pointer, "wrong_type", detail)]
    if "cor" in parameter.classes:
        return found, list(_faults_of_correlation(found, pointer))
    legal = POSITIVE if parameter.positive else (*REAL, *POSITIVE)
    kind = found.get("type")
    if isinstance(kind, str) and kind not in legal:
        why = "is positive" if parameter.positive else "is a real number"
        detail = f"{parameter.name} {why}, and cannot have the prior {quoted(kind)}; {nearest(kind, legal)}"
        return None, [Issue(join(pointer, "type"), "unknown_type", detail)]
    reading = Reading()
    read = read_distribution(reading, found, pointer)
    plain = {name: argument for name, argument in read.items() if argument is not None and name not in ("expand", "to_event")}
    for name, argument in plain.items():
        if name != "type" and (isinstance(argument, bool) or not isinstance(argument, int | float)):
            reading.fault(join(pointer, name), "wrong_type", "must be a number")
    return plain, reading.issues


def _faults_of_correlation(found: Mapping[str, Any], pointer: str) -> Iterator[Issue]:
    concentration = found.get("concentration")
    wrong = isinstance(concentration, bool) or not isinstance(concentration, int | float) or not 0 < concentration < math.inf
    if set(found) != {"type", "concentration"} or found["type"] != "LKJ" or wrong:
        yield Issue(
            pointer, "unknown_value", 'the prior of correlations is {"type": "LKJ", "concentration": 1.0}, with a number above 0'
        )


def _faults_of_flat(settled: Mapping[str, Prior]) -> Iterator[Issue]:
    """Spreads and correlations of groups need a prior: without one the posterior may be none."""
    for name, prior in settled.items():
        if prior == "flat" and name.startswith(("sd_", "cor_")):
            yield Issue(POINTER, "improper", f"{name} cannot be flat: the posterior may not be proper; give it a distribution")
