"""What is broken on the way comes to the same end, through a real service and real workers."""

from __future__ import annotations

from pathlib import Path

import httpx

from meshyard import Client
from meshyard.local import LocalStack, Running
from tests import specs
from tests.end_to_end.following import arrays, exact_metrics, has_come_further, kill_child, until, until_step
from tests.end_to_end.jobs import ALONE, long_sampling, long_training, on_text


def test_training_killed_twice_ends_with_the_same_bits(client: Client, worker: Running, dataset: str, trained: str) -> None:
    job = client.jobs.submit(long_training(dataset))
    for number in (1, 2):
        until(lambda number=number: has_come_further(client, job.id, number, 20), "the attempt has done some steps of its own")
        until(lambda: kill_child(worker), "a child computes")
    client.jobs.wait(job)
    attempts = client.jobs.attempts(job)
    assert len(attempts) == 3
    assert all(attempt.resumed_from for attempt in attempts[1:])
    assert arrays(client, job.id, 400) == arrays(client, trained, 400)
    assert exact_metrics(client, job.id) == exact_metrics(client, trained)


def test_a_worker_without_the_artifact_folder_does_just_the_same(
    stack: LocalStack, client: Client, dataset: str, trained: str, sampled: str, tmp_path: Path
) -> None:
    """Killed half-way, so that data, checkpoint and draws all have to travel back."""
    afar = stack.start_worker(cpu_devices=8, MESHYARD_LABELS="alone=yes", MESHYARD_ARTIFACT_ROOT=str(tmp_path / "elsewhere"))
    job = client.jobs.submit(long_training(dataset, **ALONE))
    until_step(client, job.id, 130)
    until(lambda: kill_child(afar), "a child computes")
    client.jobs.wait(job)
    assert client.jobs.attempts(job)[1].resumed_from
    assert arrays(client, job.id, 400) == arrays(client, trained, 400)
    schools = client.jobs.submit(long_sampling(**ALONE))
    client.jobs.wait(schools)
    assert client.jobs.result(schools).summary == client.jobs.result(sampled).summary
    afar.stop()


def test_a_drained_worker_hands_its_job_back(stack: LocalStack, client: Client, dataset: str) -> None:
    worker = stack.start_worker(cpu_devices=1, MESHYARD_LABELS="alone=yes")
    job = client.jobs.submit(
        on_text(specs.transformer(steps=1_000_000, eval_every=500_000, checkpoint={"every_steps": 500_000}, **ALONE), dataset)
    )
    until_step(client, job.id, 20)
    assert worker.stop() == 0
    handed_back = client.jobs.get(job)
    assert handed_back.status == "queued"
    attempt = client.jobs.attempts(job)[-1]
    assert (attempt.ending, attempt.steps_lost) == ("released", 0)
    assert [each.step for each in client.checkpoints.list(job)] == [handed_back.progress.step]
    client.jobs.cancel(job)


def test_a_flipped_byte_is_never_resumed_from_nor_sent(stack: LocalStack, client: Client, dataset: str) -> None:
    worker = stack.start_worker(cpu_devices=1, MESHYARD_LABELS="alone=yes")
    job = client.jobs.submit(
        on_text(
            specs.transformer(steps=3000, eval_every=1500, checkpoint={"every_steps": 100, "keep_latest": 100}, **ALONE), dataset
        )
    )
    until_step(client, job.id, 450)
    client.jobs.pause(job)
    until(lambda: client.jobs.get(job).status == "paused", "the job is paused")
    newest, before = (each.step for each in client.checkpoints.list(job)[:-3:-1])
    damaged = next((stack.folder / "artifacts" / "jobs" / job.id).rglob(f"checkpoints/{newest}/state/params.embed.embedding/c/0/0"))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged.write_bytes(content)
    reply = httpx.get(f"{stack.server}/v1/jobs/{job.id}/checkpoints/{newest}/files/state/params.embed.embedding/c/0/0")
    assert reply.status_code in (409, 410)
    client.jobs.resume(job)
    until_step(client, job.id, newest + 1)
    assert client.jobs.attempts(job)[-1].resumed_from == before
    client.jobs.cancel(job)
    worker.stop()


def test_a_worker_that_dies_is_replaced(stack: LocalStack, client: Client, worker: Running, dataset: str, trained: str) -> None:
    job = client.jobs.submit(long_training(dataset))
    until_step(client, job.id, 120)
    worker.kill()
    stack.start_worker(cpu_devices=8)
    client.jobs.wait(job)
    assert "worker.lost" in [event.type for event in client.jobs.events(job)]
    assert arrays(client, job.id, 400) == arrays(client, trained, 400)
