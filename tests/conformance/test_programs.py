"""What every program must keep, whatever it computes: one suite, run over all kinds of job and their meshes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.programs.outputs import Outputs
from jobs.programs.program import Program, State, flatten, unflatten
from tests import specs
from tests.jobs.programs import running
from worker.checkpoint import Saver, moved, restore, restore_parameters

CASES: dict[str, tuple[dict[str, Any], str | None]] = {
    "transformer on one device": (specs.transformer(), "text"),
    "transformer on (4, 2)": (specs.on_mesh(specs.transformer(), "fsdp_tp", data=4, model=2), "text"),
    "mlp on one device": (specs.spirals(), None),
    "mlp on (8)": (specs.on_mesh(specs.spirals(), "dp", data=8), None),
    "schedule-free mlp": (specs.spirals(optimizer={"type": "schedule_free_adamw", "learning_rate": 0.01}), None),
    "averaged mlps side by side on (4, 2)": (
        specs.on_mesh(specs.spirals(ensemble=3, ema={"decay": 0.9}, grad_accumulation=2), "tp", data=4, model=2),
        None,
    ),
    "cnn on one device": (specs.pictures(), "pictures"),
    "cnn on (4, 2)": (specs.on_mesh(specs.pictures(), "tp", data=4, model=2), "pictures"),
    "eight schools on one device": (specs.schools(), None),
    "eight schools on (4)": (specs.on_mesh(specs.schools(), chains=4), None),
    "many blocks of warm-up": (specs.schools(num_warmup=95, num_samples=40, checkpoint={"every_draws": 10}), None),
    "a guide": (specs.fitted(guide={"type": "AutoMultivariateNormal"}), None),
    "Barker's proposals on (2)": (specs.on_mesh(specs.schools(kernel={"type": "BarkerMH"}), chains=2), None),
    "regression on (2)": (specs.on_mesh(specs.line(), chains=2), None),
}


@pytest.fixture(scope="module", params=CASES, ids=str)
def program(request: pytest.FixtureRequest) -> Program:
    """A program of each kind."""
    document, data = CASES[request.param]
    return running.build(document, request.getfixturevalue(data) if data else None)


@pytest.fixture(scope="module")
def run(program: Program, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[State], list[dict[str, np.ndarray]], Path]:
    """A whole run, every state saved on its way."""
    folder = tmp_path_factory.mktemp("run")
    done: list[int] = []
    saver = Saver(folder / "checkpoints", lambda step, _: done.append(step), {"kind": "test"})
    outputs, state, arrays = Outputs(folder / "outputs"), running.start(program), []
    saved: list[int] = []
    while state.step < program.total:
        state, _ = running.advance(program, state, 1, outputs)
        if program.saves_at(state.step):
            saver.save(state, {}, must=True)
            arrays.append(running.arrays(state))
            saved.append(state.step)
    saver.close()
    assert done == saved
    assert len(saved) > 1
    return [state], arrays, folder


def test_the_first_state_is_exact_in_the_seed(program: Program) -> None:
    assert running.same(program.init(), program.init())


def test_it_reaches_its_end_and_no_further(program: Program, run: Any) -> None:
    assert run[0][0].step == program.total
    assert program.saves_at(program.total)


def test_a_state_restored_half_way_ends_with_the_same_bits(program: Program, run: Any) -> None:
    _, arrays, folder = run
    steps = sorted(int(path.name) for path in (folder / "checkpoints").iterdir())
    half = steps[len(steps) // 2 - 1]
    state = restore(folder / "checkpoints" / str(half), program)
    program.compile(state)
    outputs = Outputs(folder / "outputs", half)
    while state.step < program.total:
        state, _ = running.advance(program, state, 1, outputs)
    found = running.arrays(state)
    assert found.keys() == arrays[-1].keys()
    assert all(found[name].tobytes() == arrays[-1][name].tobytes() for name in found)


def test_another_mesh_is_told(program: Program, run: Any, tmp_path: Path) -> None:
    saver = Saver(tmp_path, lambda *_: None, {"kind": "test", "mesh_axes": '{"chains": 2}'})
    saver.save(run[0][0], {}, must=True)
    saver.close()
    folder = tmp_path / str(program.total)
    assert moved(folder, "mcmc", {"chains": 2}) is None
    told = moved(folder, "mcmc", {"chains": 4})
    assert told is not None
    assert (told["before"], told["now"]) == ({"chains": 2}, {"chains": 4})
    assert "posterior is the same" in told["message"]


def test_restoring_changes_no_bit(program: Program, run: Any) -> None:
    _, arrays, folder = run
    state = restore(folder / "checkpoints" / str(program.total), program)
    found = running.arrays(state)
    assert all(found[name].tobytes() == arrays[-1][name].tobytes() for name in found)


def test_a_state_survives_flattening(program: Program) -> None:
    state = program.init()
    for name, section in state.sections.items():
        back = flatten(unflatten(program.abstract()[name], flatten(section)))
        assert back.keys() == flatten(section).keys()


def test_leaves_have_names_that_a_file_can_bear(program: Program) -> None:
    names = [path for section in program.abstract().values() for path in flatten(section)]
    assert all(len(name) < 200 and "/" not in name and name.isprintable() for name in names)


def test_parameters_alone_can_be_taken_over(program: Program, run: Any) -> None:
    if "params" not in program.abstract():
        assert set(program.abstract()) == {"kernel_state", "counters"}  # a sampler: there are none to take over
        return
    _, arrays, folder = run
    state = restore_parameters(folder / "checkpoints" / str(program.total), program)
    found = running.arrays(state)
    assert state.step == 0
    assert all(found[name].tobytes() == arrays[-1][name].tobytes() for name in found if name.startswith("params/"))
    assert all(np.all(found[name] == 0) for name in found if name.startswith("counters/"))
