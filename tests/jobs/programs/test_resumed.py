"""A job that is taken up from what was saved goes on to the bit, whatever moves its chains or fits its guide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jobs.programs.outputs import Outputs
from jobs.programs.program import Program, State, flatten, unflatten
from tests import specs
from tests.jobs.programs import running

SHORT: dict[str, Any] = {"num_warmup": 20, "num_samples": 20, "checkpoint": {"every_draws": 10}}
TWO_CLASSES = {
    "type": "program",
    "body": [
        {"sample": "c", "distribution": {"type": "Bernoulli", "probs": 0.25}},
        {"sample": "x", "distribution": {"type": "Normal", "loc": "2 * c", "scale": 1}},
        {"sample": "y", "distribution": {"type": "Normal", "loc": "x", "scale": 1}, "observed": "y"},
    ],
}
GIBBS = {"type": "DiscreteHMCGibbs", "inner_kernel": {"type": "NUTS"}}
CASES: dict[str, dict[str, Any]] = {
    "svi": specs.fitted(
        steps=40, num_samples=20, optimizer={"type": "adam", "learning_rate": 0.05}, checkpoint={"every_steps": 10}
    ),
    "ESS": specs.schools(kernel={"type": "ESS"}, **SHORT | {"num_chains": 20}),
    "DiscreteHMCGibbs": specs.schools(model=TWO_CLASSES, data={"inline": {"y": [1.0, 2.0]}}, kernel=GIBBS, **SHORT),
}


def run(program: Program, state: State, end: int, outputs: Outputs) -> tuple[State, dict[str, np.ndarray]]:
    """Up to a step: the state there, and the losses on the way."""
    losses: list[np.ndarray] = []
    while state.step < end:
        state, block = program.advance(state)
        losses += [np.asarray(each.values["train/loss"]) for each in block.metrics if "train/loss" in each.values]
        if block.draws is not None:
            outputs.keep_draws(block.step, block.draws)
    return state, {"losses": np.array(losses)}


@pytest.mark.parametrize("case", CASES)
def test_what_goes_on_from_a_saved_state_is_what_was_not_broken_off(case: str, tmp_path: Path) -> None:
    whole, middle = running.build(CASES[case]), 20
    outputs = Outputs(tmp_path / "whole")
    state, _ = run(whole, running.start(whole), middle, outputs)
    assert whole.saves_at(state.step)
    saved = {name: jax.tree.map(np.array, flatten(section)) for name, section in state.sections.items()}
    straight, losses = run(whole, state, whole.total, outputs)

    # Another process, as it were: dispatches begin at one transition again.
    later = running.build(CASES[case])
    placed = {
        name: unflatten(section, {path: jax.numpy.asarray(value) for path, value in saved[name].items()})
        for name, section in later.abstract().items()
    }
    resumed = later.place(middle, jax.device_put(placed, jax.tree.map(lambda a: a.sharding, later.abstract())), state.position)
    later.compile(resumed)
    again = Outputs(tmp_path / "later")
    ended, lost = run(later, resumed, later.total, again)
    assert running.same(straight, ended)
    assert np.array_equal(losses["losses"], lost["losses"])
    if case == "svi":
        return
    first, second = outputs.draws(), again.draws()
    assert set(first) == set(second)
    assert all(np.array_equal(first[name], second[name]) for name in first)
