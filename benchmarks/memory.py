"""What micro-batches, remat and scanned layers do to the memory of a step, as the compiler tells it. No clock is involved."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.table import show
from benchmarks.training import build, write_text

MIB = 2**20
SHAPE = {"vocab_size": 256, "dim": 128, "n_layers": 4, "n_heads": 4, "context": 64}
DOCUMENT: dict[str, Any] = {"model": {"type": "transformer", **SHAPE}, "data": {"dataset": "ds_text", "batch_size": 48}}
SCANNED = {"model": DOCUMENT["model"] | {"scan_layers": True}}
CASES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "2 micro-batches": {"grad_accumulation": 2},
    "4 micro-batches": {"grad_accumulation": 4},
    "12 micro-batches": {"grad_accumulation": 12},
    "layers scanned": SCANNED,
    'layers scanned, remat "dots"': SCANNED | {"remat": "dots"},
    'layers scanned, remat "dots_with_no_batch_dims"': SCANNED | {"remat": "dots_with_no_batch_dims"},
    'layers scanned, remat "full"': SCANNED | {"remat": "full"},
    'layers scanned, remat "full", 4 micro-batches': SCANNED | {"remat": "full", "grad_accumulation": 4},
}


def main() -> None:
    """Compile each and print."""
    with tempfile.TemporaryDirectory() as name:
        text = write_text(Path(name))
        taken = {case: temporary_bytes(text, changes) for case, changes in CASES.items()}
    first = next(iter(taken.values()))
    rows = [[case, f"{size / MIB:.1f} MiB", f"{size / first:.2f}"] for case, size in taken.items()]
    show("Memory of a step", ["", "temporary memory", "of the first"], rows)


def temporary_bytes(text: Path, changes: dict[str, Any]) -> int:
    """What a step allocates beside its state and its batch."""
    program = build(DOCUMENT, text, **changes)
    return program.lower(program.abstract()).compile().memory_analysis().temp_size_in_bytes


if __name__ == "__main__":
    main()
