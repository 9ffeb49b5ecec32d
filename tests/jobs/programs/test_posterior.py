"""What is made of draws: diagnostics against arviz-stats, files against each other, warnings, and all of it piece by piece."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
import xarray as xr
from arviz_stats.base import array_stats
from scipy.stats import rankdata

from jobs.errors import UserFault
from jobs.programs import posterior
from jobs.programs.outputs import Outputs
from jobs.programs.posterior import convergence, table
from jobs.programs.posterior.netcdf import NetCdf, boxes
from jobs.programs.posterior.zarr import write_zarr
from jobs.programs.preflight.sampling import require_draws_fit
from tests import specs
from tests.jobs.programs import running

SPEC: dict[str, Any] = {"kernel": {"type": "NUTS", "max_tree_depth": 3, "target_accept_prob": 0.8}}


def chains(count: int, draws: int, memory: float = 0.9) -> np.ndarray:
    """Draws (quantities, chains, draws) of every sort: sticky, independent, antithetic, rounded, two-valued, constant."""
    values = np.random.default_rng(count + draws).normal(size=(8, count, draws))
    for at in range(1, draws):
        values[:3, :, at] += memory * values[:3, :, at - 1]
    values[3, :, 1::2] *= -1
    values[4] = np.round(values[4])
    values[5] = np.sign(values[5])
    values[6] = 2.5
    values[7, 0] += 3.0
    return values


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize(("count", "draws"), [(4, 100), (2, 51), (3, 4), (4, 5), (1, 37)], ids=str)
def test_diagnostics_are_those_of_arviz(count: int, draws: int) -> None:
    values = chains(count, draws)
    axes: dict[str, Any] = {"chain_axis": 1, "draw_axis": 2}
    size = convergence.ess_mean(values)
    assert np.allclose(size, array_stats.ess(values, method="mean", **axes), equal_nan=True)
    assert np.allclose(convergence.ess_bulk(values), array_stats.ess(values, method="bulk", **axes), equal_nan=True)
    tail = array_stats.ess(values, method="tail", prob=(0.05, 0.95), **axes)
    assert np.allclose(convergence.ess_tail(values), tail, equal_nan=True)
    assert np.allclose(convergence.mcse_mean(values, size), array_stats.mcse(values, method="mean", **axes), equal_nan=True)
    squares = (values - values.mean(axis=(1, 2), keepdims=True)) ** 2
    variance, fourth = squares.mean(axis=(1, 2)), (squares**2).mean(axis=(1, 2))
    # ArviZ before 1.0 takes the effective sample size of the values themselves here.
    error = np.sqrt((fourth - variance**2) / array_stats.ess(squares, method="mean", **axes) / variance / 4)
    assert np.allclose(convergence.mcse_sd(values), error, equal_nan=True)
    if count > 1:  # of one chain ArviZ tells no R-hat; here, as in Stan, its halves are compared
        assert np.allclose(convergence.r_hat(values), array_stats.rhat(values, method="rank", **axes), equal_nan=True)
    assert np.allclose(convergence.bfmi(values[0]), array_stats.bfmi(values[0], chain_axis=0, draw_axis=1))


@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_ranks_are_those_of_scipy(decimals: int) -> None:
    values = np.round(np.random.default_rng(decimals).normal(size=(7, 200)), decimals)
    values[0, :3], values[1, 5], values[2] = (np.inf, -np.inf, np.inf), np.nan, 0.0
    values[3, :2] = 0.0, -0.0
    np.testing.assert_array_equal(convergence.ranks(values), rankdata(values, axis=1))


def test_one_chain_is_compared_with_itself() -> None:
    drifting = np.linspace(0, 5, 200)[None, None, :] + np.random.default_rng(0).normal(size=(1, 1, 200))
    assert convergence.r_hat(drifting)[0] > 1.5


def test_what_cannot_be_told_is_not_told() -> None:
    values = chains(2, 20)
    values[0, 1, 3] = np.nan
    values[1, 0, 7] = np.inf
    assert np.isnan(convergence.ess_bulk(values)[:2]).all()
    assert np.isnan(convergence.r_hat(values)[0])
    assert np.isfinite(convergence.ess_bulk(values)[2:]).all()
    assert np.isnan(convergence.ess_bulk(values[:, :, :3])).all()
    row = posterior.summary({"z": np.moveaxis(values, 0, 2)})["z[0]"]
    assert set(row.values()) == {None}


def test_the_interval_of_highest_density_is_the_shortest() -> None:
    skewed = np.random.default_rng(0).exponential(size=(4, 500))
    row: dict[str, Any] = posterior.summary({"z": skewed}, 0.9)["z"]
    low, high = array_stats.hdi(skewed.reshape(-1), 0.9, method="nearest")
    assert (row["hdi_low"], row["hdi_high"]) == (low, high)
    assert row["hdi_high"] - row["hdi_low"] < row["q95"] - row["q05"]


@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("most", [1, 4, 100])
def test_boxes_cover_an_array_once_and_in_order(shape: tuple[int, ...], most: int) -> None:
    array = np.arange(int(np.prod(shape))).reshape(shape)
    pieces = [array[box].reshape(-1) for box in boxes(shape, most)]
    assert np.concatenate(pieces).tolist() == array.reshape(-1).tolist()
    assert all(len(piece) <= most for piece in pieces)


def test_a_table_in_pieces_is_the_whole_table() -> None:
    sites = {"z": np.random.default_rng(0).normal(size=(2, 30, 3, 5)), "a": np.random.default_rng(1).normal(size=(2, 30))}
    names, values = posterior.elements(sites)
    assert names[:3] == ["a", "z[0,0]", "z[0,1]"]
    assert np.array_equal(values[:, :, 3], sites["z"][:, :, 0, 2])
    apart = [name for names, _ in table.pieces(sites, 4 * 60) for name in names]
    assert apart == names


def put_out(folder: Path, blocks: int = 3, length: int = 20, **statistics: Any) -> Outputs:
    """Draws in blocks: two sites, a hidden one, and a kernel's statistics."""
    outputs, generator = Outputs(folder), np.random.default_rng(0)
    for block in range(1, blocks + 1):
        outputs.keep_draws(
            block * length,
            {
                "mu": generator.normal(size=(2, length)).astype(np.float32),
                "group/x": generator.normal(size=(2, length, 3, 2)).astype(np.float32),
                "n": generator.integers(0, 9, (2, length)).astype(np.int32),
                "_hidden": generator.normal(size=(2, length)),
                "sample_stats/diverging": generator.random((2, length)) < statistics.get("diverging", 0.1),
                "sample_stats/energy": generator.normal(size=(2, length)),
                "sample_stats/num_steps": np.full((2, length), statistics.get("num_steps", 7), np.int32),
                "sample_stats/potential_energy": generator.normal(size=(2, length)),
            },
        )
    return outputs


def zarr_array(path: Path) -> dict[str, Any]:
    """An array of a Zarr store as another library opens it."""
    return {"driver": "zarr", "kvstore": {"driver": "file", "path": str(path)}}


def test_netcdf_and_zarr_hold_the_same_groups(tmp_path: Path) -> None:
    outputs = put_out(tmp_path)
    found, artifacts = posterior.result(outputs, {"y": np.arange(3.0)}, SPEC | {"outputs": {"zarr": True}}, "completed")
    tree = xr.open_datatree(tmp_path / "posterior.nc", engine="h5netcdf")
    assert set(tree.children) == {"posterior", "sample_stats", "observed_data"}
    draws = outputs.draws()
    assert np.array_equal(tree["posterior"]["group.x"].to_numpy(), draws["group/x"])
    assert tree["posterior"]["group.x"].dims == ("chain", "draw", "group.x_dim_0", "group.x_dim_1")
    assert "_hidden" not in tree["posterior"]
    statistics = tree["sample_stats"]
    assert statistics["diverging"].dtype == bool
    assert np.array_equal(statistics["lp"].to_numpy(), -draws["sample_stats/potential_energy"])
    store = tmp_path / "posterior.zarr"
    assert artifacts[1:] == sorted(f"posterior.zarr/{path.relative_to(store)}" for path in store.rglob("*") if path.is_file())
    for group in tree.children:
        for name, variable in tree[group].to_dataset().variables.items():
            stored = ts.open(zarr_array(store / group / str(name))).result()
            assert np.array_equal(np.asarray(stored.read().result()), variable.to_numpy()), (group, name)
    assert found["num_draws"], found["num_chains"] == (60, 2)


def test_a_zarr_store_comes_in_small_pieces(tmp_path: Path) -> None:
    outputs = put_out(tmp_path)
    posterior.result(outputs, {}, SPEC, "completed")
    with NetCdf(tmp_path / "posterior.nc", "r") as file:
        write_zarr(file, tmp_path / "small.zarr", 50)
    stored: Any = ts.open(zarr_array(tmp_path / "small.zarr/posterior/group.x")).result()
    assert np.prod(stored.chunk_layout.read_chunk.shape) <= 50
    assert np.array_equal(np.asarray(stored.read().result()), outputs.draws()["group/x"])


def test_a_table_too_long_for_the_result_is_a_file(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path)
    outputs.keep_draws(1, {"z": np.random.default_rng(0).normal(size=(2, 5, 5001, 2))})
    found, artifacts = posterior.result(outputs, {}, SPEC, "completed")
    assert artifacts == ["posterior.nc", "summary.csv"]
    with (tmp_path / "summary.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [lines[0]["name"], lines[-1]["name"]] == ["z[0,0]", "z[5000,1]"]
    assert list(found["summary"]) == [line["name"] for line in lines[:10_000]]
    assert float(lines[1]["mean"]) == found["summary"]["z[0,1]"]["mean"]
    assert found["num_quantities"] == len(lines) == 10_002


def test_warnings_say_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    found, _ = posterior.result(put_out(tmp_path, diverging=0.5), {}, SPEC, "completed")
    said = {warning["code"]: warning for warning in found["warnings"]}
    assert list(said)[:2] == ["divergences", "max_tree_depth"]
    assert f"{found['diagnostics']['divergences']} of 120 transitions" in said["divergences"]["message"]
    assert "target_accept_prob above 0.8" in said["divergences"]["hint"]
    assert "120 of 120" in said["max_tree_depth"]["message"]
    assert "8 of 8 quantities" in said["low_ess_bulk"]["message"]
    assert found["diagnostics"]["r_hat_max"] > 1.0


def test_draws_of_which_nothing_is_to_be_said_have_no_warnings(tmp_path: Path) -> None:
    outputs = put_out(tmp_path, blocks=4, length=200, diverging=0.0, num_steps=3)
    found, _ = posterior.result(outputs, {}, SPEC, "completed")
    assert [warning for warning in found["warnings"] if warning["code"] != "r_hat"] == []


def test_draws_without_statistics_have_a_result_too(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path)
    outputs.keep_draws(1, {"w": np.random.default_rng(0).normal(size=(1, 500, 2))})
    found, artifacts = posterior.result(outputs, {"x": np.ones((3, 2))}, {"kind": "svi"}, "completed")
    assert set(found["summary"]) == {"w[0]", "w[1]"}
    assert "divergences" not in found["diagnostics"]
    assert artifacts == ["posterior.nc"]


def test_a_watch_sees_what_all_draws_say_and_the_same_after_a_resume(tmp_path: Path) -> None:
    outputs = put_out(tmp_path)
    watch = posterior.Watch(Outputs(tmp_path, 20), 60, most_steps=7)
    watch.measure()
    watch = posterior.Watch(outputs, 60, most_steps=7)
    seen = watch.measure()
    draws = outputs.draws()
    assert seen["divergences"] == draws["sample_stats/diverging"].sum()
    assert seen["tree_depth_saturated"] == 120
    assert seen["bfmi/min"] == pytest.approx(convergence.bfmi(draws["sample_stats/energy"]).min())
    rows: list[Any] = list(posterior.summary(posterior.apart(draws)[0]).values())
    assert seen["r_hat/max"] == pytest.approx(max(row["r_hat"] for row in rows))
    assert seen["ess_bulk/min"] == pytest.approx(min(row["ess_bulk"] for row in rows))
    assert seen["mcse/max"] == pytest.approx(max(row["mcse_mean"] / row["sd"] for row in rows))
    outputs.keep_draws(80, {name: array[:, :20] for name, array in draws.items()})
    assert watch.measure() == posterior.Watch(Outputs(tmp_path, 80), 60, most_steps=7).measure()


def test_of_a_large_posterior_a_bounded_part_is_watched(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path)
    outputs.keep_draws(5, {"large": np.zeros((2, 5, 4000), np.float32), "mu": np.zeros((2, 5), np.float32)})
    watch = posterior.Watch(outputs, 5)
    watch.measure()
    assert [len(which) for which in watch._chosen.values()] == [199, 1]
    assert watch._chosen["large"][[0, -1]].tolist() == [0, 3999]
    watch = posterior.Watch(outputs, 10**7)
    watch.measure()
    assert sum(len(which) for which in watch._chosen.values()) == 8


def test_draws_that_do_not_fit_are_refused_with_numbers() -> None:
    program = running.build(specs.schools(num_samples=10**9))
    with pytest.raises(UserFault) as refused:
        require_draws_fit(program, 2**40, 2**30)
    assert (refused.value.code, refused.value.param) == ("draws_too_large", "/num_samples")
    assert "1 GiB are free" in refused.value.message
    with pytest.raises(UserFault, match="A block of draws is") as refused:
        require_draws_fit(program, 2**20, None)
    assert refused.value.param == "/checkpoint/every_draws"
    require_draws_fit(program, 2**40, 2**60)
