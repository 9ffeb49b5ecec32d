"""Does training through the API reach what is published? Tiny Shakespeare by character, and eight schools.

`TINY_SHAKESPEARE=/path/to/input.txt python -m benchmarks quality`. Published: nanoGPT's small CPU configuration reaches a
validation loss of 1.88 (4 layers, 4 heads, 128 wide, context 64, batch 12, 2 000 steps, no dropout, last 10 % held out);
posteriordb's reference for eight schools has 10 000 draws. Here the loss is the mean over the whole held-out part.
"""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.table import show
from meshyard import Client
from meshyard.local import LocalStack

PUBLISHED_LOSS = 1.88
STEPS = 2000
CHARACTERS: dict[str, Any] = {
    "kind": "train",
    "name": "shakespeare-char",
    "model": {"type": "transformer", "vocab_size": 65, "dim": 128, "n_layers": 4, "n_heads": 4, "context": 64},
    "optimizer": {
        "type": "chain",
        "transforms": [
            {"type": "clip_by_global_norm", "max_norm": 1.0},
            {
                "type": "adamw",
                "b2": 0.99,
                "weight_decay": 0.1,
                "learning_rate": {
                    "type": "warmup_cosine_decay_schedule",
                    "init_value": 0.0,
                    "peak_value": 1e-3,
                    "warmup_steps": 100,
                    "decay_steps": STEPS,
                    "end_value": 1e-4,
                },
            },
        ],
    },
    "steps": STEPS,
    "eval_every": 500,
}
SCHOOLS: dict[str, Any] = {
    "kind": "mcmc",
    "model": {"type": "eight_schools"},
    "data": {"builtin": "eight_schools"},
    "num_warmup": 1000,
    "num_samples": 5000,
    "num_chains": 4,
    "mesh": {"axes": {"chains": 4}},
    "checkpoint": {"every_draws": 1000},
}
REFERENCE_DRAWS = 10_000
REFERENCE = {
    "mu": (4.410518, 3.309296),
    "tau": (3.602060, 3.198478),
    "theta[0]": (6.150502, 5.615863),
    "theta[1]": (4.939581, 4.645578),
    "theta[2]": (3.905906, 5.280712),
    "theta[3]": (4.796017, 4.770938),
    "theta[4]": (3.614436, 4.614721),
    "theta[5]": (4.051148, 4.796248),
    "theta[6]": (6.317170, 5.002855),
    "theta[7]": (4.883997, 5.317692),
}
"""Mean and sd of the posterior in posteriordb (`eight_schools-eight_schools_noncentered`)."""


def train(client: Client, text: Path) -> None:
    """Two kinds of positions: ours by default, and nanoGPT's."""
    dataset = client.datasets.upload(text, format="text").id
    data = {"dataset": dataset, "batch_size": 12, "eval_fraction": 0.1, "tokenizer": "char"}
    rows: list[list[str]] = []
    for positions in ("rotary", "learned"):
        document = CHARACTERS | {"data": data, "model": CHARACTERS["model"] | {"positions": positions}}
        job = client.jobs.wait(client.jobs.submit(document))
        final = client.jobs.result(job).final
        rows.append([f"{positions} positions", f"{final['eval/loss']:.4f}", f"{PUBLISHED_LOSS}"])
    show("Tiny Shakespeare, validation loss in nats a character", ["", "this run", "published (nanoGPT)"], rows)


def sample(client: Client) -> None:
    """Eight schools, in combined Monte Carlo standard errors."""
    summary = client.jobs.result(client.jobs.wait(client.jobs.submit(SCHOOLS))).summary
    rows: list[list[str]] = []
    for name, (mean, sd) in REFERENCE.items():
        row = summary[name]
        of_mean = abs(row["mean"] - mean) / math.hypot(row["mcse_mean"], sd / math.sqrt(REFERENCE_DRAWS))
        of_sd = abs(row["sd"] - sd) / math.hypot(row["mcse_sd"], sd / math.sqrt(2 * REFERENCE_DRAWS))
        rows.append([name, f"{row['mean']:.3f} / {mean:.3f}", f"{of_mean:.2f}", f"{row['sd']:.3f} / {sd:.3f}", f"{of_sd:.2f}"])
    header = ["", "mean / reference", "in standard errors", "sd / reference", "in standard errors"]
    show("Eight schools, 4 x 5 000 draws", header, rows)


def main() -> None:
    """Run both jobs."""
    with tempfile.TemporaryDirectory() as name, LocalStack(Path(name)) as stack, Client(stack.server) as client:
        stack.start_worker(cpu_devices=4)
        sample(client)
        if text := os.environ.get("TINY_SHAKESPEARE"):
            train(client, Path(text))
        else:
            print("\nTiny Shakespeare is left out: set TINY_SHAKESPEARE to its path.")


if __name__ == "__main__":
    main()
