"""How long a look at a job takes: level `shapes` of a GPT-2 of 124 million parameters, with a spare child waiting.

Goal: under 5 seconds, from request to answer.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.table import show, spread
from meshyard import Client
from meshyard.local import LocalStack

ROUNDS = 5
SPARE_SECONDS = 15.0
"""Long enough for the next spare child to have imported everything: what is measured is the look."""
GPT2: dict[str, Any] = {
    "kind": "train",
    "model": {"type": "transformer", "vocab_size": 50257, "dim": 768, "n_layers": 12, "n_heads": 12, "context": 1024},
    "optimizer": {"type": "adamw", "learning_rate": 6e-4},
    "precision": {"compute": "bfloat16"},
    "steps": 1000,
}


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name, LocalStack(Path(name)) as stack, Client(stack.server) as client:
        stack.start_worker()
        text = ("the quick brown fox jumps over the lazy dog. " * 2000).encode()
        job = GPT2 | {"data": {"dataset": client.datasets.upload(text, format="text").id, "batch_size": 8}}
        whole: list[float] = []
        parts: dict[str, list[float]] = {}
        count = 0
        for _ in range(ROUNDS):
            time.sleep(SPARE_SECONDS)
            began = time.perf_counter()
            report = client.jobs.validate(job, level="shapes").report or {}
            whole.append(time.perf_counter() - began)
            count = report["total_parameters"]["count"]
            for part, seconds in report["examined"]["seconds"].items():
                parts.setdefault(part, []).append(seconds)
    rows = [["request to answer", spread(whole, " s", 2)], *([part, spread(each, " s", 2)] for part, each in parts.items())]
    show(f"A look at the shapes of {count:,} parameters, {ROUNDS} times", ["what", "median (min to max)"], rows)


if __name__ == "__main__":
    main()
