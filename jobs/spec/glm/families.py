"""Families of responses: their links, their own parameters, what they ask of a response, and how they stand in a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jobs.spec.glm.coding import Level
from jobs.spec.glm.design import is_text, levels_of
from jobs.spec.pointers import count_of, quoted

Kind = Literal["real", "binary", "count", "levels"]
MOST_CATEGORIES = 100
_BINARY_LINKS = ("logit", "probit", "cloglog")


@dataclass(frozen=True)
class Family:
    """A family.

    Attributes:
        links: the first is the default.
        kind: what its response is.
        parameters: beside the predictor's.
    """

    links: tuple[str, ...]
    kind: Kind
    parameters: tuple[str, ...] = ()


FAMILIES: Mapping[str, Family] = {
    "gaussian": Family(("identity", "log"), "real", ("sigma",)),
    "student_t": Family(("identity", "log"), "real", ("sigma", "nu")),
    "bernoulli": Family(_BINARY_LINKS, "binary"),
    "binomial": Family(_BINARY_LINKS, "count"),
    "poisson": Family(("log",), "count"),
    "negative_binomial": Family(("log",), "count", ("shape",)),
    "categorical": Family(("logit",), "levels"),
    "ordinal": Family(("logit", "probit"), "levels"),
}
LINKS = tuple(dict.fromkeys(link for family in FAMILIES.values() for link in family.links))
PARAMETERS = ("Intercept", "sigma", "nu", "shape", "threshold")
"""Names of a model's own, which no coefficient may bear."""

_PROBABILITIES = {
    "probit": "clip(Phi(_eta), 1e-6, 1 - 1e-6)",
    "cloglog": "clip(-expm1(-exp(_eta)), 1e-6, 1 - 1e-6)",
}
"""Kept off 0 and 1, where a density is zero and its gradient is none."""


def response_levels(family: Family, values: Sequence[Any], given: Sequence[Level] | None) -> tuple[list[Level] | None, str | None]:
    """The levels of a response, in order, or a sentence that says why it has none.

    Args:
        family: of the response.
        values: of the response.
        given: the order that the job sets.
    """
    if family.kind not in ("binary", "levels") or (family.kind == "binary" and not is_text(values) and given is None):
        return None, None
    found = levels_of(values)
    if given is not None and set(found) - set(given):
        return None, f"holds {quoted(min(set(found) - set(given), key=str))}, which is none of model.levels"
    if any(isinstance(level, float) and not level.is_integer() for level in found):
        return None, "holds numbers that are not whole: a response of this family is of levels; use gaussian for measurements"
    levels = list(given) if given is not None else found
    if family.kind == "binary" and len(levels) != 2:
        return None, f"has {count_of(len(levels), 'level')}, and bernoulli takes two: use categorical or ordinal"
    if not 2 <= len(levels) <= MOST_CATEGORIES:
        return None, f"has {count_of(len(levels), 'level')}, and from 2 to {MOST_CATEGORIES} are taken"
    return levels, None


def fault_of_values(family: Family, values: Sequence[float], trials: Sequence[float] | None) -> str | None:
    """What is wrong with a numeric response; None where nothing is."""
    if family.kind == "binary":
        row = _first(value not in (0, 1) for value in values)
        return None if row is None else f"must be 0 or 1, and row {row + 1} holds {values[row]:g}"
    if family.kind != "count":
        return None
    row = _first(value < 0 or value != int(value) for value in values)
    if row is not None:
        return f"must be counts, and row {row + 1} holds {values[row]:g}"
    row = _first(value > most for value, most in zip(values, trials, strict=True)) if trials is not None else None
    return None if row is None or trials is None else f"row {row + 1} holds {values[row]:g} of {trials[row]:g} trials"


def _first(wrong: Any) -> int | None:
    return next((row for row, is_wrong in enumerate(wrong) if is_wrong), None)


def likelihood(family: str, link: str) -> dict[str, Any]:
    """The distribution of a response whose predictor is `_eta`."""
    mean = "exp(_eta)" if link == "log" else "_eta"
    chance = {"logits": "_eta"} if link == "logit" else {"probs": _PROBABILITIES.get(link)}
    found: dict[str, dict[str, Any]] = {
        "gaussian": {"type": "Normal", "loc": mean, "scale": "sigma"},
        "student_t": {"type": "StudentT", "df": "nu", "loc": mean, "scale": "sigma"},
        "bernoulli": {"type": "Bernoulli", **chance},
        "binomial": {"type": "Binomial", "total_count": "_trials", **chance},
        "poisson": {"type": "Poisson", "rate": mean},
        "negative_binomial": {"type": "NegativeBinomial2", "mean": mean, "concentration": "shape"},
        "categorical": {"type": "Categorical", "logits": "_eta"},
        "ordinal": {
            "type": "OrderedProbit" if link == "probit" else "OrderedLogistic",
            "predictor": "_eta",
            "cutpoints": "_threshold",
        },
    }
    return found[family]
