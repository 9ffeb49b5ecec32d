"""Ensembles: one program for many trainings that differ in their seed alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jobs.errors import UserFault
from jobs.programs.outputs import Outputs
from jobs.programs.program import Block
from tests import specs
from tests.jobs.programs import running

TOLERANCE = 2e-5
"""Largest difference from the same training by itself: products in another order, in float32, over nine steps."""
MEMBERS = 3


def members(**changes: Any) -> dict[str, Any]:
    return specs.spirals(ensemble=MEMBERS, seed=7, **changes)


def trained(document: dict[str, Any], steps: int = 9, path: Path | None = None) -> tuple[Any, Any, list[Any]]:
    program: Any = running.build(document, path)
    state, losses = running.start(program), []
    for _ in range(steps):
        state, block = program.advance(state)
        losses.append(np.asarray(block.metrics[0].values["train/loss"]))
    return program, state, losses


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"type": "mlp", "in_features": 2, "hidden": [16], "out_features": 3, "dropout": 0.2}, "ema": {"decay": 0.9}},
        {"optimizer": {"type": "muon", "learning_rate": 0.02}, "grad_accumulation": 2},
    ],
    ids=["dropout and an average", "muon in micro-batches"],
)
def test_every_member_is_the_job_of_its_own_seed(changes: dict[str, Any], tmp_path: Path) -> None:
    program, state, losses = trained(members(**changes))
    found = program.evaluate(state, Outputs(tmp_path), lambda: False)
    assert found.label == "trial"
    for member in range(MEMBERS):
        alone, own, its_losses = trained(specs.spirals(seed=7 + member, **changes))
        np.testing.assert_allclose([each[member] for each in losses], its_losses, atol=TOLERANCE)
        measured = alone.evaluate(own, Outputs(tmp_path), lambda: False)
        for name, value in measured.values.items():
            assert found.values[name][member] == pytest.approx(value, abs=1e-4)
        for path, value in own.sections["params"].items():
            np.testing.assert_allclose(state.sections["params"][path][member], value, atol=20 * TOLERANCE)


def test_members_begin_exactly_as_the_jobs_of_their_seeds() -> None:
    together = running.build(specs.spirals(ensemble=2, seed=2**32 - 1)).init()
    for member, seed in enumerate((2**32 - 1, 0)):
        alone = running.arrays(running.build(specs.spirals(seed=seed)).init())
        ours = running.arrays(together)
        assert alone.keys() == ours.keys()
        for name, value in alone.items():
            np.testing.assert_array_equal(ours[name][member], value)


def test_members_lie_side_by_side_on_a_mesh() -> None:
    _, state, losses = trained(specs.on_mesh(members(), "tp", data=2, model=4))
    _, _, alone = trained(members())
    np.testing.assert_allclose(losses, alone, atol=TOLERANCE)
    kernel = state.sections["params"]["layers.0.kernel"]
    assert kernel.shape == (MEMBERS, 2, 16)
    assert kernel.addressable_shards[0].data.shape == (MEMBERS, 2, 4)


def test_rates_count_the_work_of_all_members() -> None:
    program = running.build(members())
    _, block = program.advance(running.start(program))
    labelled, plain = block.metrics
    assert (labelled.label, plain.label) == ("trial", None)
    assert all(np.shape(value) == (MEMBERS,) for value in labelled.values.values())
    assert plain.values["samples_per_second"] * plain.values["step_seconds"] == pytest.approx(24 * MEMBERS)


def test_rules_look_at_the_mean_and_the_result_names_every_trial(tmp_path: Path) -> None:
    program = running.build(members(stop={"metric": "eval/loss", "patience": 1}))
    outputs = Outputs(tmp_path)
    outputs.measure(3, {"eval/loss": np.array([1.0, 2.0, 6.0])}, evaluated=True)
    assert program.stops(3, outputs) is None
    outputs.measure(6, {"eval/loss": np.array([3.0, 1.0, 5.0])}, evaluated=True)
    assert program.stops(6, outputs) == "patience"
    result, _ = program.result(program.place(6, {}, {"next_index": 6}), outputs, "patience")
    assert result["final"] == {"step": 6, "eval/loss": 3.0}
    assert result["best"] == {"step": 3, "eval/loss": 3.0}
    assert [(trial["trial"], trial["seed"]) for trial in result["trials"]] == [(0, 7), (1, 8), (2, 9)]
    assert [trial["final"]["eval/loss"] for trial in result["trials"]] == [3.0, 1.0, 5.0]
    assert [trial["best"] for trial in result["trials"]] == [
        {"step": 3, "eval/loss": 1.0},
        {"step": 6, "eval/loss": 1.0},
        {"step": 6, "eval/loss": 5.0},
    ]


def test_what_was_measured_by_trial_is_read_back(tmp_path: Path) -> None:
    Outputs(tmp_path).measure(3, {"eval/loss": np.array([1.0, np.nan])}, evaluated=True)
    again = Outputs(tmp_path, 3)
    assert again.at(3, 0) == {"eval/loss": 1.0}
    assert again.at(3, 1) == again.at(3) == {}


def test_one_member_that_is_lost_ends_the_job_and_is_named() -> None:
    program = running.build(members())
    with pytest.raises(UserFault, match="the loss of trial 1 or its gradient became nan at step 4") as caught:
        program.settle(Block(4, [], jax.numpy.array([1.0, np.nan, 1.0])))
    assert caught.value.code == "nan_loss"
