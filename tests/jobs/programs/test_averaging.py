"""Averages of parameters, against Optax's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
from optax import contrib

from jobs.programs.outputs import Outputs
from tests import specs
from tests.jobs.programs import running


def walk(document: dict[str, Any], steps: int) -> tuple[Any, list[Any]]:
    program: Any = running.build(document)
    state = running.start(program)
    states = []
    for _ in range(steps):
        state, _ = running.advance(program, state, 1)
        states.append(jax.device_get(state.sections))
    return program, states


def test_an_exponential_average_is_optax_ema_without_bias() -> None:
    _, states = walk(specs.spirals(ema={"decay": 0.8}), 5)
    ema = optax.ema(0.8, debias=True)
    kept = ema.init(states[0]["params"])
    for sections in states:
        average, kept = ema.update(sections["params"], kept)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), sections["averaged"], average)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"type": "schedule_free_adamw", "learning_rate": 0.05},
        {"type": "chain", "transforms": [{"type": "clip", "max_delta": 1.0}, {"type": "schedule_free_sgd", "learning_rate": 0.1}]},
    ],
    ids=lambda optimizer: optimizer["type"],
)
def test_the_average_of_a_schedule_free_method_is_its_evaluation_parameters(optimizer: dict[str, Any]) -> None:
    _, states = walk(specs.spirals(optimizer=optimizer), 3)
    state = states[-1]["opt_state"]
    state = state if isinstance(state, contrib.ScheduleFreeState) else state[1]
    expected = contrib.schedule_free_eval_params(state, states[-1]["params"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), states[-1]["averaged"], expected)
    assert any((states[-1]["averaged"][path] != states[-1]["params"][path]).any() for path in expected)


def test_a_part_that_another_optimizer_trains_is_evaluated_as_it_is() -> None:
    parts = {"free": {"type": "schedule_free_sgd", "learning_rate": 0.1}, "plain": {"type": "sgd", "learning_rate": 0.1}}
    labels = [{"match": ["*.bias"], "label": "plain"}, {"match": ["*"], "label": "free"}]
    _, states = walk(specs.spirals(optimizer={"type": "partition", "transforms": parts, "param_labels": labels}), 3)
    same = {path for path, value in states[-1]["params"].items() if (value == states[-1]["averaged"][path]).all()}
    assert same == {path for path in states[-1]["params"] if path.endswith(".bias")}


def test_evaluation_looks_at_the_average(tmp_path: Path) -> None:
    program: Any = running.build(specs.spirals(ema={"decay": 0.99}))
    state, _ = running.advance(program, running.start(program), 9)
    averaged = program.evaluate(state, Outputs(tmp_path / "a"), lambda: False).values
    state.sections["params"] = state.sections.pop("averaged")
    assert program.evaluate(state, Outputs(tmp_path / "b"), lambda: False).values == averaged


def test_what_starts_from_other_parameters_averages_those() -> None:
    program: Any = running.build(specs.spirals(ema={"decay": 0.9}, optimizer={"type": "adam", "learning_rate": 0.1}))
    other = jax.tree.map(lambda value: value + 1, program.init().sections["params"])
    state = program.adopt(program.init(), {"params": other})
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.sections["averaged"]), jax.device_get(other))


def test_a_schedule_free_job_starts_from_the_parameters_it_is_given() -> None:
    program: Any = running.build(specs.spirals(optimizer={"type": "schedule_free_sgd", "learning_rate": 0.1}))
    other = jax.tree.map(lambda value: value + 1, program.init().sections["params"])
    state = program.adopt(program.init(), {"params": other})
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.sections["opt_state"].z), jax.device_get(other))


def test_narrow_parameters_have_a_wide_average() -> None:
    document = specs.spirals(ema={"decay": 0.999}, precision={"params": "bfloat16", "compute": "bfloat16"})
    _, states = walk(document, 2)
    assert {value.dtype.name for value in states[-1]["averaged"].values()} == {"float32"}
    assert {value.dtype.name for value in states[-1]["params"].values()} == {"bfloat16"}
