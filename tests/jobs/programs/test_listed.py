"""Distributions of the catalog can be built from the arguments that it lists, and so can every transform and constraint."""

from __future__ import annotations

import inspect

import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints, transforms

from jobs.programs.models import program_distributions
from jobs.spec.catalog import load
from jobs.spec.program import forms
from jobs.spec.program.distributions import is_discrete, read_distribution, read_form, role_of
from jobs.spec.program.reading import Reading

# These want one of several arguments, or values that depend on each other: what a schema cannot say.
WHOLE = [[1.0, 0.0], [0.0, 1.0]]
HALF, HALVES, NORMAL = {"probs": 0.5}, {"probs": [0.5, 0.5]}, {"loc": [0.0, 0.0], "scale_tril": WHOLE}
WISHART = {"concentration": 3, "scale_tril": WHOLE}
PLAIN = {"type": "Normal", "loc": 0.5, "scale": 1}
COUNTS = {"type": "Poisson", "rate": 2}
GAMMA = {"type": "Gamma", "concentration": 2, "rate": 1}
VON_MISES = {"type": "VonMises", "loc": 0, "concentration": 1}
TWO = {"type": "Categorical", "probs": [0.5, 0.5]}
SPECIAL = {
    **dict.fromkeys(("Bernoulli", "Binomial", "Geometric", "NegativeBinomial", "RelaxedBernoulli"), HALF),
    **dict.fromkeys(("Categorical", "Multinomial"), HALVES),
    **dict.fromkeys(("MultivariateNormal", "MultivariateStudentT"), NORMAL),
    "GaussianStateSpace": {"scale_tril": WHOLE, "transition_matrix": WHOLE},
    "GaussianCopula": {"correlation_cholesky": WHOLE, "marginal_dist": {"type": "Normal", "expand": [2]}},
    "GaussianCopulaBeta": {"correlation_cholesky": WHOLE},
    **dict.fromkeys(("Wishart", "WishartCholesky", "InverseWishart", "InverseWishartCholesky"), WISHART),
    "CirculantNormal": {"covariance_rfft": [1.0, 0.5]},
    "LowerTruncatedPowerLaw": {"alpha": -2},
    "OrderedLogistic": {"cutpoints": [0.0, 1.0]},
    "SineBivariateVonMises": {"correlation": 0.1},
    "SineSkewed": {"base_dist": VON_MISES | {"expand": [1], "to_event": 1}, "skewness": [0.1]},
    "CAR": {"loc": [0.0, 0.0], "adj_matrix": [[0, 1], [1, 0]]},
    "MatrixNormal": {"loc": WHOLE, "scale_tril_row": WHOLE, "scale_tril_column": WHOLE},
    "LowRankMultivariateNormal": {"cov_factor": [[0.5], [0.2]]},
    "MixtureSameFamily": {"mixing_distribution": TWO, "component_distribution": {"type": "Normal", "loc": [0, 1]}},
    "Mixture": {"mixing_distribution": TWO, "component_distributions": [PLAIN, PLAIN]},
    "MixtureGeneral": {"mixing_distribution": TWO, "component_distributions": [PLAIN, PLAIN]},
    "FoldedDistribution": {"base_dist": PLAIN},
    "TransformedDistribution": {"base_distribution": PLAIN, "transforms": ["ExpTransform"]},
    "ImproperUniform": {"support": "positive"},
    **{name: {"gate": 0.5, "base_dist": GAMMA} for name in ("HurdleProbs", "HurdleDistribution")},
    "HurdleLogits": {"base_dist": GAMMA},
    **{name: {"gate": 0.5, "base_dist": COUNTS} for name in ("ZeroInflatedDistribution", "ZeroInflatedProbs")},
    "ZeroInflatedLogits": {"base_dist": COUNTS},
    **{name: {"base_dist": GAMMA} for name in ("LeftTruncatedGamma", "RightTruncatedGamma", "TwoSidedTruncatedGamma")},
    "TruncatedGamma": {"low": 0.1},
    "ZeroInflatedNegativeBinomial2": {"gate": 0.5},
    "IntervalCensoredDistribution": {"left_censored": 0, "right_censored": 1},
    "MaskedDistribution": {"mask": True},
    "Independent": {"base_dist": {"type": "Normal", "expand": [2]}, "reinterpreted_batch_ndims": 1},
}  # fmt: skip
FORM_ARGUMENTS = {
    "ComposeTransform": {"parts": ["ExpTransform", {"type": "AffineTransform", "loc": 1, "scale": 2}]},
    "IndependentTransform": {"base_transform": "ExpTransform"},
    "LowerCholeskyAffine": {"loc": [0, 0], "scale_tril": WHOLE},
    "PermuteTransform": {"permutation": [1, 0]},
    "RecursiveLinearTransform": {"transition_matrix": WHOLE},
    "ReshapeTransform": {"forward_shape": [2, 1], "inverse_shape": [2]},
    "inverse": {"of": "ExpTransform"},
    "independent": {"base_constraint": "real"},
}


def some_value(schema):
    """A value that fits."""
    role = role_of(schema)
    if role == "distribution":
        return PLAIN
    if role in ("size", "sizes"):
        return 2 if role == "size" else [2]
    options = schema.get("anyOf", [schema])
    kind = options[0].get("type")
    if kind == "array":
        item = some_value(options[0]["items"])
        return WHOLE if isinstance(item, list) else [item, item]
    return {"number": 0.5, "integer": 2, "boolean": True}[kind]


def built(value):
    reading = Reading()
    found = read_distribution(reading, value, "")
    assert reading.issues == []
    return found, program_distributions.build(found, {}, "")


@pytest.mark.parametrize("name", load().sections["distributions"])
def test_a_distribution_is_built_and_is_what_the_catalog_says(name):
    entry = load().entry("distributions", name)
    chosen = SPECIAL.get(name, {})
    needed = [argument for argument in entry["schema"]["required"] if argument not in chosen]
    given = {argument: some_value(entry["schema"]["properties"][argument]) for argument in needed} | chosen
    value, found = built({"type": name, **given})
    assert isinstance(found, dist.Distribution)
    if entry["event_dim"] is not None and name != "Unit":
        assert found.event_dim == entry["event_dim"]
    if name not in ("Unit", "Delta"):
        assert is_discrete(value) == found.support.is_discrete


def test_every_distribution_of_the_library_is_listed_or_left_out_with_a_reason():
    classes = {
        name
        for name in dir(dist)
        if not name.startswith("_") and inspect.isclass(getattr(dist, name)) and issubclass(getattr(dist, name), dist.Distribution)
    }
    told = set(load().sections["distributions"]) | set(load().excluded["distributions"])
    assert classes <= told
    assert all(len(reason) > 10 for reason in load().excluded["distributions"].values())


def test_every_transform_of_the_library_is_listed_or_left_out_with_a_reason():
    classes = {
        name
        for name, found in vars(transforms).items()
        if inspect.isclass(found) and issubclass(found, transforms.Transform) and not name.startswith("_")
    }
    assert classes == (set(forms.TRANSFORMS) - {"inverse"}) | set(forms.TRANSFORMS_LEFT_OUT)


def test_every_constraint_of_the_library_is_listed_or_left_out_with_a_reason():
    known = set(constraints.__all__) | {"positive_integer"}
    told = set(forms.CONSTRAINTS) | set(forms.CONSTRAINTS_LEFT_OUT)
    assert known - told - {"Constraint", "is_dependent"} == set()


@pytest.mark.parametrize("name", forms.TRANSFORMS)
def test_a_transform_is_built(name):
    reading = Reading()
    given = {key: 2 if argument.role == "size" else 0.5 for key, argument in forms.TRANSFORMS[name].items() if argument.required}
    value = read_form(reading, {"type": name, **given, **FORM_ARGUMENTS.get(name, {})}, "", "transform")
    assert reading.issues == []
    assert isinstance(program_distributions.build_transform(value, {}, ""), transforms.Transform)


@pytest.mark.parametrize("name", forms.CONSTRAINTS)
def test_a_constraint_is_built(name):
    reading = Reading()
    given = {key: 1 for key, argument in forms.CONSTRAINTS[name].items() if argument.required}
    value = read_form(reading, {"type": name, **given, **FORM_ARGUMENTS.get(name, {})}, "", "constraint")
    assert reading.issues == []
    found = program_distributions.build_constraint(value, {}, "")
    assert isinstance(found, constraints.Constraint)
    assert found.is_discrete == (name in forms.DISCRETE_SUPPORTS)
    assert forms.axes_of(value) in (None, found.event_dim)


@pytest.mark.parametrize("change", ["expand", "to_event", "mask"])
def test_what_may_be_said_of_every_distribution(change):
    given = {
        "expand": [3, 2],
        "to_event": 1 if change != "expand" else 0,
        "mask": [True, False, True] if change == "mask" else None,
    }
    _, found = built(PLAIN | given)
    assert found.batch_shape + found.event_shape == (3, 2)
    assert found.event_dim == given["to_event"]
