"""The asynchronous client is the same client."""

from __future__ import annotations

import asyncio

import pytest

import meshyard
from meshyard import AsyncClient, Event
from tests.client.conftest import QUICK
from tests.client.standin import FILES, Fault


def run(server, body):
    async def main():
        async with AsyncClient(server, policy=QUICK) as client:
            return await body(client)

    return asyncio.run(main())


def test_submit_wait_and_list(world, server):
    async def body(client):
        job = await client.jobs.submit({"kind": "train"})
        world.end(job.id, "succeeded")
        ended = await client.jobs.wait(job)
        return ended, [item.id async for item in client.jobs.list()]

    ended, listed = run(server, body)
    assert ended.status == "succeeded"
    assert listed == [ended.id]


def test_retries(world, server):
    world.faults.append(Fault(lambda request: request.method == "POST", None, times=2))
    run(server, lambda client: client.jobs.submit({"kind": "train"}))
    assert len(world.jobs) == 1
    with pytest.raises(meshyard.NotFoundError):
        run(server, lambda client: client.jobs.get("job_0"))


def test_watch(world, server):
    job = world.add()["id"]
    world.end(job, "succeeded")
    world.break_stream_after = [1]

    async def body(client):
        return [item.seq async for item in client.jobs.watch(job) if isinstance(item, Event)]

    assert run(server, body) == [1, 2]


def test_a_watch_may_be_left(world, server):
    job = world.add()["id"]

    async def body(client):
        items = client.jobs.watch(job)
        first = await anext(items)
        await items.aclose()
        return first.seq

    assert run(server, body) == 1


def test_download_and_upload(world, server, tmp_path):
    job = world.add()["id"]
    world.checkpoints = [{"step": 5}]
    world.break_files_after = [1000]
    source = tmp_path / "words.txt"
    source.write_bytes(b"w" * 3_000_000)

    async def body(client):
        return await client.datasets.upload(source), await client.checkpoints.download(job, to=tmp_path / "home")

    dataset, folder = run(server, body)
    assert dataset.bytes == 3_000_000
    assert (folder / "state/params").read_bytes() == FILES["state/params"]
