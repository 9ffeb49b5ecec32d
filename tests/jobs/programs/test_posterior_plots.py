"""The plots as numbers, and the pictures of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from jobs.programs import posterior
from jobs.programs.outputs import Outputs

SPEC: dict[str, Any] = {"kind": "mcmc", "seed": 0, "kernel": {}, "outputs": {"plots": True}}
NAMES = ["autocorrelation", "density", "energy", "forest", "pair", "rank", "trace"]
CHAINS, DRAWS = 3, 700


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], dict[str, np.ndarray]]:
    """A folder with the plots of draws of which one chain is elsewhere, the artifacts' names, and the draws."""
    outputs, generator = Outputs(tmp_path_factory.mktemp("plots")), np.random.default_rng(0)
    draws = {
        "mu": generator.normal(size=(CHAINS, DRAWS)),
        "theta": generator.normal(size=(CHAINS, DRAWS, 30)),
        "zero": np.zeros((CHAINS, DRAWS)),
        "sample_stats/diverging": generator.random((CHAINS, DRAWS)) < 0.01,
        "sample_stats/energy": generator.normal(size=(CHAINS, DRAWS)),
    }
    draws["mu"][2] += 1.5
    outputs.keep_draws(DRAWS, draws)
    _, artifacts = posterior.result(outputs, {}, SPEC, "completed")
    return outputs.folder, artifacts, draws


def plot(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / "plots" / f"{name}.json").read_text())


def test_every_plot_is_there_twice(made: Any) -> None:
    assert made[1] == ["posterior.nc", *(f"plots/{name}.{form}" for name in NAMES for form in ("json", "png"))]


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_shows_something(made: Any, name: str) -> None:
    picture = matplotlib.image.imread(made[0] / "plots" / f"{name}.png")
    assert picture.shape[0] > 100
    inked = (picture[..., :3].min(axis=2) < 0.9).mean()
    assert 0.005 < inked < 0.7
    assert plot(made[0], name)["plot"] == name


def test_quantities_are_few_and_those_that_stand_still_are_left_out(made: Any) -> None:
    names = [quantity["name"] for quantity in plot(made[0], "trace")["quantities"]]
    assert names == ["mu", *(f"theta[{at}]" for at in range(8))]
    assert (made[0] / "plots" / "trace.json").stat().st_size < 300_000


def test_the_trace_is_the_draws(made: Any) -> None:
    trace = plot(made[0], "trace")
    shown = np.asarray(trace["quantities"][0]["chains"])
    assert np.allclose(shown, made[2]["mu"][:, trace["draws"]], rtol=1e-4)
    assert (trace["draws"][0], trace["draws"][-1]) == (0, DRAWS - 1)
    assert [len(chain) for chain in trace["diverged"]] == made[2]["sample_stats/diverging"].sum(axis=1).tolist()


def test_ranks_tell_the_chain_that_is_elsewhere(made: Any) -> None:
    rank = plot(made[0], "rank")
    chains = np.asarray(rank["quantities"][0]["chains"])
    assert chains.sum(axis=1).tolist() == [DRAWS] * CHAINS
    assert chains[2, -1] > 3 * chains[0, -1]
    assert np.asarray(rank["quantities"][1]["chains"]).std() < chains.std() / 2


def test_a_density_comes_to_one(made: Any) -> None:
    curve = plot(made[0], "density")["quantities"][0]["chains"][0]
    assert np.trapezoid(curve["y"], curve["x"]) == pytest.approx(1.0, abs=0.03)


def test_the_forest_is_the_table(made: Any) -> None:
    row = next(row for row in plot(made[0], "forest")["quantities"] if row["name"] == "mu")
    told = posterior.summary({"mu": made[2]["mu"]})["mu"]
    assert row["q50"] == pytest.approx(told["q50"], rel=1e-4)
    assert (row["hdi_low"], row["hdi_high"]) == (
        pytest.approx(told["hdi_low"], rel=1e-4),
        pytest.approx(told["hdi_high"], rel=1e-4),
    )


def test_pairs_show_divergences_apart(made: Any) -> None:
    pair = plot(made[0], "pair")
    assert pair["names"] == ["mu", "theta[0]", "theta[1]", "theta[2]"]
    assert {len(row) for row in pair["diverged"]} == {int(made[2]["sample_stats/diverging"].sum())}


def test_energy_bears_its_bfmi_and_autocorrelation_begins_at_one(made: Any) -> None:
    assert [chain["bfmi"] for chain in plot(made[0], "energy")["chains"]] == pytest.approx([2.0] * CHAINS, abs=0.3)
    assert [chain[0] for chain in plot(made[0], "autocorrelation")["quantities"][0]["chains"]] == [1.0] * CHAINS


def test_draws_that_never_move_have_empty_plots(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path)
    outputs.keep_draws(5, {"zero": np.zeros((1, 5))})
    _, artifacts = posterior.result(outputs, {}, SPEC, "completed")
    assert "plots/energy.png" not in artifacts
    assert plot(tmp_path, "pair") == {"plot": "pair", "names": [], "draws": [], "diverged": []}
