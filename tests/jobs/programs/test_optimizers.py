"""Optimizers inside a training job: parts of the parameters, hyperparameters as metrics, more than a gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jobs.errors import UserFault
from tests import specs
from tests.jobs.programs import running

RATE = {"type": "linear_schedule", "init_value": 0.1, "end_value": 0.0, "transition_steps": 5}


def parameters(document: dict[str, Any], steps: int, path: Path | None = None) -> dict[str, np.ndarray]:
    program = running.build(document, path)
    state, _ = running.advance(program, running.start(program), steps)
    return {name: np.asarray(value) for name, value in jax.device_get(state.sections["params"]).items()}


def test_biases_are_spared_from_decay_by_one_line() -> None:
    """Where decay alone moves the parameters, those that the mask leaves out stand still."""
    decay = {"type": "add_decayed_weights", "weight_decay": 0.5, "mask": {"except": ["*.bias"]}}
    still = {"type": "chain", "transforms": [{"type": "set_to_zero"}, decay, {"type": "scale", "step_size": -1}]}
    before, after = (parameters(specs.spirals(optimizer=still), steps) for steps in (0, 2))
    for path, value in before.items():
        np.testing.assert_allclose(after[path], value * (1 if path.endswith(".bias") else 0.25), rtol=1e-6)


def test_a_frozen_part_stays_and_the_rest_learns() -> None:
    parts = {"frozen": {"type": "set_to_zero"}, "learning": {"type": "adam", "learning_rate": 0.1}}
    labels = [{"match": ["layers.[01].*"], "label": "frozen"}, {"match": ["*"], "label": "learning"}]
    document = specs.spirals(optimizer={"type": "partition", "transforms": parts, "param_labels": labels})
    before, after = (parameters(document, steps) for steps in (0, 2))
    assert {path for path in before if (before[path] == after[path]).all()} == {path for path in before if path[7] in "01"}


def test_a_pattern_that_matches_nothing_fails_at_once_with_its_pointer() -> None:
    optimizer = {"type": "adamw", "learning_rate": 0.1, "mask": {"match": ["*.kernels"]}}
    with pytest.raises(UserFault, match=r'"\*.kernels" matches no parameter') as caught:
        running.build(specs.spirals(optimizer=optimizer))
    assert caught.value.param == "/optimizer/mask/match/0"


def test_injected_hyperparameters_are_metrics() -> None:
    inner = {"type": "adamw", "learning_rate": RATE, "weight_decay": {"type": "constant_schedule", "value": 0.25}}
    program = running.build(specs.regression(optimizer={"type": "inject_hyperparams", "inner_factory": inner}))
    _, measured = running.advance(program, running.start(program), 2)
    assert [each["learning_rate"] for each in measured] == pytest.approx([0.1, 0.08])
    assert measured[1]["hyperparams/weight_decay"] == 0.25
    assert measured[1]["hyperparams/b1"] == pytest.approx(0.9)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"type": "lbfgs"},
        {"type": "sophia", "learning_rate": 0.05},
        {"type": "schedule_free_adamw", "learning_rate": 0.05},
        {
            "type": "sam",
            "optimizer": {"type": "sgd", "learning_rate": 0.1},
            "adv_optimizer": {"type": "sgd", "learning_rate": 0.01},
        },
        {"type": "apply_if_finite", "inner": {"type": "muon", "learning_rate": 0.05}, "max_consecutive_errors": 2},
        {"type": "polyak_sgd"},
        {"type": "chain", "transforms": [{"type": "adam", "learning_rate": 0.05}, {"type": "reduce_on_plateau", "patience": 2}]},
    ],
    ids=lambda optimizer: optimizer["type"],
)
def test_what_needs_more_than_a_gradient_learns(optimizer: dict[str, Any]) -> None:
    document = specs.spirals(optimizer=optimizer, steps=12)
    losses = running.losses(document | {"data": document["data"] | {"batch_size": 240}}, None, 12)
    assert losses[-1] < 0.95 * losses[0]


def test_lbfgs_finds_the_least_squares_of_a_line() -> None:
    document = specs.regression(optimizer={"type": "lbfgs"}, steps=6)
    found = parameters(document, 6)
    x, y = jnp.array([[0.0, 1], [1, 1], [2, 1], [3, 1]]), jnp.array([1.0, 3.0, 5.0, 7.0])
    slope, intercept = jnp.linalg.lstsq(x, y)[0]
    assert float(found["layers.0.kernel"][0, 0]) == pytest.approx(float(slope), abs=1e-3)
    assert float(found["layers.0.bias"][0]) == pytest.approx(float(intercept), abs=1e-3)
