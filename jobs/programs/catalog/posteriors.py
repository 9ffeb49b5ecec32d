"""The catalog's posteriors: the classics of the field, and what each of them lets a job set."""

from __future__ import annotations

from typing import Any

from jobs.programs.catalog.entries import Entry
from jobs.spec.glm.families import FAMILIES, LINKS, MOST_CATEGORIES
from jobs.spec.glm.formula import MOST_CHARACTERS

Schema = dict[str, Any]
_SCHOOLS = ["y", "sigma"]


def posteriors() -> list[Entry]:
    """Entries of the models that sampling jobs take from the catalog."""
    regression = scales(intercept=10.0, coefficients=10.0, sigma=10.0)
    generalised = scales(intercept=2.5, coefficients=2.5)
    varying = {"groups": _number("groups"), **scales(intercept=10.0, coefficients=10.0, groups=5.0, sigma=10.0)}
    process = {"jitter": _positive(1e-6, "added to the diagonal of the covariance, relative to the amplitude's square")}
    responses = {
        "form": {"enum": ["2pl", "1pl"], "default": "2pl", "description": "2pl: items discriminate differently; 1pl: all alike"},
        "subjects": _number("subjects"),
        "items": _number("items"),
        **scales(difficulty=3.0, discrimination=0.5),
    }
    return [
        _entry("glm", "A regression written as a formula over a table (docs/glm.md).", _glm(), []),
        _entry("eight_schools", "Eight coaching programs with a common mean (Rubin 1981), non-centred.", {}, _SCHOOLS),
        _entry("eight_schools_centered", "Eight coaching programs, centred: a funnel that diverges by design.", {}, _SCHOOLS),
        _entry("linear_regression", "Normal linear regression of y on the columns x.", regression, ["x", "y"]),
        _entry("logistic_regression", "Regression of y, 0 or 1, on the columns x, with the logit link.", generalised, ["x", "y"]),
        _entry("poisson_regression", "Regression of counts y on the columns x, with the log link.", generalised, ["x", "y"]),
        _entry(
            "hierarchical_regression",
            "Normal regression of y on x with an intercept for each group, non-centred.",
            varying,
            ["x", "y", "group"],
        ),
        _entry(
            "gaussian_process_regression",
            "Gaussian process with a squared-exponential kernel over x, the function marginalised out.",
            {**process, **scales(amplitude=1.0, sigma=1.0)},
            ["x", "y"],
        ),
        _entry(
            "stochastic_volatility",
            "Returns y whose log variance is a stationary AR(1) series (Kim, Shephard and Chib 1998), non-centred.",
            scales(mean=10.0, sigma=5.0),
            ["y"],
        ),
        _entry(
            "item_response",
            "Answers y, 0 or 1, of subjects to items: ability, difficulty and discrimination.",
            responses,
            ["subject", "item", "y"],
        ),
    ]


def scales(**defaults: float) -> dict[str, Schema]:
    """The scale of each prior, by what it is the prior of."""
    return {f"prior_scale_{name}": _positive(default) for name, default in defaults.items()}


def _positive(default: float, description: str = "") -> Schema:
    schema: Schema = {"type": "number", "exclusiveMinimum": 0, "default": default}
    return schema | ({"description": description} if description else {})


def _number(noun: str) -> Schema:
    description = f"how many {noun} there are; null: one more than the largest in the data"
    return {"type": ["integer", "null"], "minimum": 1, "maximum": 2**31 - 1, "default": None, "description": description}


def _glm() -> dict[str, Schema]:
    levels: Schema = {"type": ["string", "number"]}
    return {
        "formula": {"type": "string", "minLength": 1, "maxLength": MOST_CHARACTERS, "description": "such as y ~ x * z + (1 | g)"},
        "family": {"enum": list(FAMILIES), "default": "gaussian"},
        "link": {"enum": [*LINKS, None], "default": None, "description": "null: the family's usual one"},
        "trials": {
            "type": ["string", "integer", "null"],
            "minLength": 1,
            "maxLength": 200,
            "minimum": 1,
            "maximum": 10**9,
            "default": None,
            "description": "binomial: the column of the numbers of trials, or one number",
        },
        "levels": {
            "type": ["array", "null"],
            "items": levels,
            "minItems": 2,
            "maxItems": MOST_CATEGORIES,
            "default": None,
            "description": "of the response, in order; null: sorted",
        },
        "priors": {
            "type": "object",
            "additionalProperties": True,
            "default": {},
            "description": 'by parameter: a distribution, "flat", or "auto"; what is left out is weakly informative',
        },
        "design": {
            "type": ["object", "null"],
            "additionalProperties": True,
            "default": None,
            "description": "what the table makes of the formula, frozen at submit; leave it out",
        },
    }


def _entry(name: str, doc: str, properties: dict[str, Schema], args: list[str]) -> Entry:
    required = [name for name, schema in properties.items() if "default" not in schema]
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"type": name, "doc": doc, "source": "meshyard", "schema": schema, "kinds": ["mcmc"], "args": args}
