"""A real service and a real worker with eight virtual devices, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobs.states import TERMINAL
from meshyard import Client
from meshyard.local import LocalStack, Running
from tests import specs
from tests.end_to_end import jobs


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A service with short leases; tests start the workers they need."""
    with LocalStack(tmp_path_factory.mktemp("stack"), {"MESHYARD_LEASE_SECONDS": "6"}) as running:
        yield running


@pytest.fixture(scope="module")
def client(stack: LocalStack) -> Iterator[Client]:
    """A client of that service."""
    with Client(stack.server) as made:
        yield made


@pytest.fixture(scope="module")
def dataset(client: Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of an uploaded text."""
    path = specs.write_text(tmp_path_factory.mktemp("data") / "text.txt")
    return client.datasets.upload(path, format="text").id


@pytest.fixture(scope="module")
def worker(stack: LocalStack) -> Running:
    """A worker with eight virtual devices."""
    return stack.start_worker(cpu_devices=8)


@pytest.fixture(scope="module")
def trained(client: Client, worker: Running, dataset: str) -> str:
    """A finished training job on four by two."""
    return client.jobs.wait(client.jobs.submit(jobs.long_training(dataset))).id


@pytest.fixture(scope="module")
def sampled(client: Client, worker: Running) -> str:
    """A finished sampling job on four devices."""
    return client.jobs.wait(client.jobs.submit(jobs.long_sampling())).id


@pytest.fixture(autouse=True)
def _nothing_left_over(client: Client) -> Iterator[None]:
    """A test that fails half-way must not leave its job to the next test's worker."""
    yield
    for job in client.jobs.list():
        if job.status not in TERMINAL:
            client.jobs.cancel(job)
