"""The catalog's posteriors against log densities written by hand with NumPy and SciPy, and each of them sampled for a few draws."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import log_density
from scipy import stats

from jobs.programs import posterior
from jobs.programs.models import posteriors
from jobs.programs.outputs import Outputs
from jobs.spec.catalog import load
from tests import specs
from tests.jobs.programs import running

Arrays = dict[str, Any]
X = [[0.5, -1.0], [1.5, 0.3], [-0.7, 0.9], [0.1, 0.2], [2.0, -0.4]]
LONG = {"subject": [0, 0, 1, 1, 2], "item": [0, 1, 0, 1, 1], "y": [1, 0, 1, 1, 0]}
TWO = {"alpha": 0.4, "beta": [0.3, -0.6]}


def _normal(value: Any, loc: Any, scale: Any) -> float:
    return float(np.sum(stats.norm.logpdf(value, loc, scale)))


def _half_normal(value: float, scale: float) -> float:
    return float(stats.halfnorm.logpdf(value, scale=scale))


def _bernoulli(y: Any, logits: Any) -> float:
    return float(np.sum(stats.bernoulli.logpmf(y, 1 / (1 + np.exp(-logits)))))


def _schools(d: Arrays, p: Arrays) -> float:
    prior = _normal(p["mu"], 0, 5) + float(stats.halfcauchy.logpdf(p["tau"], scale=5))
    return prior + _normal(p["theta"], p["mu"], p["tau"]) + _normal(d["y"], p["theta"], d["sigma"])


def _logistic(d: Arrays, p: Arrays) -> float:
    return _normal([p["alpha"], *p["beta"]], 0, 2.5) + _bernoulli(d["y"], p["alpha"] + d["x"] @ p["beta"])


def _poisson(d: Arrays, p: Arrays) -> float:
    rate = np.exp(p["alpha"] + d["x"] @ p["beta"])
    return _normal([p["alpha"], *p["beta"]], 0, 2.5) + float(np.sum(stats.poisson.logpmf(d["y"], rate)))


def _hierarchical(d: Arrays, p: Arrays) -> float:
    prior = _normal(p["mu_alpha"], 0, 10) + _half_normal(p["sigma_alpha"], 5) + _normal(p["_alpha"], 0, 1)
    prior += _normal(p["beta"], 0, 10) + _half_normal(p["sigma"], 10)
    alpha = p["mu_alpha"] + p["sigma_alpha"] * p["_alpha"]
    return prior + _normal(d["y"], alpha[d["group"]] + d["x"] @ p["beta"], p["sigma"])


def _process(d: Arrays, p: Arrays) -> float:
    prior = (
        float(stats.invgamma.logpdf(p["lengthscale"], 5, scale=5)) + _half_normal(p["amplitude"], 1) + _half_normal(p["sigma"], 1)
    )
    squares = np.sum((d["x"][:, None] - d["x"][None]) ** 2, axis=-1)
    kernel = p["amplitude"] ** 2 * np.exp(-squares / 2 / p["lengthscale"] ** 2)
    covariance = kernel + (p["sigma"] ** 2 + 1e-6 * p["amplitude"] ** 2) * np.eye(len(squares))
    return prior + float(stats.multivariate_normal.logpdf(d["y"], np.zeros(len(squares)), covariance))


def _volatility(d: Arrays, p: Arrays) -> float:
    prior = float(stats.cauchy.logpdf(p["mu"], 0, 10)) + np.log(0.5) + float(stats.halfcauchy.logpdf(p["sigma"], scale=5))
    h = [p["mu"] + p["sigma"] / np.sqrt(1 - p["phi"] ** 2) * p["_h"][0]]
    for each in p["_h"][1:]:
        h.append(p["mu"] + p["phi"] * (h[-1] - p["mu"]) + p["sigma"] * each)
    return prior + _normal(p["_h"], 0, 1) + _normal(d["y"], 0, np.exp(np.array(h) / 2))


def _responses(d: Arrays, p: Arrays) -> float:
    prior = _normal(p["ability"], 0, 1) + _normal(p["difficulty"], 0, 3)
    prior += float(np.sum(stats.lognorm.logpdf(p["discrimination"], 0.5)))
    logits = p["discrimination"][d["item"]] * (p["ability"][d["subject"]] - p["difficulty"][d["item"]])
    return prior + _bernoulli(d["y"], logits)


def _rasch(d: Arrays, p: Arrays) -> float:
    ones = np.ones(2)
    return _responses(d, p | {"discrimination": ones}) - float(np.sum(stats.lognorm.logpdf(ones, 0.5)))


DERIVED = {"hierarchical_regression": {"alpha"}, "stochastic_volatility": {"h"}}
DRAWN = {"ability": [0.5, -0.2, 0.1], "difficulty": [0.3, -0.4]}
# name → (model, data, a point, the log density there)
CLASSICS: dict[str, tuple[dict[str, Any], Arrays, Arrays, Callable[[Arrays, Arrays], float]]] = {
    "eight_schools_centered": ({}, specs.SCHOOLS, {"mu": 4.0, "tau": 2.0, "theta": list(range(8))}, _schools),
    "logistic_regression": ({}, {"x": X, "y": [0, 1, 1, 0, 1]}, TWO, _logistic),
    "poisson_regression": ({}, {"x": X, "y": [0, 3, 1, 2, 7]}, TWO, _poisson),
    "hierarchical_regression": (
        {},
        {"x": X, "y": [0.2, 1.0, -0.5, 0.7, 2.0], "group": [0, 2, 1, 0, 2]},
        {"mu_alpha": 0.5, "sigma_alpha": 1.5, "_alpha": [0.1, -0.3, 0.8], "beta": [0.3, -0.6], "sigma": 0.7},
        _hierarchical,
    ),
    "gaussian_process_regression": (
        {},
        {"x": X, "y": [0.2, 1.0, -0.5, 0.7, 2.0]},
        {"lengthscale": 0.8, "amplitude": 1.3, "sigma": 0.4},
        _process,
    ),
    "stochastic_volatility": (
        {},
        {"y": [0.2, -1.0, 0.5, 0.7]},
        {"mu": -1.0, "phi": 0.9, "sigma": 0.3, "_h": [0.4, -0.2, 1.0, 0.3]},
        _volatility,
    ),
    "item_response": ({}, LONG, DRAWN | {"discrimination": [0.8, 1.4]}, _responses),
    "item_response 1pl": ({"form": "1pl"}, LONG, DRAWN, _rasch),
}


SAMPLED = (
    list(CLASSICS) if os.environ.get("MESHYARD_CONFORMANCE") == "full" else ["hierarchical_regression", "stochastic_volatility"]
)
"""Most of the time goes into compiling, and all of them run through the same loop."""


def _document(name: str) -> dict[str, Any]:
    model, data, _, _ = CLASSICS[name]
    return specs.schools(
        model={"type": name.partition(" ")[0], **model},
        data={"inline": data},
        kernel={"type": "HMC", "num_steps": 3, "trajectory_length": None},
        num_warmup=5,
        num_samples=5,
        num_chains=1,
        checkpoint={"every_draws": 10},
    )


@pytest.mark.parametrize("name", CLASSICS)
def test_the_log_density_is_that_written_by_hand(name: str) -> None:
    _, data, point, by_hand = CLASSICS[name]
    model = specs.resolve(_document(name))["model"]
    arrays = posteriors.as_arrays(model, {key: np.asarray(values) for key, values in data.items()})
    found, trace = log_density(posteriors.build_model(model), (), arrays, {key: jnp.asarray(value) for key, value in point.items()})
    free = {key for key, site in trace.items() if site["type"] == "sample" and not site["is_observed"]}
    assert free == point.keys()
    wanted = by_hand(
        {key: np.asarray(value) for key, value in data.items()}, {key: np.asarray(value) for key, value in point.items()}
    )
    assert float(found) == pytest.approx(wanted, rel=2e-5, abs=2e-4)


@pytest.mark.parametrize("name", SAMPLED)
def test_it_is_sampled(name: str, tmp_path: Path) -> None:
    program, outputs = running.build(_document(name)), Outputs(tmp_path)
    state = running.start(program)
    while state.step < program.total:
        state, _ = running.advance(program, state, 1, outputs)
    sites, _ = posterior.apart(outputs.draws())
    assert sites.keys() == {key for key in CLASSICS[name][2] if not key.startswith("_")} | DERIVED.get(name, set())
    assert all(np.all(np.isfinite(array)) for array in sites.values())


def test_every_posterior_of_the_catalog_is_looked_at() -> None:
    listed = {name for name, entry in load().sections["models"].items() if entry["kinds"] == ["mcmc"] and entry["args"]}
    assert listed == {name.partition(" ")[0] for name in CLASSICS} | {"eight_schools", "linear_regression"}
