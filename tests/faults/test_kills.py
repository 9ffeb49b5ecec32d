"""Kills at random moments, in the middle of a checkpoint's commit among them, change no bit of what a job leaves behind.

`MESHYARD_FAULT_POINTS` says how many kills each case takes; `make faults N=20` sets it. The seed is printed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshyard import Client
from meshyard.local import LocalStack, Running
from tests import specs
from tests.end_to_end.following import arrays, exact_metrics, kill_child, until

POINTS = int(os.environ.get("MESHYARD_FAULT_POINTS", "5"))
STEPS_BETWEEN = 40
EVERY = 10

CASES: dict[str, tuple[dict[str, Any], int]] = {
    "training on one device": (specs.transformer(), 1),
    "training on eight devices": (specs.on_mesh(specs.transformer(), "fsdp_tp", data=4, model=2), 8),
    "sampling on one device": (specs.schools(), 1),
    "sampling on four devices": (specs.on_mesh(specs.schools(), chains=4), 4),
}


def lengthened(document: dict[str, Any], dataset: str) -> dict[str, Any]:
    """A job with room for every kill: some progress between one and the next, in warm-up and in sampling."""
    total = STEPS_BETWEEN * (POINTS + 2)
    if document["kind"] == "train":
        data = document["data"] | {"dataset": dataset}
        return document | {
            "data": data,
            "steps": total,
            "eval_every": total // 2,
            "checkpoint": {"every_steps": EVERY, "keep_latest": 1000},
        }
    halves = {"num_warmup": total // 2, "num_samples": total - total // 2}
    return document | halves | {"checkpoint": {"every_draws": EVERY, "keep_latest": 1000}}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A service and a worker with eight devices."""
    with LocalStack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(scope="module")
def worker(stack: LocalStack) -> Running:
    """A worker with eight devices."""
    return stack.start_worker(cpu_devices=8)


@pytest.fixture(scope="module")
def dataset(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of an uploaded text."""
    with Client(stack.server) as client:
        return client.datasets.upload(specs.write_text(tmp_path_factory.mktemp("data") / "text.txt"), format="text").id


@pytest.mark.parametrize("case", CASES)
def test_kills_at_random_moments_change_no_bit(stack: LocalStack, worker: Running, dataset: str, case: str) -> None:
    seed = random.randrange(2**32)
    print(f"{case}: seed {seed}, {POINTS} kills")  # noqa: T201
    chance = random.Random(seed)
    document = lengthened(CASES[case][0], dataset)
    with Client(stack.server) as client:
        straight = client.jobs.wait(client.jobs.submit(document))
        job = client.jobs.submit(document).id
        kills = [kill_once(stack, client, worker, job, chance, in_commit=i % 3 == 2) for i in range(POINTS)]
        killed = sum(kills)
        client.jobs.wait(job)
        attempts = client.jobs.attempts(job)
        assert killed == POINTS
        assert len(attempts) == killed + 1
        total = straight.progress.total
        assert arrays(client, job, total) == arrays(client, straight.id, total)
        assert exact_metrics(client, job) == exact_metrics(client, straight.id)
        ours, theirs = client.jobs.result(job), client.jobs.result(straight)
        assert ours.to_dict() == theirs.to_dict()


def kill_once(stack: LocalStack, client: Client, worker: Running, job: str, chance: random.Random, *, in_commit: bool) -> bool:
    """Let an attempt get a random way beyond the last checkpoint, or into a commit, and kill its process."""
    attempt = until(lambda: running_attempt(client, job), "an attempt runs")
    listed = client.checkpoints.list(job)
    beyond = (listed[-1].step if listed else 0) + chance.randint(1, STEPS_BETWEEN)
    checkpoints = stack.folder / "artifacts" / "jobs" / job / attempt / "checkpoints"

    def due() -> bool:
        step = client.jobs.get(job).progress.step or 0
        return committing(checkpoints, beyond) if in_commit and step < beyond + STEPS_BETWEEN else step >= beyond

    until(due, "the moment to kill has come")
    until(lambda: kill_child(worker), "a child computes")
    until(lambda: running_attempt(client, job) != attempt, "the attempt is over")
    return True


def running_attempt(client: Client, job: str) -> str | None:
    """The attempt that holds the job and has begun to compute."""
    found = client.jobs.get(job)
    assert found.status not in ("failed", "succeeded"), f"{found.status}: {found.error}"
    return (
        found.attempt
        if found.status == "running" and found.phase in ("training", "warmup", "sampling", "evaluating", "checkpointing")
        else None
    )


def committing(checkpoints: Path, step: int) -> bool:
    """Whether a checkpoint from a step on is being written just now: Orbax's temporary folder is there."""
    return any(int(path.name.split(".")[0]) >= step for path in checkpoints.glob("*.orbax-checkpoint-tmp*"))
