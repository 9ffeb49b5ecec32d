"""What every model of the catalog must keep, on every mesh and in every format.

By default on one device and on (4, 2), in float32; `MESHYARD_CONFORMANCE=full` adds (8) and bfloat16.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.programs.program import Program, State, flatten, unflatten
from tests.conformance import networks
from tests.jobs.programs import running

AGREED_STEPS = 5
"""Steps over which the losses of two meshes are compared: rounding in another order grows from step to step."""

TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}


class Run:
    """A run of one job: its program, its losses, its first state, the one half-way and the last."""

    def __init__(self, program: Program) -> None:
        self.program = program
        state = running.start(program)
        self.first = running.arrays(state)
        state, before = running.advance(program, state, networks.STEPS // 2)
        self.middle, self.position = running.arrays(state), state.position
        state, after = running.advance(program, state, networks.STEPS // 2)
        self.last = running.arrays(state)
        self.losses = [each["train/loss"] for each in before + after]


@cache
def run_of(model: str, mesh: str, compute: str, folder: Path) -> Run:
    return Run(networks.program_of(model, mesh, compute, folder / "text.txt"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conformance")


def restored(program: Program, arrays: dict[str, np.ndarray], step: int, position: dict[str, int]) -> State:
    """A state out of flat host arrays, as a checkpoint holds them."""
    import jax

    sections: dict[str, Any] = {}
    for name, template in program.abstract().items():
        targets = flatten(template)
        flat = {path: jax.device_put(arrays[f"{name}/{path}"], leaf.sharding) for path, leaf in targets.items()}
        sections[name] = unflatten(template, flat)
    return program.place(step, sections, position)


def test_every_model_is_here() -> None:
    # What a user or an operator brings is no model of the catalog's own.
    assert set(networks.MODELS) == networks.trained_models() - {"import", "plugin"}


@pytest.mark.parametrize("case", networks.CASES, ids="-".join)
def test_it_learns_one_batch_by_heart(case: tuple[str, str, str], folder: Path) -> None:
    losses = run_of(*case, folder).losses
    assert all(np.isfinite(losses))
    assert losses[-1] < 0.2 * losses[0], (losses[0], losses[-1])


@pytest.mark.parametrize("case", [case for case in networks.CASES if case[1] != "1"], ids="-".join)
def test_the_loss_is_that_of_one_device(case: tuple[str, str, str], folder: Path) -> None:
    model, _, compute = case
    alone, spread = run_of(model, "1", compute, folder).losses, run_of(*case, folder).losses
    assert np.max(np.abs(np.subtract(alone, spread)[:AGREED_STEPS])) < TOLERANCE[compute]


@pytest.mark.parametrize("case", networks.CASES, ids="-".join)
def test_it_resumes_to_the_bit(case: tuple[str, str, str], folder: Path) -> None:
    run, half = run_of(*case, folder), networks.STEPS // 2
    state = restored(run.program, run.middle, half, run.position)
    state, measured = running.advance(run.program, state, half)
    assert [each["train/loss"] for each in measured] == run.losses[half:]
    found = running.arrays(state)
    assert found.keys() == run.last.keys()
    assert all(found[name].tobytes() == run.last[name].tobytes() for name in found)


@pytest.mark.parametrize("case", networks.CASES, ids="-".join)
def test_its_first_state_is_a_function_of_the_seed_alone(case: tuple[str, str, str], folder: Path) -> None:
    """The same bits each time; on another mesh the same random bits, whose way to a normal number XLA may round otherwise."""
    run = run_of(*case, folder)
    again, alone = running.arrays(running.start(run.program)), run_of(case[0], "1", case[2], folder).first
    assert again.keys() == run.first.keys() == alone.keys()
    for name, leaf in run.first.items():
        assert again[name].tobytes() == leaf.tobytes(), name
        np.testing.assert_allclose(leaf, alone[name], rtol=1e-6, atol=1e-6, err_msg=name)
