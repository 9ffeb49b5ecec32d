"""Kills at random moments, in the middle of a checkpoint's commit among them, change no bit of what a job leaves behind.

`MESHYARD_FAULT_POINTS` says how many kills each case takes; `make faults N=20` sets it. The seed is printed.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshyard import Client
from meshyard.local import LocalStack, Running
from tests import specs
from tests.end_to_end.following import arrays, exact_metrics, kill_child, until

POINTS = int(os.environ.get("MESHYARD_FAULT_POINTS", "5"))
STEPS_BETWEEN = 300
"""On a busy machine a job gets far before it is seen that the moment to kill has come."""

EVERY = 10

CASES: dict[str, tuple[dict[str, Any], int]] = {
    "training on one device": (specs.transformer(), 1),
    "training on eight devices": (specs.on_mesh(specs.transformer(), "fsdp_tp", data=4, model=2), 8),
    "sampling on one device": (specs.schools(), 1),
    "sampling on four devices": (specs.on_mesh(specs.schools(), chains=4), 4),
    "sampling with an ensemble": (specs.schools(kernel={"type": "AIES"}, num_chains=24), 1),
    "fitting a guide": (specs.fitted(), 1),
}


def lengthened(document: dict[str, Any], dataset: str) -> dict[str, Any]:
    """A job with room for every kill: some progress between one and the next, in warm-up and in sampling."""
    total = STEPS_BETWEEN * POINTS
    if document["kind"] != "mcmc":
        data = document["data"] | ({"dataset": dataset} if document["kind"] == "train" else {})
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
        until(lambda: client.jobs.attempts(job), "an attempt has begun")
        kills = [kill_once(stack, client, worker, job, chance, in_commit=i % 3 == 2) for i in range(POINTS)]
        killed = sum(kills)
        client.jobs.wait(job)
        attempts = client.jobs.attempts(job)
        assert killed == POINTS
        assert len(attempts) == killed + 1
        total = straight.progress.total or 0
        assert arrays(client, job, total) == arrays(client, straight.id, total)
        assert exact_metrics(client, job) == exact_metrics(client, straight.id)
        ours, theirs = (client.jobs.result(each).to_dict() for each in (job, straight))
        assert ours.pop("performance")["steps"] < theirs.pop("performance")["steps"]
        assert ours == theirs


def kill_once(stack: LocalStack, client: Client, worker: Running, job: str, chance: random.Random, *, in_commit: bool) -> bool:
    """Let the job get a random way beyond its last checkpoint, into a commit or not, and kill its process."""
    listed = client.checkpoints.list(job)
    attempts = client.jobs.attempts(job)
    # Killed twice at one step with nothing kept in between, a job is taken to be at fault: these kills are never at one step.
    reached = max([each.step for each in listed] + [attempt.step or 0 for attempt in attempts])
    beyond = reached + EVERY * chance.randint(1, 3)
    folder = stack.folder / "artifacts" / "jobs" / job / attempts[-1].id / "checkpoints"
    # The folders tell at once; the API would tell after the next report, and the job is quick.
    until(lambda: written(folder, beyond, in_commit=in_commit), "the moment to kill has come", pause=0.005)
    if not in_commit:
        # With this kept, the kill says nothing against the job.
        until(lambda: any(each.step >= beyond for each in client.checkpoints.list(job)), "it is listed")
        time.sleep(chance.uniform(0.0, 0.1))  # somewhere within a block
    until(lambda: kill_child(worker), "a child computes")
    until(lambda: len(client.jobs.attempts(job)) > len(attempts), "another attempt has begun")
    return True


def written(folder: Path, step: int, *, in_commit: bool) -> bool:
    """Whether a checkpoint from a step on is there or, `in_commit`, is being written just now: Orbax's temporary folder tells."""
    names = [path.name for path in folder.glob("*")]
    writing = [name for name in names if "orbax-checkpoint-tmp" in name]
    wanted = writing if in_commit else [name for name in names if name.isdigit()]
    return any(int(name.split(".")[0]) >= step for name in wanted)
