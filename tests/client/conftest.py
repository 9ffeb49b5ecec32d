from __future__ import annotations

from typing import Any

import pytest

from meshyard import Client, Policy
from tests.client.standin import Server, World, make_app

QUICK = Policy(max_retries=2, first_pause_seconds=0.001)


class Switch:
    """An application in whose place another can be put while the server runs: starting one costs more than most tests."""

    app: Any = None

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            await self.app(scope, receive, send)


@pytest.fixture(scope="session")
def _switch():
    switch = Switch()
    server = Server(switch)
    yield switch, server.start()
    server.stop()


@pytest.fixture
def world():
    return World()


@pytest.fixture
def server(world, monkeypatch, _switch):
    monkeypatch.delenv("MESHYARD_API_KEY", raising=False)
    switch, address = _switch
    switch.app = make_app(world)
    return address


@pytest.fixture
def client(server):
    with Client(server, policy=QUICK) as client:
        yield client
