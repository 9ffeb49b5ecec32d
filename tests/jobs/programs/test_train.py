"""Training, against closed forms and against itself on other meshes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jobs.errors import UserFault
from jobs.programs.outputs import Outputs
from jobs.programs.preflight.shapes import memory_of
from jobs.programs.program import Block
from tests import specs
from tests.jobs.programs import running, trained_models
from worker.checkpoint import restore

MESHES = [("replicated", {"data": 1}), ("fsdp", {"data": 8}), ("fsdp_tp", {"data": 4, "model": 2}), ("tp", {"data": 1, "model": 8})]
TOLERANCE = 2e-5
"""Largest difference of a loss near 5 between meshes: sums in another order, in float32, over ten steps."""


def test_gradient_descent_on_a_line_follows_its_closed_form() -> None:
    """Loss = mean (w x + b - y)², so one step is w -= 2 lr mean((w x + b - y) x), b likewise."""
    program = running.build(specs.regression())
    state = running.start(program)
    x, y = np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 3.0, 5.0, 7.0])
    w, b = float(state.sections["params"]["layers.0.kernel"][0, 0]), float(state.sections["params"]["layers.0.bias"][0])
    state, measured = running.advance(program, state, 5)
    for each in measured:
        error = w * x + b - y
        assert each["train/loss"] == pytest.approx(np.mean(error**2), rel=1e-5)
        w, b = w - 0.2 * np.mean(error * x), b - 0.2 * np.mean(error)
    assert float(state.sections["params"]["layers.0.kernel"][0, 0]) == pytest.approx(w, rel=1e-5)
    assert float(state.sections["params"]["layers.0.bias"][0]) == pytest.approx(b, rel=1e-5)


@pytest.mark.parametrize(("sharding", "axes"), MESHES[1:], ids=str)
def test_the_loss_agrees_on_every_mesh(text: Path, sharding: str, axes: dict[str, int]) -> None:
    document = specs.transformer()
    document["model"] |= {"dropout": 0.0}
    alone = running.losses(specs.on_mesh(document, "replicated", data=1), text, 10)
    spread = running.losses(specs.on_mesh(document, sharding, **axes), text, 10)
    assert alone[-1] < alone[0]
    assert np.max(np.abs(np.array(alone) - np.array(spread))) < TOLERANCE


def test_the_optimizer_may_lie_in_the_hosts_memory(tmp_path: Path) -> None:
    """Between steps, on a mesh and after a resume; no bit is another."""
    document = specs.on_mesh(specs.spirals(), "tp", data=4, model=2)
    near: Any = running.build(document)
    far: Any = running.build(document | {"offload": "opt_state"})
    expected, _ = running.advance(near, running.start(near), 4)
    state, _ = running.advance(far, running.start(far), 2)
    state = restore(trained_models.save(far, state, tmp_path), far)
    moments = [leaf for leaf in jax.tree.leaves(state.sections["opt_state"]) if leaf.ndim]
    assert {leaf.sharding.memory_kind for leaf in moments} == {"pinned_host"}
    state, _ = running.advance(far, state, 2)
    found, wanted = running.arrays(state), running.arrays(expected)
    assert all(found[name].tobytes() == leaf.tobytes() for name, leaf in wanted.items())
    assert (memory_of(far).optimizer, memory_of(near).optimizer > 100) == (4, True)  # a count stays


def test_dropout_does_not_depend_on_the_mesh(text: Path) -> None:
    alone = running.losses(specs.on_mesh(specs.transformer(), "replicated", data=1), text, 6)
    spread = running.losses(specs.on_mesh(specs.transformer(), "fsdp_tp", data=4, model=2), text, 6)
    assert np.max(np.abs(np.array(alone) - np.array(spread))) < TOLERANCE


def test_state_is_born_sharded_where_the_rules_place_it(text: Path) -> None:
    program = running.build(specs.on_mesh(specs.transformer(), "fsdp_tp", data=4, model=2), text)
    sections = program.init().sections
    kernel = sections["params"]["blocks.0.attention.qkv.kernel"]  # (embed 32, 3, heads 8, 4)
    assert kernel.addressable_shards[0].data.shape == (8, 3, 4, 4)
    moments = [leaf for leaf in jax.tree.leaves(sections["opt_state"]) if leaf.shape == kernel.shape]
    assert len(moments) == 4  # Adam's two for each of two blocks
    assert all(moment.sharding == kernel.sharding for moment in moments)


def test_accumulated_micro_batches_equal_one_large_batch(text: Path) -> None:
    document = specs.transformer()
    document["model"] |= {"dropout": 0.0}
    whole = running.losses(document, text, 6)
    pieces = running.losses(document | {"grad_accumulation": 4}, text, 6)
    assert np.max(np.abs(np.array(whole) - np.array(pieces))) < TOLERANCE


def test_remat_changes_memory_and_not_the_result(text: Path) -> None:
    kept = running.losses(specs.transformer(), text, 4)
    again = running.losses(specs.transformer(remat="full"), text, 4)
    assert np.max(np.abs(np.array(kept) - np.array(again))) < TOLERANCE


def test_bfloat16_compute_keeps_float32_parameters(text: Path) -> None:
    document = specs.transformer(precision={"compute": "bfloat16"})
    program = running.build(document, text)
    state, measured = running.advance(program, running.start(program), 4)
    assert {leaf.dtype for leaf in state.sections["params"].values()} == {np.dtype("float32")}
    exact = running.losses(specs.transformer(), text, 4)
    assert [each["train/loss"] for each in measured] == pytest.approx(exact, abs=0.05)
    assert [each["train/loss"] for each in measured] != exact


def test_the_learning_rate_counts_updates_not_micro_batches(text: Path) -> None:
    schedule = {"type": "linear_schedule", "init_value": 1.0, "end_value": 0.0, "transition_steps": 10}
    program = running.build(specs.transformer(optimizer={"type": "sgd", "learning_rate": schedule}, grad_accumulation=2), text)
    _, measured = running.advance(program, running.start(program), 3)
    assert [each["learning_rate"] for each in measured] == pytest.approx([1.0, 0.9, 0.8])


def test_evaluation_predicts_every_held_out_token_once(text: Path) -> None:
    document = specs.transformer(data={"dataset": "ds_text", "batch_size": 8, "eval_fraction": 0.05})
    objective = running.build(document, text).objective  # type: ignore[attr-defined]
    held_out = text.read_bytes()[-int(len(text.read_bytes()) * 0.05) :]
    seen = [(b["tokens"][:, 1:][b["mask"] > 0], b["mask"].sum()) for b in objective.held_out()]
    assert bytes(np.concatenate([tokens for tokens, _ in seen]).astype(np.uint8)) == held_out[1:]
    assert sum(count for _, count in seen) == len(held_out) - 1


def test_a_classifier_on_a_builtin_table_learns(tmp_path: Path) -> None:
    program = running.build(specs.spirals(steps=200))
    state = running.start(program)
    before = program.evaluate(state, Outputs(tmp_path), lambda: False)
    state, _ = running.advance(program, state, 200)
    after = program.evaluate(state, Outputs(tmp_path), lambda: False)
    assert before is not None
    assert after is not None
    assert after.values["eval/loss"] < 0.6 * before.values["eval/loss"]


def test_a_convolutional_network_learns_quarters(pictures: Path) -> None:
    losses = running.losses(specs.pictures(steps=60), pictures, 60)
    assert losses[-1] < 0.2 * losses[0]


def test_evaluation_leaves_off_when_told(text: Path, tmp_path: Path) -> None:
    program = running.build(specs.transformer(), text)
    assert program.evaluate(program.init(), Outputs(tmp_path), lambda: True) is None


def test_a_loss_that_is_not_finite_ends_the_job(text: Path) -> None:
    program = running.build(specs.transformer(), text)
    with pytest.raises(UserFault) as caught:
        program.settle(Block(3, [], jax.numpy.float32("nan")))
    assert (caught.value.code, caught.value.param) == ("nan_loss", "/optimizer")
    assert "step 3" in caught.value.message


def test_patience_counts_evaluations_without_a_better_one(text: Path, tmp_path: Path) -> None:
    document = specs.transformer(steps=40, eval_every=4, stop={"metric": "eval/loss", "mode": "min", "patience": 2})
    program, outputs = running.build(document, text), Outputs(tmp_path)
    stops = []
    for step, loss in zip(range(4, 24, 4), (3.0, 2.0, 2.5, 1.9, 2.0), strict=True):
        outputs.measure(step, {"eval/loss": loss}, evaluated=True)
        stops.append(program.stops(step, outputs))
    assert stops == [None] * 5
    outputs.measure(24, {"eval/loss": 2.1}, evaluated=True)
    assert program.stops(24, outputs) == "patience"


@pytest.mark.parametrize(("mode", "target", "stop"), [("min", 1.95, 16), ("max", 2.8, 4), ("min", 0.5, None)])
def test_a_target_ends_a_run_at_the_first_evaluation_that_reaches_it(
    tmp_path: Path, mode: str, target: float, stop: int | None
) -> None:
    document = specs.spirals(steps=40, eval_every=4, stop={"metric": "eval/loss", "mode": mode, "target": target})
    program, outputs = running.build(document), Outputs(tmp_path)
    found = []
    for step, loss in zip(range(4, 24, 4), (3.0, 2.0, 2.5, 1.9, 2.0), strict=True):
        outputs.measure(step, {"eval/loss": loss}, evaluated=True)
        found += [step] if program.stops(step, outputs) == "target" else []
    assert found[:1] == ([] if stop is None else [stop])


def test_without_evaluations_a_target_is_looked_at_where_the_job_is_saved_by_steps(tmp_path: Path) -> None:
    document = specs.regression(steps=40, checkpoint={"every_steps": 4}, stop={"metric": "train/loss", "target": 1.0})
    document["data"] |= {"eval_fraction": 0}
    program, outputs = running.build(document), Outputs(tmp_path)
    outputs.measure(5, {"train/loss": 0.5})
    assert program.stops(5, outputs) is None
    assert program.stops(8, outputs) is None
    outputs.measure(12, {"train/loss": 0.5})
    assert program.stops(12, outputs) == "target"
    assert Outputs(tmp_path, 12).at(12) == {"train/loss": 0.5}


def test_the_result_names_final_and_best(text: Path, tmp_path: Path) -> None:
    program, outputs = running.build(specs.transformer(), text), Outputs(tmp_path)
    for step, loss in ((4, 3.0), (8, 2.0), (12, 2.5)):
        outputs.measure(step, {"eval/loss": loss, "train/loss": loss + 0.5}, evaluated=True)
    state = program.place(12, {}, {"next_index": 12})
    result, artifacts = program.result(state, outputs, "completed")
    assert result["final"] == {"step": 12, "eval/loss": 2.5, "train/loss": 3.0}
    assert result["best"] == {"step": 8, "eval/loss": 2.0, "train/loss": 2.5}
    assert artifacts == []


def test_data_that_do_not_fit_are_refused_where_they_lie(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("too short")
    with pytest.raises(UserFault) as caught:
        running.build(specs.transformer(), path)
    assert caught.value.code == "dataset_invalid"
