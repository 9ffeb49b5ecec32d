"""Run a program block by block without a worker around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from jobs.programs.data import ALONE, Beside
from jobs.programs.outputs import Outputs
from jobs.programs.program import Program, State, flatten
from jobs.programs.registry import build_program
from tests import specs

FORMS = {".txt": "text", ".npz": "npz", ".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet", ".array_record": "arrayrecord"}


def build(document: dict[str, Any], path: Path | None = None, beside: Beside = ALONE) -> Program:
    """The program of a document."""
    return of(specs.resolve(document), path, beside)


def of(spec: dict[str, Any], path: Path | None = None, beside: Beside = ALONE) -> Program:
    """The program of a resolved spec."""
    return build_program(spec, spec["mesh"]["axes"], path, FORMS[path.suffix] if path else None, beside)


def advance(program: Program, state: State, blocks: int, outputs: Outputs | None = None) -> tuple[State, list[dict[str, float]]]:
    """Some blocks further, with what each measured."""
    measured: list[dict[str, float]] = []
    for _ in range(blocks):
        state, block = program.advance(state)
        if block.draws is not None and outputs is not None:
            outputs.keep_draws(block.step, block.draws)
        measured += [{name: float(np.sum(value)) for name, value in each.values.items()} for each in block.metrics]
    return state, measured


def start(program: Program) -> State:
    """A compiled program's first state."""
    state = program.init()
    program.compile(state)
    return state


def losses(document: dict[str, Any], path: Path | None, steps: int) -> list[float]:
    """The training losses of the first steps."""
    return losses_of(build(document, path), steps)


def losses_of(program: Program, steps: int) -> list[float]:
    """The training losses of a program's first steps."""
    _, measured = advance(program, start(program), steps)
    return [each["train/loss"] for each in measured]


def arrays(state: State) -> dict[str, np.ndarray]:
    """Everything in a state, by section and path."""
    return {
        f"{name}/{path}": np.asarray(jax.device_get(leaf))
        for name, section in state.sections.items()
        for path, leaf in flatten(section).items()
    }


def same(first: State, second: State) -> bool:
    """Whether two states are equal to the bit."""
    a, b = arrays(first), arrays(second)
    return first.step == second.step and first.position == second.position and a.keys() == b.keys() and all(
        a[name].tobytes() == b[name].tobytes() for name in a
    )  # fmt: skip
