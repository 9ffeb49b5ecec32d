"""Seconds per training step through the service, over a loop written by hand, seven times each in turn.

Goal: at most 1.02 at steps of 20 ms and more; at most 0.3 ms more below.

While a job makes its first steps, its worker imports the libraries for the next one beside it: two seconds of one core. On a
machine of two cores that shows, so the second half of the run, where it is over, is given beside the whole.

`TORCH_PYTHON` names an interpreter with PyTorch (this one, if it has it): the same model in PyTorch runs in turn with the rest.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.table import show, spread
from meshyard import Client
from meshyard.local import LocalStack

ROUNDS = 7
SIZES: dict[str, tuple[dict[str, int], int, int]] = {
    # name: (model, batch size, steps)
    "nanoGPT's small CPU configuration": ({"dim": 128, "n_layers": 4, "n_heads": 4, "context": 64}, 12, 300),
    "tiny": ({"dim": 32, "n_layers": 2, "n_heads": 2, "context": 32}, 8, 4000),
}


def document(model: dict[str, int], batch_size: int, steps: int, dataset: str) -> dict[str, Any]:
    """The job."""
    return {
        "kind": "train",
        "model": {"type": "transformer", "vocab_size": 256, **model},
        "data": {"dataset": dataset, "batch_size": batch_size},
        "optimizer": {
            "type": "chain",
            "transforms": [{"type": "clip_by_global_norm", "max_norm": 1.0}, {"type": "adamw", "learning_rate": 1e-3}],
        },
        "steps": steps,
        "checkpoint": {"every_steps": steps},
    }


def through_the_service(client: Client, job: dict[str, Any]) -> tuple[float, float, dict[str, Any]]:
    """Seconds per step as the job's own metric has them: all but the first ten, and the second half; and the resolved spec."""
    submitted = client.jobs.wait(client.jobs.submit(job))
    series = client.jobs.metrics(submitted, names=["step_seconds"], max_points=10_000).series[0]
    seconds = [value or 0.0 for value in series.values]
    return statistics.fmean(seconds[10:]), statistics.fmean(seconds[len(seconds) // 2 :]), submitted.resolved_spec or {}


def by_hand(python: str, loop: str, spec: dict[str, Any], text: Path, steps: int) -> float:
    """Seconds per step of the same model in a process of its own without the service."""
    (text.parent / "spec.json").write_text(json.dumps(spec))
    command = [python, "-m", f"benchmarks.{loop}", str(text.parent / "spec.json"), str(text), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    return float(done.stdout.split()[-1])


def torch_python() -> str | None:
    """An interpreter that has PyTorch."""
    python = os.environ.get("TORCH_PYTHON", sys.executable)
    found = subprocess.run([python, "-c", "import torch, numpy"], capture_output=True, check=False)
    return python if found.returncode == 0 else None


def measure(client: Client, text: Path, dataset: str, size: str) -> dict[str, list[float]]:
    """Milliseconds per step of each peer, in as many rounds, each peer in turn."""
    model, batch_size, steps = SIZES[size]
    torch = torch_python()
    found: dict[str, list[float]] = {"whole": [], "second half": [], "by hand": [], "PyTorch": []}
    for _ in range(ROUNDS):
        whole, half, spec = through_the_service(client, document(model, batch_size, steps, dataset))
        found["whole"].append(1000 * whole)
        found["second half"].append(1000 * half)
        found["by hand"].append(1000 * by_hand(sys.executable, "plain_loop", spec, text, steps))
        if torch is not None:
            found["PyTorch"].append(1000 * by_hand(torch, "torch_loop", spec, text, steps))
    return found


def main() -> None:
    """Measure and print."""
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as name, LocalStack(Path(name)) as stack, Client(stack.server) as client:
        stack.start_worker(cpu_devices=1)
        text = Path(name) / "text.txt"
        sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:60]
        text.write_text("".join(path.read_text("utf-8", errors="ignore") for path in sources))
        dataset = client.datasets.upload(text, format="text").id
        for size in SIZES:
            found = measure(client, text, dataset, size)
            for part, peer in itertools.product(("whole", "second half"), ("by hand", "PyTorch")):
                if found[peer]:
                    ratios = [a / b for a, b in zip(found[part], found[peer], strict=True)]
                    more = [a - b for a, b in zip(found[part], found[peer], strict=True)]
                    milliseconds = (spread(found[part], " ms"), spread(found[peer], " ms"))
                    rows.append([f"{size}, {part}", peer, *milliseconds, spread(ratios), spread(more, " ms")])
    show(
        f"Seconds per step, {ROUNDS} interleaved runs: median (min to max)",
        ["model", "peer", "service", "peer's", "ratio", "difference"],
        rows,
    )


if __name__ == "__main__":
    main()
