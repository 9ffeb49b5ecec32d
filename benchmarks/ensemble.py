"""Eight trainings as one program over the same eight, one job after another on the same warm worker: seconds of training.

Goal: at least 4 for a small network. What is compared is the job's own account of its seconds in `training` and `data_wait`, so
that neither starting nor compiling counts; seconds from submit to end, where they do, stand beside it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.table import show, spread
from meshyard import Client
from meshyard.local import LocalStack

MEMBERS = 8
ROUNDS = 3
STEPS = 3000


def mlp(seed: int, **changes: Any) -> dict[str, Any]:
    """A small network on a built-in table."""
    return {
        "kind": "train",
        "model": {"type": "mlp", "in_features": 2, "hidden": [64, 64], "out_features": 3},
        "data": {"builtin": "spirals", "batch_size": 32},
        "loss": {"type": "softmax_cross_entropy_with_integer_labels"},
        "optimizer": {"type": "adamw", "learning_rate": 1e-3},
        "steps": STEPS,
        "log_every": 100,
        "seed": seed,
        "checkpoint": {"every_steps": STEPS},
        **changes,
    }


def transformer(seed: int, dataset: str, **changes: Any) -> dict[str, Any]:
    """A tiny language model."""
    return {
        "kind": "train",
        "model": {"type": "transformer", "vocab_size": 256, "dim": 32, "n_layers": 2, "n_heads": 2, "context": 16},
        "data": {"dataset": dataset, "batch_size": 4},
        "optimizer": {"type": "adamw", "learning_rate": 1e-3},
        "steps": STEPS // 3,
        "log_every": 100,
        "seed": seed,
        "checkpoint": {"every_steps": STEPS // 3},
        **changes,
    }


def seconds_of(client: Client, document: dict[str, Any]) -> tuple[float, float]:
    """Seconds of training, and from submit to end."""
    job = client.jobs.wait(client.jobs.submit(document))
    if job.status != "succeeded" or job.finished_at is None or job.created_at is None:
        raise RuntimeError(f"{job.id} {job.status}: {job.error}")
    attempt = client.jobs.attempts(job)[-1]
    spent = attempt.seconds or {}
    return spent.get("training", 0.0) + spent.get("data_wait", 0.0), (job.finished_at - job.created_at).total_seconds()


def compared(client: Client, make: Callable[..., dict[str, Any]]) -> list[str]:
    """One row: apart, together, and their ratio, each round in turn."""
    apart, together, whole = [], [], []
    seconds_of(client, make(seed=0, ensemble=MEMBERS))
    seconds_of(client, make(seed=0))
    for _ in range(ROUNDS):
        alone = [seconds_of(client, make(seed=seed)) for seed in range(MEMBERS)]
        one = seconds_of(client, make(seed=0, ensemble=MEMBERS))
        apart.append(sum(training for training, _ in alone))
        together.append(one[0])
        whole.append(sum(all_of_it for _, all_of_it in alone) / one[1])
    ratios = [a / b for a, b in zip(apart, together, strict=True)]
    return [spread(apart, " s", 2), spread(together, " s", 2), spread(ratios, "", 2), spread(whole, "", 2)]


def main() -> None:
    """Run and print."""
    text = b"the quick brown fox jumps over the lazy dog. " * 2000
    with tempfile.TemporaryDirectory() as name, LocalStack(Path(name)) as stack, Client(stack.server) as client:
        dataset = client.datasets.upload(text, format="text").id
        rows = [
            ["perceptron of two layers of 64, batch 32", *compared(client, mlp)],
            [
                "transformer, 2 layers of 32, batch 4 of 16",
                *compared(client, lambda seed, **rest: transformer(seed, dataset, **rest)),
            ],
        ]
    header = ["network", f"{MEMBERS} jobs, training", f"ensemble of {MEMBERS}, training", "ratio", "ratio, submit to end"]
    show("Ensembles", header, rows)


if __name__ == "__main__":
    main()
