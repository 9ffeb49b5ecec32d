"""Predictions from the draws of another job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from jobs.errors import UserFault
from jobs.programs.data import ALONE, DataFile
from jobs.programs.mcmc import McmcProgram
from jobs.programs.outputs import DRAWS, PREDICTIONS, Outputs
from jobs.programs.predict import PredictProgram
from jobs.programs.program import State
from jobs.programs.svi import SviProgram
from jobs.spec.job import read_spec
from jobs.spec.origin import CheckpointFacts
from tests import specs
from tests.jobs.programs import running

CHAINS, DRAWN = 2, 90
NEW = {"x": [0.0, 10.0, -3.0]}


def source(document: dict[str, Any], drawn: int = DRAWN) -> CheckpointFacts:
    """The checkpoint of a sampling job, as the service knows it."""
    spec = specs.resolve(document | {"num_chains": CHAINS, "num_samples": drawn})
    return CheckpointFacts("job_source", spec["num_warmup"] + drawn, spec)


def resolved(found: CheckpointFacts, data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The resolved spec of predictions from it."""
    document = {"kind": "predict", "posterior": {"job": "job_source"}, "data": data, "checkpoint": {"every_draws": 25}, **changes}
    return read_spec(document, specs.facts, lambda *_: found).resolved


def line_draws(folder: Path) -> dict[str, np.ndarray]:
    """Draws of a regression's parameters, put out in blocks of 40 and 50."""
    generator = np.random.default_rng(0)
    draws = {
        "alpha": generator.normal(1.0, 0.1, (CHAINS, DRAWN)),
        "beta": generator.normal(2.0, 0.1, (CHAINS, DRAWN, 1)),
        "sigma": np.full((CHAINS, DRAWN), 0.5),
    }
    outputs = Outputs(folder)
    outputs.keep_draws(100, {name: array[:, :40].astype(np.float32) for name, array in draws.items()})
    outputs.keep_draws(150, {name: array[:, 40:].astype(np.float32) for name, array in draws.items()})
    return draws


def predicting(spec: dict[str, Any], folder: Path) -> PredictProgram:
    program = running.of(spec, beside=replace(ALONE, draws=folder))
    assert isinstance(program, PredictProgram)
    return program


def run(program: PredictProgram, outputs: Outputs, state: State | None = None, blocks: int = 10_000) -> State:
    """Some blocks."""
    state = program.init() if state is None else state
    while state.step < program.total and blocks:
        state, _ = running.advance(program, state, 1, outputs)
        blocks -= 1
    return state


@pytest.mark.parametrize("uploaded", [False, True])
def test_a_process_predicts_between_and_beyond_what_it_was_fitted_to(tmp_path: Path, *, uploaded: bool) -> None:
    old, new = {"x": [-1.0, 0.0, 0.5, 2.0], "y": [0.3, -0.2, 0.9, 1.4]}, np.array([0.0, 0.25, 9.0])
    process = source(specs.schools(model={"type": "gaussian_process_regression"}, data={"inline": old}), 4000)
    spec = resolved(process, {"inline": {"x": new.tolist()}}, checkpoint={"every_draws": 4000})
    outputs = Outputs(tmp_path)
    lengthscale, amplitude, sigma = 0.8, 1.3, 0.2
    fixed = {"lengthscale": lengthscale, "amplitude": amplitude, "sigma": sigma}
    outputs.keep_draws(4500, {name: np.full((CHAINS, 4000), value, np.float32) for name, value in fixed.items()})
    file = None
    if uploaded:
        table = tmp_path / "old.csv"
        table.write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in zip(old["x"], old["y"], strict=True)))
        spec["data"]["fitted"] |= {"inline": None, "dataset": "ds_old"}
        file = DataFile(table, "csv", "")
        with pytest.raises(UserFault, match="is gone"):
            predicting(spec, tmp_path)
    program = running.of(spec, beside=replace(ALONE, draws=tmp_path, fitted=file))
    assert isinstance(program, PredictProgram)
    made = Outputs(tmp_path, 0, PREDICTIONS)
    told, _ = program.result(run(program, made), made, "completed")

    def covariance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return amplitude**2 * np.exp(-0.5 * np.subtract.outer(one, other) ** 2 / lengthscale**2)

    x = np.asarray(old["x"])
    weights = np.linalg.solve(covariance(x, x) + sigma**2 * np.eye(4), covariance(x, new)).T
    mean = weights @ np.asarray(old["y"])
    deviation = np.sqrt(np.diag(covariance(new, new) - weights @ covariance(x, new)) + sigma**2)
    for at in range(3):
        assert told["summary"][f"f[{at}]"]["mean"] == pytest.approx(mean[at], abs=1e-3)
        row, error = told["summary"][f"y[{at}]"], deviation[at] / np.sqrt(CHAINS * 4000)
        assert row["mean"] == pytest.approx(mean[at], abs=4 * error)
        assert row["sd"] == pytest.approx(deviation[at], abs=4 * error)


def test_a_guide_predicts_from_what_was_drawn_of_it_at_its_end(tmp_path: Path) -> None:
    adam = {"type": "adam", "learning_rate": 0.02}
    line = {"model": {"type": "linear_regression"}, "data": {"builtin": "line"}}
    fitted = running.build(specs.fitted(**line, steps=1500, num_samples=DRAWN, optimizer=adam))
    assert isinstance(fitted, SviProgram)
    state, outputs = running.start(fitted), Outputs(tmp_path)
    outputs.keep_draws(1, {"alpha": np.zeros((1, 5))})  # of a shorter run that this one goes on from
    while state.step < fitted.total:
        state, _ = fitted.advance(state)
    fitted.conclude(state, outputs)
    fitted.conclude(state, outputs)
    assert outputs.names(state.step) == [f"draws/{state.step:012d}.npz"]
    (tmp_path / "draws/000000000001.npz").unlink()  # no checkpoint names it, so that nobody is handed it
    found = CheckpointFacts("job_source", state.step, fitted.spec, holds_draws=True)
    program = predicting(resolved(found, {"inline": NEW, "args": {"x": "x"}}), tmp_path)
    made = Outputs(tmp_path, 0, PREDICTIONS)
    told, _ = program.result(run(program, made), made, "completed")
    drawn = outputs.draws()
    means = drawn["alpha"][0][:, None] + drawn["beta"][0] * np.asarray(NEW["x"])
    assert means.shape == (DRAWN, 3)
    for at in range(3):
        row = told["summary"][f"y[{at}]"]
        spread = np.hypot(means[:, at].std(), drawn["sigma"].max())
        assert row["mean"] == pytest.approx(means[:, at].mean(), abs=4 * spread / np.sqrt(DRAWN))


def test_a_regression_predicts_new_rows(tmp_path: Path) -> None:
    draws = line_draws(tmp_path)
    spec = resolved(source(specs.line()), {"inline": NEW, "args": {"x": "x"}})
    program, outputs = predicting(spec, tmp_path), Outputs(tmp_path, 0, PREDICTIONS)
    state = run(program, outputs)
    found, artifacts = program.result(state, outputs, "completed")
    assert list(found["summary"]) == ["y[0]", "y[1]", "y[2]"]
    means = draws["alpha"][..., None] + draws["beta"] * np.asarray(NEW["x"])
    for at in range(3):
        row = found["summary"][f"y[{at}]"]
        spread = np.hypot(means[..., at].std(), 0.5)
        assert row["mean"] == pytest.approx(means[..., at].mean(), abs=4 * spread / np.sqrt(CHAINS * DRAWN))
        assert row["sd"] == pytest.approx(spread, rel=0.25)
        assert row["q05"] < row["q50"] < row["q95"]
    assert artifacts == ["predictions.nc"]
    tree = xr.open_datatree(tmp_path / "predictions.nc", engine="h5netcdf")
    assert tree["predictions"]["y"].shape == (CHAINS, DRAWN, 3)
    assert tree["predictions_constant_data"]["x"].to_numpy().tolist() == NEW["x"]
    assert (found["num_chains"], found["num_draws"]) == (CHAINS, DRAWN)


def test_a_run_that_is_broken_off_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    line_draws(tmp_path)
    spec = resolved(source(specs.line()), {"inline": NEW, "args": {"x": "x"}})
    program, outputs = predicting(spec, tmp_path), Outputs(tmp_path, 0, PREDICTIONS)
    state = run(program, outputs, blocks=2)
    assert program.saves_at(state.step)
    assert outputs.names(state.step) == [
        *(f"draws/{step:012d}.npz" for step in (100, 150)),
        *(f"predictions/{step:012d}.npz" for step in (25, 50)),
    ]
    again = predicting(spec, tmp_path)
    resumed = Outputs(tmp_path, state.step, PREDICTIONS)
    run(again, resumed, again.place(state.step, state.sections, {}))
    halves = resumed.draws()["y"]
    whole = Outputs(tmp_path, 0, PREDICTIONS)
    run(predicting(spec, tmp_path), whole)
    assert np.array_equal(halves, whole.draws()["y"])
    assert Outputs(tmp_path, 10**6, DRAWS).draws()["alpha"].shape == (CHAINS, DRAWN)


def test_thinning_uses_every_nth_draw(tmp_path: Path) -> None:
    draws = line_draws(tmp_path)
    spec = resolved(source(specs.line()), {"inline": NEW}, posterior={"job": "job_source", "thinning": 30})
    assert spec["num_samples"] == 3
    program = predicting(spec, tmp_path)
    assert program._draws is not None
    taken = program._draws.take(["alpha"], np.array([29, 59, 89]))["alpha"]
    assert np.allclose(taken, draws["alpha"][:, 29::30])
    outputs = Outputs(tmp_path, 0, PREDICTIONS)
    run(program, outputs)
    assert outputs.draws()["y"].shape == (CHAINS, 3, 3)


def test_eight_schools_predict_without_the_effects_that_were_observed(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    draws = {"mu": generator.normal(5, 1, (CHAINS, DRAWN)), "tau": np.full((CHAINS, DRAWN), 2.0)}
    draws["_theta"] = generator.normal(size=(CHAINS, DRAWN, 8))
    Outputs(tmp_path).keep_draws(150, {name: array.astype(np.float32) for name, array in draws.items()})
    sigma = [1e-6] * 8
    spec = resolved(source(specs.schools()), {"inline": {"sigma": sigma}})
    program, outputs = predicting(spec, tmp_path), Outputs(tmp_path, 0, PREDICTIONS)
    run(program, outputs)
    made = outputs.draws()
    theta = draws["mu"][..., None] + draws["tau"][..., None] * draws["_theta"]
    assert np.allclose(made["theta"], theta, atol=1e-4)  # computed anew, from the hidden site
    assert np.allclose(made["y"], theta, atol=1e-3)


def test_draws_for_other_groups_are_refused(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    shapes = {"mu": (), "tau": (), "_theta": (8,)}
    Outputs(tmp_path).keep_draws(150, {name: generator.random((CHAINS, DRAWN, *shape)) for name, shape in shapes.items()})
    program = predicting(resolved(source(specs.schools()), {"inline": {"sigma": [1.0] * 5}}), tmp_path)
    with pytest.raises(UserFault, match=r"_theta have shape \[8\], and with this data the model would have \[5\]") as refused:
        program.init()
    assert (refused.value.code, refused.value.param) == ("dataset_invalid", "/data")


def test_without_draws_nothing_is_predicted(tmp_path: Path) -> None:
    program = predicting(resolved(source(specs.line()), {"inline": NEW}), tmp_path)
    with pytest.raises(UserFault) as refused:
        program.init()
    assert refused.value.param == "/posterior/job"


SLOPES = {
    "type": "program",
    "data": {"N": {"type": "int"}, "x": {"shape": ["N"]}, "y": {"shape": ["N"]}},
    "body": [
        {"sample": "slope", "distribution": {"type": "Normal", "loc": 0, "scale": 10}},
        {"deterministic": "mean", "value": "slope * x"},
        {"sample": "y", "distribution": {"type": "Normal", "loc": "mean", "scale": 0.5}, "observed": "y"},
    ],
}


def test_a_program_predicts_without_what_it_observes(tmp_path: Path) -> None:
    slope = np.random.default_rng(0).normal(2.0, 0.1, (CHAINS, DRAWN)).astype(np.float32)
    Outputs(tmp_path).keep_draws(150, {"slope": slope, "mean": np.zeros((CHAINS, DRAWN, 2), np.float32)})
    document = {"kind": "mcmc", "model": SLOPES, "data": {"inline": {"x": [1.0, 2.0], "y": [2.0, 4.0]}}}
    program = predicting(resolved(source(document), {"inline": {"x": NEW["x"]}}), tmp_path)
    outputs = Outputs(tmp_path, 0, PREDICTIONS)
    run(program, outputs)
    made = outputs.draws()
    assert np.allclose(made["mean"], slope[..., None] * np.asarray(NEW["x"]), rtol=1e-5)
    assert (made["y"] - made["mean"]).std() == pytest.approx(0.5, rel=0.1)


def test_a_formula_predicts_with_the_levels_and_means_that_it_was_fitted_with(tmp_path: Path) -> None:
    inline = {"y": [1.0, 2.0, 4.0, 3.0], "x": [0.0, 1.0, 2.0, 3.0], "g": [5, 7, 5, 9]}
    document = {"kind": "mcmc", "model": {"type": "glm", "formula": "y ~ x + C(g)"}, "data": {"inline": inline}}
    found = source(document)
    sampled = running.of(found.resolved_spec)
    assert isinstance(sampled, McmcProgram)
    sites = {name: np.zeros((CHAINS, DRAWN, *leaf.shape[1:]), np.float32) for name, leaf in sampled.drawn()[0].items()}
    replay = sampled.replay()
    for name in replay.latent:
        sites[name][...] = 1.0 if replay.latent[name].shape == () else np.arange(1.0, 1.0 + replay.latent[name].shape[0])
    Outputs(tmp_path).keep_draws(150, sites)
    spec = resolved(found, {"inline": {"x": [0.0, 2.0], "g": [5, 9]}})
    assert spec["data"]["args"] == {"x": "x", "g": "g"}
    outputs = Outputs(tmp_path, 0, PREDICTIONS)
    run(predicting(spec, tmp_path), outputs)
    drawn = outputs.draws()["y"]
    assert drawn.shape == (CHAINS, DRAWN, 2)
    # From row 0 to row 1: two steps of x, and from the first group to the last.
    coefficients = list(found.resolved_spec["model"]["design"]["columns"])
    change = 2 * (coefficients.index("x") + 1) + (coefficients.index("C(g)[T.9]") + 1)
    assert float((drawn[..., 1] - drawn[..., 0]).mean()) == pytest.approx(change, abs=0.5)


def test_a_group_that_was_not_fitted_is_refused(tmp_path: Path) -> None:
    inline = {"y": [1.0, 2.0, 4.0, 3.0], "g": [5, 7, 5, 9]}
    document = {"kind": "mcmc", "model": {"type": "glm", "formula": "y ~ C(g)"}, "data": {"inline": inline}}
    with pytest.raises(UserFault) as refused:
        predicting(resolved(source(document), {"inline": {"g": [6]}}), tmp_path)
    assert refused.value.code == "dataset_invalid"
