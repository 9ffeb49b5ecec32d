"""Training jobs in this process, for benchmarks that look at a program rather than at the service around it."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any

from jobs.programs.registry import build_program
from jobs.spec.dataset import DatasetFacts, TextFacts
from jobs.spec.job import read_spec

IN_FLIGHT = 2
TEXT = b"the quick brown fox jumps over the lazy dog. " * 2000
FACTS = DatasetFacts("ds_text", "text", len(TEXT), None, [], TextFacts(len(TEXT), len(TEXT), 28, 122))

PERCEPTRON: dict[str, Any] = {
    "model": {"type": "mlp", "in_features": 2, "hidden": [64, 64], "out_features": 3},
    "data": {"builtin": "spirals", "batch_size": 32},
    "loss": {"type": "softmax_cross_entropy_with_integer_labels"},
}


def write_text(folder: Path) -> Path:
    """The file of the dataset `ds_text`."""
    (folder / "text.txt").write_bytes(TEXT)
    return folder / "text.txt"


def build(document: dict[str, Any], text: Path, **changes: Any) -> Any:
    """The program of a job."""
    whole = {"kind": "train", "optimizer": {"type": "adamw", "learning_rate": 1e-3}, "steps": 10**6, "log_every": 1, **document}
    spec = read_spec(whole | changes, {"ds_text": FACTS}.get, lambda *_: None).resolved
    return build_program(spec, spec["mesh"]["axes"], text if spec["data"]["dataset"] else None, "text")


class Training:
    """A job's program, compiled, its first steps done. It is advanced as the worker's loop does it: two steps in flight."""

    def __init__(self, document: dict[str, Any], text: Path, **changes: Any) -> None:
        self._program = build(document, text, **changes)
        self._state = self._program.init()
        self._program.compile(self._state)
        self.seconds(IN_FLIGHT)

    def seconds(self, steps: int) -> float:
        """How long so many steps take."""
        began, flight = time.perf_counter(), deque[Any]()
        for _ in range(steps):
            self._state, block = self._program.advance(self._state)
            flight.append(block)
            if len(flight) > IN_FLIGHT:
                self._program.settle(flight.popleft())
        for block in flight:
            self._program.settle(block)
        return time.perf_counter() - began
