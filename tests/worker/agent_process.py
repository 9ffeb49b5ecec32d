"""A worker's agent in a process of its own, with fake children, as an operator would start it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.worker.polling import BOUND_SECONDS, is_running, until


class AgentProcess:
    """An agent on its way.

    Args:
        folder: for its output and its work folder.
        server: address of the service.
        graces: `worker.orders.Graces`, in seconds.
        environment: further settings (`MESHYARD_…`).
    """

    def __init__(self, folder: Path, server: str, graces: dict[str, float] | None = None, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.work_dir = folder / "work"
        self._out, self._err = folder / "out.txt", folder / "err.txt"
        settings = {"MESHYARD_SERVER": server, "MESHYARD_WORK_DIR": str(self.work_dir)} | environment
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("MESHYARD_")}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.worker.fake_agent", *(f"{name}={value}" for name, value in (graces or {}).items())],
                env=inherited | settings,
                stdout=out,
                stderr=err,
            )

    @property
    def out(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    def ready(self) -> AgentProcess:
        """Wait for its one line."""
        until(lambda: "ready at" in self.out or self.process.poll() is not None)
        assert self.process.poll() is None, self.err
        return self

    def children(self) -> list[int]:
        """Processes right below it."""
        found = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for listing in found for pid in listing.read_text().split()]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(BOUND_SECONDS)

    def close(self) -> None:
        """Kill it, and see that nothing of it is left."""
        children = self.children() if self.process.poll() is None else []
        self.process.kill()
        self.process.wait()
        until(lambda: not any(is_running(pid) for pid in children))
        sys.stderr.write(self.err)


def spawned(log: str) -> int:
    """The number of the process that a fake child says it has started."""
    found = re.search(r"spawned (\d+)", log)
    assert found, log
    return int(found[1])
