"""Checkpoints of small models, trained for a few steps in this process, with everything that lies beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jobs.programs import card
from jobs.programs.program import State
from tests.jobs.programs import running
from worker.checkpoint import Saver

JOB = "job_019ab0c0dead7000800000000000beef"


def save(program: Any, state: State, folder: Path, metrics: dict[str, float] | None = None) -> Path:
    """The folder of a state's checkpoint, as a worker writes it."""
    same = card.describe(JOB, program.spec, program.spec["mesh"]["axes"], program.abstract(), {"jax": "0"})
    same = card.with_data(same, None)
    folder.mkdir(parents=True, exist_ok=True)
    companions = {name: (folder / name).read_bytes() for name in program.companions(folder)}
    saver = Saver(folder / "checkpoints", lambda *_: None, {}, lambda step, found: card.files(same, step, found) | companions)
    saver.save(state, metrics or {}, must=True)
    saver.close()
    assert saver.failures() == []
    return folder / "checkpoints" / str(state.step)


def train(document: dict[str, Any], path: Path | None, folder: Path, steps: int = 3) -> tuple[Any, State, Path]:
    """A program after some steps, and its checkpoint."""
    program = running.build(document, path)
    state, _ = running.advance(program, running.start(program), steps)
    return program, state, save(program, state, folder)


def outputs_of(program: Any, state: State, x: Any) -> np.ndarray:
    """What the program's own model says in evaluation."""
    from jobs.programs.trained import still

    names = ("params", "rngs", "batch_stats")
    return np.asarray(still(program.form.give({name: state.sections[name] for name in names if name in state.sections}))(x))
