from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from service.db import migration
from service.db.engine import Database
from tests.service.conftest import _server
from tests.worker.agent_process import AgentProcess
from tests.worker.service_process import ServiceProcess

StartService = Callable[..., ServiceProcess]
StartAgent = Callable[..., AgentProcess]


@contextmanager
def _database() -> Iterator[str | None]:
    """SQLite, or a migrated PostgreSQL with MESHYARD_TEST_DATABASE=postgresql."""
    if os.environ.get("MESHYARD_TEST_DATABASE", "sqlite") == "sqlite":
        yield None
        return
    with _server() as url:
        database = Database(url)
        migration.upgrade(database)
        database.close()
        yield url


@pytest.fixture
def real(tmp_path: Path) -> Iterator[StartService]:
    """Starts the real service in a process of its own."""
    with ExitStack() as stack:
        url = stack.enter_context(_database())

        def start(lease_seconds: float) -> ServiceProcess:
            process = ServiceProcess(tmp_path, url, lease_seconds)
            stack.callback(process.close)
            process.up()
            return process

        yield start


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[StartAgent]:
    """Starts real agents with children that need no JAX, and ends them with the test."""
    started: list[AgentProcess] = []

    def start(service: ServiceProcess, **environment: str) -> AgentProcess:
        process = AgentProcess(tmp_path / f"agent-{len(started)}", service.url, None, **environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.close()
