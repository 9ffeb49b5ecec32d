"""Regressions written as formulas: each family against a log density written by hand, and what a prediction needs of new rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from numpyro.infer.util import log_density
from scipy import special, stats

from jobs.errors import UserFault
from jobs.programs import tables
from jobs.programs.models import glm
from jobs.programs.outputs import Outputs
from tests import specs
from tests.jobs.programs import running

Point = dict[str, Any]
Density = Callable[[Point], float]
X = np.array([0.5, -1.0, 2.0, 0.3, -0.4, 1.1, 0.0, -2.0])
Z = np.array([1.0, 0.5, -0.5, 0.0, 2.0, -1.0, 0.7, 0.2])
Y = np.array([1.2, -0.3, 2.8, 0.6, 0.1, 1.9, 0.4, -1.7])
A = np.array(["p", "q", "r", "p", "q", "r", "p", "q"])
G = np.array(["u", "v", "u", "v", "w", "w", "u", "v"])
COUNTS = np.array([2, 0, 5, 1, 1, 3, 0, 0])
HITS = np.array([1, 0, 1, 1, 0, 1, 0, 0])
WORDS = np.array(["lo", "lo", "hi", "mid", "lo", "hi", "mid", "lo"])
ORDER = ["lo", "mid", "hi"]
TABLE: dict[str, Any] = {
    "x": X.tolist(), "z": Z.tolist(), "y": Y.tolist(), "a": A.tolist(), "g": G.tolist(), "count": COUNTS.tolist(),
    "hit": HITS.tolist(), "word": WORDS.tolist(), "trials": [6] * 8,
}  # fmt: skip
XC, ZC = X - X.mean(), Z - Z.mean()
SD_X, SD_Y = X.std(ddof=1), Y.std(ddof=1)


def _sum(values: Any) -> float:
    return float(np.sum(values))


def _slopes(p: Point, spread: float, sd: Any) -> float:
    return _sum(stats.norm.logpdf(p["_b"], 0, 2.5 * spread / sd))


def _logit(values: Any) -> Any:
    return special.expit(values)


def _gaussian(p: Point) -> float:
    prior = _slopes(p, SD_Y, np.array([SD_X, Z.std(ddof=1), (X * Z).std(ddof=1)]))
    prior += _sum(stats.norm.logpdf(p["_Intercept"], Y.mean(), 2.5 * SD_Y)) + _sum(stats.expon.logpdf(p["sigma"], scale=SD_Y))
    eta = p["_Intercept"] + XC * p["_b"][0] + ZC * p["_b"][1] + (X * Z - (X * Z).mean()) * p["_b"][2]
    return prior + _sum(stats.norm.logpdf(Y, eta, p["sigma"]))


def _student(p: Point) -> float:
    prior = _sum(stats.cauchy.logpdf(p["_b"], 1, 3)) + _sum(stats.gamma.logpdf(p["nu"], 2, scale=10))
    return prior + _sum(stats.t.logpdf(Y, p["nu"], p["_Intercept"] + XC * p["_b"][0], p["sigma"]))


def _binary(chance: Callable[[Any], Any]) -> Density:
    def density(p: Point) -> float:
        prior = _slopes(p, 1, SD_X) + _sum(stats.norm.logpdf(p["_Intercept"], 0, 2.5))
        return prior + _sum(stats.bernoulli.logpmf(HITS, chance(p["_Intercept"] + XC * p["_b"][0])))

    return density


def _binomial(p: Point) -> float:
    prior = _slopes(p, 1, SD_X) + _sum(stats.norm.logpdf(p["_Intercept"], 0, 2.5))
    return prior + _sum(stats.binom.logpmf(COUNTS, 6, _logit(p["_Intercept"] + XC * p["_b"][0])))


def _poisson(p: Point) -> float:
    prior = _slopes(p, 1, SD_X) + _sum(stats.norm.logpdf(p["_Intercept"], np.log(COUNTS.mean()), 2.5))
    return prior + _sum(stats.poisson.logpmf(COUNTS, np.exp(p["_Intercept"] + XC * p["_b"][0] + Z)))


def _negative_binomial(p: Point) -> float:
    prior = _slopes(p, 1, SD_X) + _sum(stats.norm.logpdf(p["_Intercept"], np.log(COUNTS.mean()), 2.5))
    prior += _sum(stats.invgamma.logpdf(p["shape"], 0.4, scale=0.3))
    mean, shape = np.exp(p["_Intercept"] + XC * p["_b"][0]), p["shape"]
    return prior + _sum(stats.nbinom.logpmf(COUNTS, shape, shape / (shape + mean)))


def _categorical(p: Point) -> float:
    """Levels sorted: hi is compared with, lo and mid have predictors of their own."""
    prior = _sum(stats.norm.logpdf(p["_Intercept"], 0, 2.5)) + _slopes(p, 1, SD_X)
    logits = np.column_stack([np.zeros(8), *(p["_Intercept"][k] + XC * p["_b"][k] for k in range(2))])
    places = [["hi", "lo", "mid"].index(word) for word in WORDS]
    return prior + _sum(special.log_softmax(logits, axis=1)[np.arange(8), places])


def _ordinal(p: Point) -> float:
    prior = _slopes(p, 1, SD_X) + _sum(stats.t.logpdf(p["_threshold"], 3, 0, 2.5))
    below = _logit(p["_threshold"][None] - (XC * p["_b"][0])[:, None])
    chances = np.diff(np.column_stack([np.zeros(8), below, np.ones(8)]), axis=1)
    return prior + _sum(np.log(chances[np.arange(8), [ORDER.index(word) for word in WORDS]]))


def _levels(p: Point) -> float:
    """No intercept: each level of `a` has a column, and nothing is centred."""
    share = np.array([np.std(level == A, ddof=1) for level in "pqr"])
    prior = _slopes(p, SD_Y, share) + _sum(stats.expon.logpdf(p["sigma"], scale=SD_Y))
    return prior + _sum(stats.norm.logpdf(Y, p["_b"][["pqr".index(level) for level in A]], p["sigma"]))


def _groups(p: Point) -> float:
    """Intercepts and slopes that vary and correlate: L is the factor of their correlations, 2 by 2, and LKJ(1) is uniform there."""
    prior = _slopes(p, SD_Y, SD_X) + _sum(stats.norm.logpdf(p["_Intercept"], Y.mean(), 2.5 * SD_Y))
    prior += _sum(stats.expon.logpdf(p["sigma"], scale=SD_Y)) + _sum(stats.norm.logpdf(p["_z0"]))
    prior += _sum(stats.halfnorm.logpdf(p["_s0"], scale=2.5 * SD_Y / np.array([1, SD_X]))) + np.log(0.5)
    effects = p["_z0"] @ (p["_s0"][:, None] * p["_L0"]).T
    own = effects[["uvw".index(group) for group in G]]
    eta = p["_Intercept"] + XC * p["_b"][0] + own[:, 0] + X * own[:, 1]
    return prior + _sum(stats.norm.logpdf(Y, eta, p["sigma"]))


def _uncorrelated(p: Point) -> float:
    prior = _sum(stats.norm.logpdf(p["_z0"])) + _sum(stats.halfnorm.logpdf(p["_s0"], scale=1))
    eta = p["_z0"][["uvw".index(group) for group in G], 0] * p["_s0"][0]
    return prior + _sum(stats.poisson.logpmf(COUNTS, np.exp(eta)))


def _mixed(p: Point) -> float:
    """A flat prior, one of another kind and the default, in one vector: x, z, x:z."""
    prior = _sum(stats.laplace.logpdf(p["_b_1"], 0, 1)) + _slopes({"_b": p["_b_2"]}, SD_Y, (X * Z).std(ddof=1))
    prior += _sum(stats.norm.logpdf(p["_Intercept"], Y.mean(), 2.5 * SD_Y)) + _sum(stats.halfcauchy.logpdf(p["sigma"], scale=2.5))
    eta = p["_Intercept"] + XC * p["_b_0"][0] + ZC * p["_b_1"][0] + (X * Z - (X * Z).mean()) * p["_b_2"][0]
    return prior + _sum(stats.norm.logpdf(Y, eta, p["sigma"]))


ONE: Point = {"_b": [0.7], "_Intercept": 0.4}
L = [[1.0, 0.0], [0.3, np.sqrt(1 - 0.09)]]
CAUCHY = {"type": "Cauchy", "loc": 1.0, "scale": 3.0}
# name → (model, a point of what is sampled, the log density there)
CASES: dict[str, tuple[dict[str, Any], Point, Density]] = {
    "gaussian": ({"formula": "y ~ x*z"}, {"_b": [0.7, -0.2, 0.5], "_Intercept": 0.4, "sigma": 0.8}, _gaussian),
    "gaussian by levels": ({"formula": "y ~ 0 + a"}, {"_b": [0.7, -0.2, 0.5], "sigma": 0.8}, _levels),
    "student_t": (
        {"formula": "y ~ x", "family": "student_t", "priors": {"x": CAUCHY, "Intercept": "flat", "sigma": "flat"}},
        ONE | {"sigma": 0.8, "nu": 4.0},
        _student,
    ),
    "bernoulli": ({"formula": "hit ~ x", "family": "bernoulli"}, ONE, _binary(_logit)),
    "bernoulli probit": ({"formula": "hit ~ x", "family": "bernoulli", "link": "probit"}, ONE, _binary(stats.norm.cdf)),
    "bernoulli cloglog": (
        {"formula": "hit ~ x", "family": "bernoulli", "link": "cloglog"}, ONE, _binary(lambda eta: 1 - np.exp(-np.exp(eta))),
    ),
    "binomial": ({"formula": "count ~ x", "family": "binomial", "trials": "trials"}, ONE, _binomial),
    "binomial of one number": ({"formula": "count ~ x", "family": "binomial", "trials": 6}, ONE, _binomial),
    "poisson with offset": ({"formula": "count ~ x + offset(z)", "family": "poisson"}, ONE, _poisson),
    "negative_binomial": ({"formula": "count ~ x", "family": "negative_binomial"}, ONE | {"shape": 1.7}, _negative_binomial),
    "categorical": (
        {"formula": "word ~ x", "family": "categorical"}, {"_b": [0.7, -0.3], "_Intercept": [0.4, 0.1]}, _categorical,
    ),
    "ordinal": (
        {"formula": "word ~ x", "family": "ordinal", "levels": ORDER}, {"_b": [0.7], "_threshold": [-0.5, 0.9]}, _ordinal,
    ),
    "groups": (
        {"formula": "y ~ x + (1 + x | g)"},
        ONE | {"sigma": 0.8, "_s0": [0.9, 0.4], "_z0": [[0.1, -0.2], [0.5, 1.0], [-0.3, 0.2]], "_L0": L},
        _groups,
    ),
    "groups alone": (
        {"formula": "count ~ 0 + (1 | g)", "family": "poisson", "priors": {"sd": {"type": "HalfNormal", "scale": 1}}},
        {"_s0": [0.9], "_z0": [[0.1], [0.5], [-0.3]]},
        _uncorrelated,
    ),
    "priors of several kinds": (
        {
            "formula": "y ~ x*z",
            "priors": {"x": "flat", "z": {"type": "Laplace", "loc": 0, "scale": 1}, "sigma": {"type": "HalfCauchy", "scale": 2.5}},
        },
        {"_b_0": [0.7], "_b_1": [-0.2], "_b_2": [0.5], "_Intercept": 0.4, "sigma": 0.8},
        _mixed,
    ),
}  # fmt: skip


def _document(model: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    names = [name for name in TABLE if name in str(model)]
    return specs.schools(model={"type": "glm", **model}, data={"inline": {name: TABLE[name] for name in names}}, **changes)


def _settled(model: Mapping[str, Any]) -> dict[str, Any]:
    return specs.resolve(_document(model))["model"]


@pytest.mark.parametrize("name", CASES)
def test_the_log_density_is_that_written_by_hand(name: str) -> None:
    asked, point, by_hand = CASES[name]
    model = _settled(asked)
    arrays = glm.arrays_of(model, TABLE)
    found, trace = log_density(glm.build(model), (), arrays, {key: jnp.asarray(value) for key, value in point.items()})
    free = {key for key, site in trace.items() if site["type"] == "sample" and not site["is_observed"]}
    assert free == point.keys()
    assert float(found) == pytest.approx(by_hand({key: np.asarray(value) for key, value in point.items()}), rel=2e-5, abs=2e-4)


def _trace(name: str) -> dict[str, Any]:
    asked, point, _ = CASES[name]
    model = _settled(asked)
    _, trace = log_density(
        glm.build(model), (), glm.arrays_of(model, TABLE), {key: jnp.asarray(value) for key, value in point.items()}
    )
    return {key: np.asarray(site["value"]) for key, site in trace.items() if site["type"] == "deterministic"}


def test_results_bear_the_names_of_the_formula() -> None:
    found = _trace("gaussian")
    assert found.keys() == {"Intercept", "x", "z", "x:z"}
    means = [X.mean(), Z.mean(), (X * Z).mean()]
    assert float(found["Intercept"]) == pytest.approx(0.4 - np.dot([0.7, -0.2, 0.5], means), abs=1e-5)
    grouped = _trace("groups")
    assert grouped.keys() == {
        "Intercept", "x", "sd_g__Intercept", "sd_g__x", "cor_g__Intercept__x", "r_g__Intercept", "r_g__x",
    }  # fmt: skip
    assert float(grouped["cor_g__Intercept__x"]) == pytest.approx(0.3, abs=1e-6)
    assert grouped["r_g__x"].shape == (3,)
    assert _trace("categorical").keys() == {"Intercept[lo]", "Intercept[mid]", "x[lo]", "x[mid]"}
    assert _trace("ordinal")["threshold"] == pytest.approx(np.array([-0.5, 0.9]) + 0.7 * X.mean(), abs=1e-5)


def test_new_rows_are_coded_like_those_that_were_fitted() -> None:
    model = _settled({"formula": "y ~ scale(x)*a + (1 | g)"})
    new = glm.arrays_of(model, {"x": [1.0, 0.0], "a": ["r", "p"], "g": ["w", "u"]}, response=False)
    old = glm.arrays_of(model, TABLE)
    assert new.keys() == old.keys() - {"y"}
    scaled = (1.0 - X.mean()) / SD_X
    means = np.array(model["design"]["means"])
    assert model["design"]["columns"] == ["scale(x)", "a[T.q]", "a[T.r]", "scale(x):a[T.q]", "scale(x):a[T.r]"]
    assert new["_X"][0] == pytest.approx(np.array([scaled, 0, 1, 0, scaled]) - means, abs=1e-6)
    assert new["_g0"].tolist() == [2, 0]
    for wrong in ({"a": ["s", "p"]}, {"g": ["w", "new"]}):
        with pytest.raises(UserFault, match="in the data that was fitted"):
            glm.arrays_of(model, {"x": [1.0, 0.0], "a": ["r", "p"], "g": ["w", "u"]} | wrong, response=False)


def test_a_file_is_read_as_it_was_when_the_model_was_settled(tmp_path: Path) -> None:
    table = pa.table(
        {"g": ["01", "02", "01"], "k": [1, 2, 2], "t": [True, False, True], "y": [1.5, 2.0, 3.0], "more": ["a", "b", "c"]}
    )
    pyarrow.csv.write_csv(table, tmp_path / "table.csv")
    pyarrow.parquet.write_table(table, tmp_path / "table.parquet")
    args = {"group": "g", "k": "k", "t": "t", "y": "y"}
    kinds = {"group": "text", "k": "number", "t": "bool", "y": "number"}
    data = {"inline": None, "builtin": None, "args": args}
    expected = {"group": ["01", "02", "01"], "k": [1.0, 2.0, 2.0], "t": [True, False, True], "y": [1.5, 2.0, 3.0]}
    for form in ("csv", "parquet"):
        assert tables.table_of(data, tmp_path / f"table.{form}", form, kinds) == expected
    with pytest.raises(UserFault, match="cannot be read"):
        tables.table_of(data | {"args": args | {"k": "more"}}, tmp_path / "table.csv", "csv", kinds)


def test_it_is_sampled(tmp_path: Path) -> None:
    """A regression whose posterior is known: with flat priors the means are the least-squares fit."""
    priors = dict.fromkeys(["Intercept", "coefficients"], "flat")
    document = _document(
        {"formula": "y ~ x + z", "priors": priors}, num_warmup=200, num_samples=400, checkpoint={"every_draws": 200}
    )
    program, outputs = running.build(document), Outputs(tmp_path)
    state = running.start(program)
    while state.step < program.total:
        state, _ = running.advance(program, state, 1, outputs)
    table = program.result(state, outputs, "completed")[0]["summary"]
    fit = np.linalg.lstsq(np.column_stack([np.ones(8), X, Z]), Y, rcond=None)[0]
    assert table.keys() == {"Intercept", "x", "z", "sigma"}
    for name, value in zip(("Intercept", "x", "z"), fit, strict=True):
        assert abs(table[name]["mean"] - value) < 5 * table[name]["mcse_mean"]  # type: ignore[operator]
