"""How long a job waits on an idle worker: submit → claimed, and submit → first step with a cold and a warm compilation cache.

Instants are the database's, read from the job's events and metrics. Goal: submit → claimed p95 at most 50 ms.
"""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.table import quantile, show, spread
from meshyard import Client
from meshyard.local import LocalStack

JOBS = 20
ROUNDS = 3
SMALL: dict[str, Any] = {
    "kind": "train",
    "model": {"type": "mlp", "in_features": 2, "hidden": [16], "out_features": 3},
    "data": {"builtin": "spirals", "batch_size": 30, "args": {"x": ["x1", "x2"], "y": "label"}},
    "loss": {"type": "softmax_cross_entropy_with_integer_labels"},
    "optimizer": {"type": "sgd", "learning_rate": 0.1},
    "steps": 1,
}
LANGUAGE: dict[str, Any] = {
    "kind": "train",
    "model": {"type": "transformer", "vocab_size": 256, "dim": 256, "n_layers": 8, "n_heads": 8, "context": 128},
    "optimizer": {"type": "adamw", "learning_rate": 1e-3},
    "steps": 1,
}


def seconds_between(first: datetime, second: datetime) -> float:
    """Seconds from one instant to another."""
    return (second - first).total_seconds()


def waits(client: Client, job: dict[str, Any]) -> tuple[float, float]:
    """Seconds from `job.queued` to `attempt.started`, and to the end of the first step's checkpointing phase."""
    submitted = client.jobs.wait(client.jobs.submit(job))
    events = reversed(list(client.jobs.events(submitted)))
    at = {event.type: event.created_at for event in events if event.created_at is not None}
    claimed = seconds_between(at["job.queued"], at["attempt.started"])
    phases = client.jobs.attempts(submitted)[-1].seconds or {}
    first_step = claimed + sum(phases.get(phase, 0.0) for phase in ("assigned", "restoring", "compiling", "training"))
    return claimed, first_step


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name, LocalStack(Path(name)) as stack, Client(stack.server) as client:
        worker = stack.start_worker()
        claimed = [1000 * waits(client, SMALL)[0] for _ in range(JOBS)]
        worker.stop()
        text = ("the quick brown fox jumps over the lazy dog. " * 2000).encode()
        job = LANGUAGE | {"data": {"dataset": client.datasets.upload(text, format="text").id, "batch_size": 8}}
        cold, warm = [], []
        for i in range(ROUNDS):
            for times in (cold, warm):
                worker = stack.start_worker(work_dir=Path(name) / f"cache-{i}")
                client.jobs.wait(
                    client.jobs.submit(SMALL)
                )  # so that the spare child is warm, as on any worker that has been up a while
                times.append(waits(client, job)[1])
                worker.stop()
    show(
        f"Waiting on an idle worker, {JOBS} and {ROUNDS} runs",
        ["what", "median (min to max)", "p95"],
        [
            ["submit → claimed", spread(claimed, " ms", 1), f"{quantile(claimed, 0.95):.1f} ms"],
            ["submit → first step, cold cache", spread(cold, " s", 2), ""],
            ["submit → first step, warm cache", spread(warm, " s", 2), ""],
        ],
    )


if __name__ == "__main__":
    main()
