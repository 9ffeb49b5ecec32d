from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import specs
from tests.worker.agent_process import AgentProcess
from tests.worker.fake_service import FakeService


@pytest.fixture
def service(tmp_path: Path) -> Iterator[FakeService]:
    """A service whose artifact folder the worker sees."""
    with FakeService(tmp_path / "artifacts").running() as fake:
        yield fake


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[FakeService]:
    """A service whose artifact folder the worker does not see."""
    with FakeService(tmp_path / "artifacts", shared=False).running() as fake:
        yield fake


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Callable[..., AgentProcess]]:
    """Starts agents, and ends them with the test."""
    started: list[AgentProcess] = []

    def start(fake: FakeService, graces: dict[str, float] | None = None, **environment: str) -> AgentProcess:
        process = AgentProcess(tmp_path / f"agent-{len(started)}", fake.url, graces, **environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.close()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text file."""
    return specs.write_text(tmp_path_factory.mktemp("data") / "text.txt")
