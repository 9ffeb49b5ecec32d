from __future__ import annotations

import pytest

from meshyard import Client, Policy
from tests.client.standin import Server, World, make_app

QUICK = Policy(max_retries=2, first_pause_seconds=0.001)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def server(world, monkeypatch):
    monkeypatch.delenv("MESHYARD_API_KEY", raising=False)
    running = Server(make_app(world))
    yield running.start()
    running.stop()


@pytest.fixture
def client(server):
    with Client(server, policy=QUICK) as client:
        yield client
