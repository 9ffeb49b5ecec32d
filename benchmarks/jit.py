"""What `jax.jit` brings: seconds of a step with `debug.disable_jit` over those of the same job as it is, in turn."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import jax

from benchmarks.table import show, spread
from benchmarks.training import PERCEPTRON, Training, write_text

ROUNDS = 5
SHAPE = {"vocab_size": 256, "dim": 32, "n_layers": 2, "n_heads": 2, "context": 16}
TRANSFORMER: dict[str, Any] = {"model": {"type": "transformer", **SHAPE}, "data": {"dataset": "ds_text", "batch_size": 4}}
CASES = {
    "perceptron, two layers of 64, batch 32": (PERCEPTRON, 200),
    "transformer, two layers of 32, batch 4 of 16": (TRANSFORMER, 100),
}
PLAIN = 5
"""Steps without jit: they take hundreds of times as long."""


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        text = write_text(Path(name))
        rows = [[case, *compared(document, text, steps)] for case, (document, steps) in CASES.items()]
    show("What jit brings", ["network", "a step", "without jit", "ratio"], rows)


def compared(document: dict[str, Any], text: Path, steps: int) -> list[str]:
    """One row."""
    usual = Training(document, text)
    with jax.disable_jit():
        plain = Training(document, text, debug={"disable_jit": True})
    fast, slow = [], []
    for _ in range(ROUNDS):
        fast.append(1000 * usual.seconds(steps) / steps)
        with jax.disable_jit():
            slow.append(1000 * plain.seconds(PLAIN) / PLAIN)
    ratios = [b / a for a, b in zip(fast, slow, strict=True)]
    return [spread(fast, " ms", 2), spread(slow, " ms", 1), spread(ratios, "", 0)]


if __name__ == "__main__":
    main()
