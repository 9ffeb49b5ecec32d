"""Posteriors that are known in closed form, written as programs and sampled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from jobs.programs import posterior
from jobs.programs.outputs import Outputs
from tests import specs
from tests.jobs.programs import running

HEIGHTS = [1.2, 0.4, 2.2, 1.9, 0.8, 1.5]
CORRELATION = 0.8


def table_of(folder: Path, body: list[dict[str, Any]], inline: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The result of a program, sampled by two chains."""
    model = {"type": "program", "body": body}
    settings = {"num_chains": 2, "num_warmup": 300, "num_samples": 1000, "checkpoint": {"every_draws": 500}}
    program = running.build({"kind": "mcmc", "model": model, "data": {"inline": inline}, **settings, **changes})
    outputs = Outputs(folder)
    state = running.start(program)
    while state.step < program.total:
        state, _ = running.advance(program, state, 1, outputs)
    return program.result(state, outputs, "completed")[0]


def require(row: dict[str, Any], mean: float, sd: float) -> None:
    """A row of the table agrees with what is known, within four standard errors."""
    assert row["mean"] == pytest.approx(mean, abs=4 * row["mcse_mean"])
    assert row["sd"] == pytest.approx(sd, abs=4 * row["mcse_sd"])
    assert row["r_hat"] < 1.02


def test_a_normal_mean_under_a_normal_prior(tmp_path: Path) -> None:
    body = [
        {"sample": "mu", "distribution": {"type": "Normal", "loc": 0, "scale": 2}},
        {"sample": "y", "distribution": {"type": "Normal", "loc": "mu", "scale": 0.5}, "observed": "y"},
    ]
    precision = 1 / 2**2 + len(HEIGHTS) / 0.5**2
    mean = np.sum(HEIGHTS) / 0.5**2 / precision
    found = table_of(tmp_path, body, {"y": HEIGHTS}, outputs={"posterior_predictive": True, "log_likelihood": True})
    require(found["summary"]["mu"], mean, precision**-0.5)
    assert found["warnings"] == []
    left_out = 0.0
    for height in HEIGHTS:
        rest = precision - 1 / 0.5**2
        left_out += stats.norm.logpdf(height, (mean * precision - height / 0.5**2) / rest, np.hypot(rest**-0.5, 0.5))
    assert found["loo"]["y"]["elpd"] == pytest.approx(left_out, abs=0.1)


def test_a_proportion_under_a_beta_prior(tmp_path: Path) -> None:
    body = [
        {"sample": "p", "distribution": {"type": "Beta", "concentration1": 2, "concentration0": 3}},
        {"sample": "k", "distribution": {"type": "Binomial", "total_count": 20, "probs": "p"}, "observed": "k"},
    ]
    known = stats.beta(2 + 14 + 9, 3 + 6 + 11)
    row = table_of(tmp_path, body, {"k": [14, 9]})["summary"]["p"]
    require(row, known.mean(), known.std())
    assert (row["q05"], row["q95"]) == (pytest.approx(known.ppf(0.05), abs=0.02), pytest.approx(known.ppf(0.95), abs=0.02))


def test_a_gaussian_with_correlation(tmp_path: Path) -> None:
    """Its covariance is given, so its moments are known, and those of the sum too."""
    body = [
        {"sample": "z", "distribution": {"type": "MultivariateNormal", "loc": [1, -2], "covariance_matrix": "covariance"}},
        {"deterministic": "total", "value": "z[0] + z[1]"},
    ]
    covariance = [[1.0, 2 * CORRELATION], [2 * CORRELATION, 4.0]]
    found = table_of(tmp_path, body, {"covariance": covariance})["summary"]
    require(found["z[0]"], 1.0, 1.0)
    require(found["z[1]"], -2.0, 2.0)
    require(found["total"], -1.0, np.sqrt(1 + 4 + 4 * CORRELATION))


def test_a_funnel_by_another_form_of_its_sites(tmp_path: Path) -> None:
    """Neal (2003), Annals of Statistics 31(3): v ~ Normal(0, 3), x ~ Normal(0, exp(v / 2)), whose marginals are known."""
    body = [
        {"sample": "v", "distribution": {"type": "Normal", "loc": 0, "scale": 3}},
        {"sample": "x", "distribution": {"type": "Normal", "loc": 0, "scale": "exp(v / 2)"}, "shape": [4]},
    ]
    reparam = {"x": {"type": "LocScaleReparam", "centered": 0.0}}
    found = table_of(tmp_path, body, {"unused": [0.0]}, reparam=reparam)
    require(found["summary"]["v"], 0.0, 3.0)
    assert found["diagnostics"]["divergences"] == 0
    assert found["summary"]["x[0]"]["q50"] == pytest.approx(0.0, abs=0.15)


def test_a_regression_predicts_data_like_those_that_it_has_seen(tmp_path: Path) -> None:
    """With a flat enough prior and known noise the predictive mean is least squares, and its spread that of the textbook."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=30)
    y = 1.0 + 2.0 * x + generator.normal(size=30)
    document = specs.line(num_chains=2, num_warmup=300, num_samples=800, checkpoint={"every_draws": 400})
    document |= {"data": {"inline": {"x": x.tolist(), "y": y.tolist()}}, "outputs": {"posterior_predictive": True}}
    program, outputs = running.build(document), Outputs(tmp_path)
    state = running.start(program)
    while state.step < program.total:
        state, _ = running.advance(program, state, 1, outputs)
    program.result(state, outputs, "completed")
    drawn = xr.open_datatree(tmp_path / posterior.NETCDF, engine="h5netcdf")["posterior_predictive"]["y"].to_numpy()
    slope, intercept = np.polyfit(x, y, 1)
    residual = np.sqrt(np.sum((y - intercept - slope * x) ** 2) / 28)
    leverage = 1 / 30 + (x - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2)
    assert np.allclose(drawn.mean(axis=(0, 1)), intercept + slope * x, atol=0.12)
    assert np.allclose(drawn.std(axis=(0, 1)), residual * np.sqrt(1 + leverage), rtol=0.12)
    # Each observation lies anywhere among its predictions: neither all in the middle nor many outside.
    ranks = (drawn < y).mean(axis=(0, 1))
    assert stats.kstest(ranks, "uniform").pvalue > 0.01
