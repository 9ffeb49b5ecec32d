"""Sampling, against NumPyro's own loop, published references and closed forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from numpyro.infer import MCMC, NUTS

from jobs.errors import UserFault
from jobs.programs import posterior, stopping
from jobs.programs.mesh import Layout, build_mesh
from jobs.programs.models import posteriors
from jobs.programs.outputs import Outputs
from jobs.programs.registry import build_program
from tests import specs
from tests.jobs.programs import running

REFERENCE = {"mu": (4.411, 3.309), "tau": (3.602, 3.198), "theta[0]": (6.151, 5.616), "theta[2]": (3.906, 5.281)}
"""Mean and sd of the posterior of eight schools in posteriordb, 10 000 draws."""


def sample(document: dict[str, Any], folder: Path) -> Outputs:
    """All draws of a job."""
    program, outputs = running.build(document), Outputs(folder)
    state = running.start(program)
    while state.step < program.total:
        state, _ = running.advance(program, state, 1, outputs)
    return outputs


def test_draws_are_those_of_one_plain_run_bit_for_bit(tmp_path: Path) -> None:
    ours, _ = posterior.apart(sample(specs.schools(), tmp_path).draws())
    plain = MCMC(
        NUTS(posteriors.eight_schools), num_warmup=60, num_samples=120, num_chains=4, chain_method="vectorized", progress_bar=False
    )
    plain.run(jax.random.key(0), jnp.asarray(specs.SCHOOLS["y"], float), jnp.asarray(specs.SCHOOLS["sigma"], float))
    theirs = plain.get_samples(group_by_chain=True)
    assert sorted(ours) == ["mu", "tau", "theta"]
    for name in ("mu", "tau"):
        assert np.array_equal(ours[name], np.asarray(theirs[name])), name
    # What follows from them is computed by another compiled program, which may contract a product and a sum into one rounding.
    assert np.allclose(ours["theta"], np.asarray(theirs["theta"]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axes", [{"chains": 1}, {"chains": 4}], ids=str)
def test_the_length_of_a_block_changes_no_draw(tmp_path: Path, axes: dict[str, int]) -> None:
    short = sample(specs.on_mesh(specs.schools(checkpoint={"every_draws": 30}), **axes), tmp_path / "short").draws()
    long = sample(specs.on_mesh(specs.schools(checkpoint={"every_draws": 77}), **axes), tmp_path / "long").draws()
    assert all(np.array_equal(short[name], long[name]) for name in short)


def test_thinning_keeps_every_nth_draw(tmp_path: Path) -> None:
    whole = sample(specs.schools(), tmp_path / "whole").draws()["mu"]
    thin = sample(specs.schools(thinning=4), tmp_path / "thin").draws()["mu"]
    assert np.array_equal(thin, whole[:, 3::4])


def test_sequential_chains_have_the_same_posterior(tmp_path: Path) -> None:
    draws = sample(specs.schools(chain_method="sequential", num_samples=300), tmp_path).draws()["mu"]
    assert draws.shape == (4, 300)
    assert abs(draws.mean() - REFERENCE["mu"][0]) < 1.5


def test_eight_schools_agree_with_the_reference(tmp_path: Path) -> None:
    document = specs.on_mesh(specs.schools(num_warmup=500, num_samples=2000, checkpoint={"every_draws": 500}), chains=4)
    table = posterior.summary(posterior.apart(sample(document, tmp_path).draws())[0])
    for name, (mean, sd) in REFERENCE.items():
        row = table[name]
        assert abs(row["mean"] - mean) < 3 * np.hypot(row["mcse_mean"], sd / 100)  # type: ignore[operator, arg-type]
        assert abs(row["sd"] - sd) < 3 * np.hypot(row["mcse_sd"], sd / np.sqrt(2) / 100)  # type: ignore[operator, arg-type]
        assert row["r_hat"] < 1.01  # type: ignore[operator]


def test_hmc_samples_a_regression_whose_posterior_is_known(tmp_path: Path) -> None:
    """With wide priors the posterior mean of the coefficients is the least-squares fit."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=200)
    y = 1.0 + 2.0 * x + generator.normal(size=200)
    slope, intercept = np.polyfit(x, y, 1)
    document = specs.line(
        kernel={"type": "HMC", "trajectory_length": 1.0}, num_warmup=300, num_samples=600, checkpoint={"every_draws": 300}
    )
    document["data"] = {"inline": {"x": x.tolist(), "y": y.tolist()}}
    table = posterior.summary(posterior.apart(sample(document, tmp_path).draws())[0])
    assert table["alpha"]["mean"] == pytest.approx(intercept, abs=0.02)
    assert table["beta[0]"]["mean"] == pytest.approx(slope, abs=0.02)


def test_a_known_gaussian_comes_out_with_its_moments() -> None:
    """The table's own arithmetic, on draws whose moments are known."""
    draws = np.random.default_rng(1).normal(3.0, 2.0, (4, 5000, 2)).astype(np.float32)
    table = posterior.summary({"z": draws})
    assert list(table) == ["z[0]", "z[1]"]
    row = table["z[0]"]
    assert row["mean"] == pytest.approx(3.0, abs=0.08)
    assert row["sd"] == pytest.approx(2.0, abs=0.06)
    assert row["q05"] == pytest.approx(3.0 - 1.645 * 2.0, abs=0.12)
    assert row["ess_bulk"] == pytest.approx(20_000, rel=0.1)
    assert row["mcse_mean"] == pytest.approx(2.0 / np.sqrt(20_000), rel=0.1)
    assert row["r_hat"] == pytest.approx(1.0, abs=0.002)


def test_the_result_is_a_table_and_a_file_that_xarray_opens(tmp_path: Path) -> None:
    document = specs.schools()
    outputs = sample(document, tmp_path)
    program = running.build(document)
    result, artifacts = program.result(program.init(), outputs, "completed")
    assert set(result["summary"]) == {"mu", "tau", *(f"theta[{i}]" for i in range(8))}
    columns = {"mean", "sd", "q05", "q50", "q95", "hdi_low", "hdi_high", "r_hat"}
    columns |= {"ess_bulk", "ess_tail", "mcse_mean", "mcse_sd"}
    assert all(set(row) == columns for row in result["summary"].values())
    assert result["diagnostics"]["divergences"] >= 0
    assert len(result["diagnostics"]["bfmi"]) == 4
    assert artifacts == ["posterior.nc"]
    tree = xr.open_datatree(tmp_path / "posterior.nc", engine="h5netcdf")
    drawn = tree["posterior"].to_dataset()
    assert tuple(drawn["theta"].dims)[:2] == ("chain", "draw")
    assert np.array_equal(drawn["mu"].to_numpy(), outputs.draws()["mu"])
    assert {"diverging", "acceptance_rate", "n_steps", "energy"} <= set(tree["sample_stats"].data_vars)
    assert tree["observed_data"].to_dataset()["y"].to_numpy().tolist() == specs.SCHOOLS["y"]


def test_it_stops_when_every_target_is_met_and_not_before(tmp_path: Path) -> None:
    document = specs.schools(num_samples=600, checkpoint={"every_draws": 60}, stop={"min_ess_bulk": 300, "max_r_hat": 1.05})
    program, outputs = running.build(document), Outputs(tmp_path)
    outputs.measure(120, {"ess_bulk/min": 900.0, "r_hat/max": 1.0}, evaluated=True)
    assert program.stops(120, outputs) is None  # too few draws to believe
    outputs.measure(180, {"ess_bulk/min": 900.0, "r_hat/max": 1.2}, evaluated=True)
    assert program.stops(180, outputs) is None
    outputs.measure(240, {"ess_bulk/min": 301.0, "r_hat/max": 1.04}, evaluated=True)
    assert program.stops(240, outputs) == "converged"


def test_a_density_that_is_nowhere_finite_is_refused() -> None:
    spec = specs.resolve(specs.schools())
    spec["data"]["inline"]["sigma"] = [0.0] * 8  # the job language would refuse it; a dataset of its own could still hold it
    with pytest.raises(UserFault) as caught:
        build_program(spec, {"chains": 1}, None, None).init()
    assert caught.value.param == "/model"


def test_targets_and_time_end_a_job_and_nothing_before_enough_draws(tmp_path: Path) -> None:
    stop = {"min_ess_tail": 50, "max_mcse": {"mu": 0.5}, "min_draws": 150}
    program: Any = running.build(specs.schools(num_samples=600, checkpoint={"every_draws": 60}, stop=stop))
    outputs = Outputs(tmp_path)
    met = {"ess_tail/min": 60.0, "mcse/ratio": 0.9}
    for step, measured, expected in ((180, met, None), (240, {"ess_tail/min": 60.0}, None), (300, met, "converged")):
        outputs.measure(step, measured, evaluated=True)
        assert program.stops(step, outputs) == expected
    spec = program.spec | {"stop": program.spec["stop"] | {"min_ess_tail": None, "max_mcse": None, "max_seconds": 30.0}}
    timed = running.of(spec)
    assert timed.stops(240, outputs) is None
    outputs.measure(300, {"elapsed_seconds": 31.0})
    again = running.of(spec)
    assert again.stops(120, outputs) is None
    assert again.stops(300, outputs) == "max_seconds"


def test_errors_of_means_are_weighed_against_what_is_allowed() -> None:
    table = {"mu": {"mcse_mean": 0.1, "sd": 2.0}, "x[0]": {"mcse_mean": 0.3, "sd": 1.0}, "x[1]": {"mcse_mean": 0.2, "sd": 0.0}}
    assert stopping.mcse_ratio(0.1, table) == pytest.approx(3.0)
    assert stopping.mcse_ratio({"mu": 0.2, "x": 0.6}, table) == pytest.approx(0.5)
    with pytest.raises(UserFault, match="called y"):
        stopping.mcse_ratio({"y": 1.0}, table)


@pytest.mark.parametrize(
    ("changes", "axes", "method", "why"),
    [
        ({}, {"chains": 1}, "vectorized", "4 chains share the device"),
        ({}, {"chains": 4}, "parallel", "a device of its own"),
        ({}, {"chains": 2}, "vectorized", "2 chains share each of 2 devices"),
        ({"chain_method": "sequential"}, {"chains": 2}, "sequential", "as the job asks"),
        ({"num_chains": 1}, {"chains": 1}, "vectorized", "the only chain"),
        ({"kernel": {"type": "ESS"}}, {"chains": 1}, "vectorized", "an ensemble"),
    ],
    ids=["one device", "a device each", "two devices", "asked", "one chain", "ensemble"],
)
def test_auto_chooses_by_devices_and_says_why(changes: dict[str, Any], axes: dict[str, int], method: str, why: str) -> None:
    spec = specs.resolve(specs.on_mesh(specs.schools(**changes), **axes))
    chosen, reason = stopping.method(spec, Layout(build_mesh(axes), ()))
    assert chosen == method
    assert why in reason


def test_a_job_whose_every_transition_diverges_is_given_up() -> None:
    kernel = {"type": "HMC", "step_size": 1e6, "adapt_step_size": False, "num_steps": 1, "trajectory_length": None}
    program = running.build(specs.schools(kernel=kernel, num_warmup=10, num_samples=60))
    with pytest.raises(UserFault, match="diverged") as caught:
        running.advance(program, running.start(program), program.total)
    assert caught.value.code == "all_divergent"


def test_a_centred_funnel_is_made_another_by_auto() -> None:
    program: Any = running.build(specs.schools(model={"type": "eight_schools_centered"}, reparam="auto"))
    assert program.notes()["sampler.reparameterised"] == {"sites": {"theta": "LocScaleReparam"}}
    sites, _ = program.drawn()
    assert {"mu", "tau", "theta", "theta_decentered"} <= set(sites)
