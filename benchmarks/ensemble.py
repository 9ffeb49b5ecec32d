"""Eight trainings as one program over the same eight one after another: seconds of their steps, in turn, in one process.

Goal: at least 4 for a small network. Starting and compiling do not count: that an ensemble starts and compiles once, and eight jobs
eight times, comes on top. Programs are advanced as the worker's loop does it, two steps in flight.
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

from benchmarks.table import show, spread
from jobs.programs.registry import build_program
from jobs.spec.dataset import DatasetFacts, TextFacts
from jobs.spec.job import read_spec

MEMBERS = 8
ROUNDS = 7
STEPS = 200
IN_FLIGHT = 2
TEXT = b"the quick brown fox jumps over the lazy dog. " * 2000
FACTS = DatasetFacts("ds_text", "text", len(TEXT), None, [], TextFacts(len(TEXT), len(TEXT), 28, 122))

PERCEPTRON: dict[str, Any] = {
    "model": {"type": "mlp", "in_features": 2, "hidden": [64, 64], "out_features": 3},
    "data": {"builtin": "spirals", "batch_size": 32},
    "loss": {"type": "softmax_cross_entropy_with_integer_labels"},
}
TRANSFORMER: dict[str, Any] = {
    "model": {"type": "transformer", "vocab_size": 256, "dim": 32, "n_layers": 2, "n_heads": 2, "context": 16},
    "data": {"dataset": "ds_text", "batch_size": 4},
}


class Training:
    """A job's program, compiled, its first steps done."""

    def __init__(self, document: dict[str, Any], text: Path, **changes: Any) -> None:
        whole = {"kind": "train", "optimizer": {"type": "adamw", "learning_rate": 1e-3}, "steps": 10**6, "log_every": 1, **document}
        spec = read_spec(whole | changes, {"ds_text": FACTS}.get, lambda *_: None).resolved
        self._program = build_program(spec, spec["mesh"]["axes"], text if spec["data"]["dataset"] else None, "text")
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


def compared(document: dict[str, Any], text: Path) -> list[str]:
    """One row: apart, together, and their ratio."""
    one, ensemble = Training(document, text), Training(document, text, ensemble=MEMBERS)
    apart, together = [], []
    for _ in range(ROUNDS):
        apart.append(1000 * sum(one.seconds(STEPS) for _ in range(MEMBERS)) / STEPS)
        together.append(1000 * ensemble.seconds(STEPS) / STEPS)
    ratios = [a / b for a, b in zip(apart, together, strict=True)]
    return [spread(apart, " ms", 2), spread(together, " ms", 2), spread(ratios, "", 2)]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        text = Path(name) / "text.txt"
        text.write_bytes(TEXT)
        rows = [
            ["perceptron, two layers of 64, batch 32", *compared(PERCEPTRON, text)],
            ["transformer, two layers of 32, batch 4 of 16", *compared(TRANSFORMER, text)],
        ]
    show("Ensembles", ["network", f"a step of {MEMBERS} jobs", f"a step of an ensemble of {MEMBERS}", "ratio"], rows)


if __name__ == "__main__":
    main()
