"""A service and its workers on this machine, as processes in this one's care: for trying things out, for tests and measurements.

    with LocalStack(Path("scratch")) as stack:
        stack.start_worker(cpu_devices=8)
        with Client(stack.server) as client: ...

Everything they keep lies below one folder. Needs the extras `service` and `worker`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from jobs.errors import MeshyardError

STOP_SECONDS = 40
"""A worker may take thirty seconds to save and hand back what it runs."""


class StackBroken(MeshyardError):
    """A process of a local stack did not start, or stopped by itself."""


@dataclass(frozen=True)
class Running:
    """A process that has said that it is ready: the line it said, and its log."""

    process: subprocess.Popen[str]
    ready: str
    log: Path

    def stop(self) -> int:
        """SIGTERM, then SIGKILL if it does not end; gives its exit status."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(STOP_SECONDS)
        self.process.kill()
        return self.process.wait()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()


class LocalStack:
    """One service and any number of workers.

    Args:
        folder: where database, artifacts, logs and scratch lie; kept when the stack stops.
        environment: further `MESHYARD_…` settings for all of them.
        database_url: another database than SQLite below the folder.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None, database_url: str | None = None) -> None:
        self.folder = folder
        self._environment = {**os.environ, **(environment or {})}
        self._database_url = database_url or f"sqlite:///{folder / 'meshyard.db'}"
        self._running: list[Running] = []
        self.server = ""

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start_service()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for running in reversed(self._running):  # workers first: they hand their jobs back to the service
            running.stop()

    def start_service(self, port: int = 0) -> Running:
        """Start the service. `port` 0 takes any free one; `server` then tells the address."""
        place = ["--database-url", self._database_url, "--artifact-root", str(self.folder / "artifacts")]
        self.service = self._start("serve", "--port", str(port), *place)
        self.server = self.service.ready.rsplit(" ", 1)[-1]
        return self.service

    def start_worker(self, cpu_devices: int = 1, work_dir: Path | None = None, **environment: str) -> Running:
        """Start a worker with virtual CPU devices, in a scratch folder of its own unless one is named."""
        scratch = work_dir or self.folder / f"work-{len(self._running)}"
        arguments = ["--server", self.server, "--cpu-devices", str(cpu_devices), "--work-dir", str(scratch)]
        return self._start("work", *arguments, **environment)

    def _start(self, *command: str, **environment: str) -> Running:
        log = self.folder / f"{command[0]}-{len(self._running)}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(  # noqa: S603  (this project's own command)
                [sys.executable, "-m", "meshyard", *command],
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                env=self._environment | environment,
            )
        line = process.stdout.readline().strip() if process.stdout is not None else ""
        if not line:
            process.kill()
            raise StackBroken(f"meshyard {command[0]} did not start: {log.read_text()[-2000:]}")
        running = Running(process, line, log)
        self._running.append(running)
        return running
