"""Distributions of the catalog can be built from the arguments that it lists."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from jobs.programs.library import arguments, found
from jobs.spec.catalog import load

# These want one of several arguments, or values that depend on each other: what a schema cannot say.
WHOLE = [[1.0, 0.0], [0.0, 1.0]]
HALF, HALVES, NORMAL = {"probs": 0.5}, {"probs": [0.5, 0.5]}, {"loc": [0.0, 0.0], "scale_tril": WHOLE}
WISHART = {"concentration": 3, "scale_tril": WHOLE}
SPECIAL = {
    **dict.fromkeys(("Bernoulli", "Binomial", "Geometric", "NegativeBinomial"), HALF),
    **dict.fromkeys(("Categorical", "Multinomial"), HALVES),
    **dict.fromkeys(("MultivariateNormal", "MultivariateStudentT"), NORMAL),
    "GaussianStateSpace": {"scale_tril": WHOLE},
    "GaussianCopulaBeta": {"correlation_cholesky": WHOLE},
    **dict.fromkeys(("Wishart", "WishartCholesky", "InverseWishart", "InverseWishartCholesky"), WISHART),
    "CirculantNormal": {"covariance_rfft": [1.0, 0.5]},
    "LowerTruncatedPowerLaw": {"alpha": -2},
    "OrderedLogistic": {"cutpoints": [0.0, 1.0]},
    "SineBivariateVonMises": {"correlation": 0.1},
}


def some_value(schema):
    """A value that fits."""
    if "anyOf" in schema:
        return some_value(schema["anyOf"][0])
    kind = schema["type"]
    if kind == "array":
        item = some_value(schema["items"])
        return WHOLE if isinstance(item, list) else [item, item]
    return {"number": 0.5, "integer": 2, "string": "ab,bc->ac"}[kind]


def fitted(section, name):
    schema = load().entry(section, name)["schema"]
    given = {argument: some_value(schema["properties"][argument]) for argument in schema["required"]} | SPECIAL.get(name, {})
    result = load().fit(section, {"type": name, **given}, "")
    assert result.issues == []
    return result.value


@pytest.mark.parametrize("name", load().sections["distributions"])
def test_a_distribution_is_built(name):
    value = fitted("distributions", name)
    shapes = {"event_shape", "batch_shape"}
    given = {
        key: jnp.asarray(item) if isinstance(item, tuple) and key not in shapes else item for key, item in arguments(value).items()
    }
    found("distributions", name)(**given, validate_args=True)
