"""What a model says with the parameters of draws, against closed forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
from scipy import stats

from jobs.errors import UserFault
from jobs.programs import posterior
from jobs.programs.mcmc import McmcProgram
from jobs.programs.models import posteriors
from jobs.programs.outputs import Outputs
from jobs.programs.posterior.replay import Batches, Replay, require_prior
from jobs.programs.preflight.sampling import sampling
from tests import specs
from tests.jobs.programs import running

SPEC: dict[str, Any] = {"kind": "mcmc", "seed": 3, "kernel": {"type": "NUTS"}}
Y = np.random.default_rng(0).normal(1.0, 1.0, 12)
SD = 10.0
"""Of the prior: mu ~ Normal(0, SD), y ~ Normal(mu, 1)."""


def normal(y: jax.Array) -> None:
    mu = numpyro.sample("mu", dist.Normal(0, SD))
    with numpyro.plate("rows", len(y)):
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)


def mean_and_sd(y: np.ndarray) -> tuple[float, float]:
    """The posterior of `normal`, which is known."""
    precision = 1 / SD**2 + len(y)
    return y.sum() / precision, precision**-0.5


def exact_draws(folder: Path) -> Outputs:
    """Independent draws from the known posterior, as a sampler would put them out."""
    outputs, (mean, sd) = Outputs(folder), mean_and_sd(Y)
    generator = np.random.default_rng(1)
    for step in (300, 1000):
        length = 300 if step == 300 else 700
        outputs.keep_draws(step, {"mu": generator.normal(mean, sd, (4, length)).astype(np.float32)})
    return outputs


def made(outputs: Outputs, wanted: dict[str, Any], model: Callable[..., Any] = normal, **data: Any) -> tuple[dict[str, Any], Any]:
    """The result, and the groups of posterior.nc."""
    arrays = {name: jnp.asarray(value, float) for name, value in (data or {"y": Y}).items()}
    found, _ = posterior.result(outputs, arrays, SPEC | {"outputs": wanted}, "completed", Replay.of(model, arrays))
    return found, xr.open_datatree(outputs.folder / "posterior.nc", engine="h5netcdf")


def test_the_log_likelihood_is_that_of_the_closed_form(tmp_path: Path) -> None:
    outputs = exact_draws(tmp_path)
    _, tree = made(outputs, {"log_likelihood": True})
    told = tree["log_likelihood"]["y"]
    assert told.dims == ("chain", "draw", "y_dim_0")
    assert np.allclose(told, stats.norm.logpdf(Y, outputs.draws()["mu"][..., None], 1), atol=1e-4)


def test_leaving_one_out_agrees_with_the_posteriors_that_leave_it_out(tmp_path: Path) -> None:
    found, _ = made(exact_draws(tmp_path), {"log_likelihood": True})
    exact, mean_and_spread = 0.0, mean_and_sd(Y)
    shown = stats.norm.logpdf(Y, mean_and_spread[0], np.hypot(mean_and_spread[1], 1)).sum()
    for left_out in range(len(Y)):
        mean, sd = mean_and_sd(np.delete(Y, left_out))
        exact += stats.norm.logpdf(Y[left_out], mean, np.hypot(sd, 1))
    loo, waic = found["loo"]["y"], found["waic"]["y"]
    assert loo["elpd"] == pytest.approx(exact, abs=0.03)
    assert waic["elpd"] == pytest.approx(exact, abs=0.1)
    assert loo["p"] == pytest.approx(shown - exact, abs=0.03)
    assert (loo["observations"], loo["pareto_k_above"]) == (12, 0)
    assert [warning["code"] for warning in found["warnings"]] == []


def test_an_observation_that_the_posterior_hangs_on_is_named(tmp_path: Path) -> None:
    outputs, data = Outputs(tmp_path), np.array([0.0, 0.1, 40.0])
    outputs.keep_draws(1, {"mu": np.random.default_rng(0).normal(data.mean(), 3**-0.5, (4, 250))})
    found, _ = made(outputs, {"log_likelihood": True}, y=data)
    assert found["loo"]["y"]["pareto_k_above"] >= 1
    warning = next(warning for warning in found["warnings"] if warning["code"] == "high_pareto_k")
    assert "y[2]" in warning["message"]


def test_predictions_have_the_spread_of_parameters_and_of_data(tmp_path: Path) -> None:
    _, tree = made(exact_draws(tmp_path), {"posterior_predictive": True, "prior_predictive": 4000})
    mean, sd = mean_and_sd(Y)
    drawn = tree["posterior_predictive"]["y"]
    assert float(drawn.mean()) == pytest.approx(mean, abs=4 * sd / np.sqrt(4000))
    assert float(drawn.std()) == pytest.approx(np.hypot(sd, 1), rel=0.02)
    assert float(tree["prior"]["mu"].std()) == pytest.approx(SD, rel=0.05)
    assert float(tree["prior_predictive"]["y"].std()) == pytest.approx(np.hypot(SD, 1), rel=0.05)
    assert tree["prior_predictive"]["y"].shape == (1, 4000, 12)
    # The rows of one draw share its mean: what is common to them varies as the posterior does.
    assert float(drawn.mean("y_dim_0").std()) == pytest.approx(np.hypot(sd, 12**-0.5), rel=0.05)
    assert np.array_equal(tree["observed_data"]["y"], Y.astype(np.float32))


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_the_size_of_a_batch_changes_nothing(size: int) -> None:
    replay = Replay.of(normal, {"y": jnp.asarray(Y)})
    latent = {"mu": np.arange(10.0, dtype=np.float32).reshape(2, 5)}
    made: list[np.ndarray] = []
    for batch in (size, 10):
        batches = Batches(replay.predict, 1, 0, {"mu": jax.ShapeDtypeStruct((), jnp.float32)})
        batches.size = batch
        whole = np.zeros((2, 9, 12))
        for at, arrays in batches.run(2, 4, 5, latent):
            whole[at] = arrays["y"]
        made.append(whole)
    assert np.array_equal(made[0], made[1])
    assert not made[0][:, :4].any()
    assert np.allclose(made[0][:, 4:].mean(axis=2), latent["mu"], atol=1.5)


def test_hidden_sites_are_replayed(tmp_path: Path) -> None:
    """Eight schools draws `_theta` and records theta: with another `_theta` theta would be another."""
    outputs, generator = Outputs(tmp_path), np.random.default_rng(0)
    draws = {
        "mu": generator.normal(size=(2, 50)),
        "tau": generator.exponential(size=(2, 50)),
        "_theta": generator.normal(size=(2, 50, 8)),
    }
    draws["theta"] = draws["mu"][..., None] + draws["tau"][..., None] * draws["_theta"]
    outputs.keep_draws(50, {name: array.astype(np.float32) for name, array in draws.items()})
    _, tree = made(outputs, {"log_likelihood": True}, posteriors.build_model({"type": "eight_schools"}), **specs.SCHOOLS)
    exact = stats.norm.logpdf(specs.SCHOOLS["y"], draws["theta"], specs.SCHOOLS["sigma"])
    assert np.allclose(tree["log_likelihood"]["y"], exact, atol=1e-4)
    assert list(tree["constant_data"].data_vars) == ["sigma"]
    assert "_theta" not in tree["posterior"]


def test_a_job_says_before_it_starts_what_its_predictions_take() -> None:
    program = running.build(specs.schools(outputs={"posterior_predictive": True, "log_likelihood": True}))
    plain = running.build(specs.schools())
    assert isinstance(program, McmcProgram)
    assert isinstance(plain, McmcProgram)
    more = sampling(program, 2**40).disk_bytes - sampling(plain, 2**40).disk_bytes
    assert more == 2 * (4 * 120 * 8 * 4)


def test_factors_are_no_observations() -> None:
    def model(y: jax.Array) -> None:
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        numpyro.factor("more", -jnp.square(mu))
        with numpyro.plate("rows", len(y)):
            numpyro.factor("each", -jnp.abs(y))
        numpyro.sample("y", dist.Normal(mu, 1).expand([len(y)]).to_event(1), obs=y)

    replay = Replay.of(model, {"y": jnp.zeros(3)})
    assert (list(replay.observed), list(replay.latent)) == (["y"], ["mu"])


def test_a_flat_prior_predicts_nothing() -> None:
    def flat(y: jax.Array) -> None:
        mu = numpyro.sample("mu", dist.ImproperUniform(dist.constraints.real, (), ()))
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)

    replay = Replay.of(normal, {"y": jnp.zeros(3)})
    require_prior(replay)
    with pytest.raises(UserFault) as refused:
        require_prior(Replay(flat, {"y": jnp.zeros(())}, replay.observed, replay.latent, ()))
    assert (refused.value.code, refused.value.param) == ("improper_prior", "/outputs/prior_predictive")
