"""Weights, and metrics beside the loss, against their definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jobs.programs.outputs import Outputs
from tests import specs
from tests.jobs.programs import running


def evaluated(document: dict[str, Any], folder: Path, path: Path | None = None) -> tuple[Any, Any, dict[str, Any]]:
    program: Any = running.build(document, path)
    state, _ = running.advance(program, running.start(program), 2)
    found = program.evaluate(state, Outputs(folder), lambda: False)
    return program, state, dict(found.values)


def outputs_of(program: Any, state: Any, x: np.ndarray) -> np.ndarray:
    module = program.form.give({name: state.sections[name] for name in ("params", "rngs")})
    return np.asarray(module(x), np.float64)


def test_measures_of_a_classifier_cover_every_row_once_with_a_masked_last_batch(tmp_path: Path) -> None:
    model = {"type": "mlp", "in_features": 2, "hidden": [8], "out_features": 7}
    metrics = ["accuracy", "top_5_accuracy", "perplexity"]
    document = specs.spirals(model=model, metrics=metrics)
    program, state, found = evaluated(document | {"data": document["data"] | {"batch_size": 23}}, tmp_path)
    rest = program.objective._rest
    assert len(rest["y"]) % 23 != 0
    scores = outputs_of(program, state, rest["x"])
    ranks = (scores > np.take_along_axis(scores, rest["y"][:, None], -1)).sum(-1)
    assert found["eval/accuracy"] == pytest.approx(np.mean(ranks == 0))
    assert found["eval/top_5_accuracy"] == pytest.approx(np.mean(ranks < 5))
    assert found["eval/perplexity"] == pytest.approx(np.exp(found["eval/loss"]), rel=1e-6)


def test_measures_of_a_language_model(text: Path, tmp_path: Path) -> None:
    _, _, found = evaluated(specs.transformer(metrics=["perplexity", "accuracy", "bits_per_byte"]), tmp_path, text)
    assert found["eval/perplexity"] == pytest.approx(np.exp(found["eval/loss"]), rel=1e-6)
    assert found["eval/bits_per_byte"] == pytest.approx(found["eval/loss"] / np.log(2), rel=1e-6)
    assert 0 < found["eval/accuracy"] < 1


def weighted(weights: list[float], **changes: Any) -> dict[str, Any]:
    columns = {"x": [0.0, 1.0, 2.0, 3.0], "y": [1.0, 3.0, 5.0, 8.0], "w": weights}
    data = {"inline": columns, "batch_size": 4, "args": {"x": "x", "y": "y", "weight": "w"}}
    return specs.regression(data=data, **changes)


def test_measures_of_a_regression_are_weighted(tmp_path: Path) -> None:
    weights = [1.0] * 6 + [1.0, 3.0]
    columns = {"x": np.arange(8.0).tolist(), "y": (np.arange(8.0) ** 2).tolist(), "w": weights}
    data = {"inline": columns, "batch_size": 3, "eval_fraction": 0.25, "args": {"x": "x", "y": "y", "weight": "w"}}
    metrics = ["mean_squared_error", "root_mean_squared_error", "mean_absolute_error"]
    program, state, found = evaluated(specs.regression(data=data, metrics=metrics), tmp_path)
    error = outputs_of(program, state, np.array([[6.0], [7.0]], np.float32))[:, 0] - np.array([36.0, 49.0])
    assert found["eval/mean_squared_error"] == pytest.approx((error**2) @ [0.25, 0.75], rel=1e-5)
    assert found["eval/root_mean_squared_error"] == pytest.approx(np.sqrt((error**2) @ [0.25, 0.75]), rel=1e-5)
    assert found["eval/mean_absolute_error"] == pytest.approx(np.abs(error) @ [0.25, 0.75], rel=1e-5)


def test_a_weight_counts_as_so_many_rows() -> None:
    [heavy] = running.losses(weighted([1.0, 0.0, 0.0, 3.0]), None, 1)
    columns = {"x": [0.0, 3.0, 3.0, 3.0], "y": [1.0, 8.0, 8.0, 8.0]}
    [repeated] = running.losses(specs.regression(data={"inline": columns, "batch_size": 4}), None, 1)
    assert heavy == pytest.approx(repeated, rel=1e-6)


def test_weights_are_the_same_in_one_batch_and_in_micro_batches() -> None:
    whole, pieces = (
        running.losses(weighted([1.0, 0.0, 2.0, 3.0], grad_accumulation=k), None, 4) for k in (1, 2)
    )  # fmt: skip
    assert pieces == pytest.approx(whole, rel=1e-5)


def test_what_counts_for_nothing_teaches_nothing() -> None:
    document = weighted([0.0, 0.0, 0.0, 1.0], grad_accumulation=4)
    assert all(np.isfinite(loss) for loss in running.losses(document, None, 3))


def test_a_classifier_by_signs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 2)), rng.integers(0, 2, 20)
    data = {"inline": {"x": x.tolist(), "y": y.tolist()}, "batch_size": 4, "eval_fraction": 0.5}
    model = {"type": "mlp", "in_features": 2, "hidden": [], "out_features": 1}
    document = specs.regression(model=model, data=data, loss={"type": "sigmoid_binary_cross_entropy"})
    program, state, found = evaluated(document, tmp_path)
    outputs = outputs_of(program, state, x[10:].astype(np.float32))[:, 0]
    assert found["eval/accuracy"] == pytest.approx(np.mean((outputs > 0) == (y[10:] > 0)))


def test_step_figures_are_norms_of_what_they_name() -> None:
    clip = {"type": "clip_by_global_norm", "max_norm": 1.0}
    optimizer = {"type": "chain", "transforms": [clip, {"type": "sgd", "learning_rate": 0.1}]}
    program = running.build(specs.regression(optimizer=optimizer, metrics=["param_norm", "update_norm"]))
    state = running.start(program)
    before = jax.device_get(state.sections["params"])
    state, [measured] = running.advance(program, state, 1)
    after = jax.device_get(state.sections["params"])
    norm = np.sqrt(sum(np.sum(np.square(value)) for value in after.values()))
    moved = np.sqrt(sum(np.sum(np.square(after[name] - before[name])) for name in before))
    assert measured["param_norm"] == pytest.approx(norm, rel=1e-5)
    assert measured["update_norm"] == pytest.approx(moved, rel=1e-4) == pytest.approx(0.1, rel=1e-4)
    assert measured["grad_norm"] > 1
    assert measured["clipped_fraction"] == 1.0


def test_the_clipped_fraction_of_an_elementwise_clip_counts_entries() -> None:
    optimizer = {"type": "chain", "transforms": [{"type": "clip", "max_delta": 8.0}, {"type": "sgd", "learning_rate": 0.0}]}
    program = running.build(specs.regression(optimizer=optimizer))
    state = running.start(program)
    w = float(state.sections["params"]["layers.0.kernel"][0, 0])
    x, y = np.arange(4.0), 1 + 2 * np.arange(4.0)
    slopes = np.abs([2 * np.mean((w * x - y) * x), 2 * np.mean(w * x - y)])
    _, [measured] = running.advance(program, state, 1)
    assert measured["clipped_fraction"] == pytest.approx(np.mean(slopes > 8.0))


WIDE = {"model": {"type": "mlp", "in_features": 2, "hidden": [128, 128], "out_features": 3}}


def test_accumulation_needs_less_memory_and_a_narrow_sum_less_still() -> None:
    base = specs.spirals(**WIDE)
    base["data"] = base["data"] | {"batch_size": 480}
    whole, pieces, narrow = (
        temporary_bytes(base | changes)
        for changes in (
            {},
            {"grad_accumulation": 8},
            {"grad_accumulation": 8, "precision": {"accumulation": "bfloat16"}},
        )
    )
    assert whole > 2 * pieces
    assert pieces > narrow


def temporary_bytes(document: dict[str, Any]) -> int:
    program: Any = running.build(document)
    running.start(program)
    return program._step.memory_analysis().temp_size_in_bytes


def test_a_narrow_sum_is_of_its_own_format_and_leaves_the_parameters_theirs() -> None:
    document = specs.spirals(grad_accumulation=2, precision={"accumulation": "bfloat16"})
    narrow, wide = (running.losses(each, None, 3) for each in (document, document | {"precision": {}}))
    assert narrow == pytest.approx(wide, rel=1e-2)
    assert narrow[1:] != wide[1:]
