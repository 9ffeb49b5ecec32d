"""Eight trainings as one program over the same eight one after another: seconds of their steps, in turn, in one process.

Goal: at least 4 for a small network. Starting and compiling do not count: that an ensemble starts and compiles once, and eight jobs
eight times, comes on top.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.table import show, spread
from benchmarks.training import PERCEPTRON, Training, write_text

MEMBERS = 8
ROUNDS = 7
STEPS = 200

TRANSFORMER: dict[str, Any] = {
    "model": {"type": "transformer", "vocab_size": 256, "dim": 32, "n_layers": 2, "n_heads": 2, "context": 16},
    "data": {"dataset": "ds_text", "batch_size": 4},
}


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
        text = write_text(Path(name))
        rows = [
            ["perceptron, two layers of 64, batch 32", *compared(PERCEPTRON, text)],
            ["transformer, two layers of 32, batch 4 of 16", *compared(TRANSFORMER, text)],
        ]
    show("Ensembles", ["network", f"a step of {MEMBERS} jobs", f"a step of an ensemble of {MEMBERS}", "ratio"], rows)


if __name__ == "__main__":
    main()
