"""A service and a worker as two processes that live and end together."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

WORKER_SECONDS = 35.0
"""A worker saves and hands its job back within 30 s."""
SERVICE_SECONDS = 15.0


class Pair:
    """Starts both, waits for the word to stop or for one to end, and ends them: the worker first, for it reports to the service.

    Args:
        environment: of both processes.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._stop = threading.Event()

    def run(self) -> int:
        """Give 0 when asked to stop, 1 when one of them ended by itself."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        service = self._start("serve")
        worker = self._start("work")
        try:
            ended = self._watch(service, worker)
        finally:
            _end(worker, WORKER_SECONDS)
            _end(service, SERVICE_SECONDS)
        if ended is None:
            return 0
        sys.stderr.write(f"meshyard up: {ended} ended with {worker.returncode if ended == 'work' else service.returncode}\n")
        return 1

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self._stop.set()

    def _start(self, command: str) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C reaches only us, so that the worker can hand its job back before the service goes.
        program = [sys.executable, "-m", "meshyard", command]
        return subprocess.Popen(program, env=dict(self._environment), start_new_session=True)  # noqa: S603 - our own program

    def _watch(self, service: subprocess.Popen[bytes], worker: subprocess.Popen[bytes]) -> str | None:
        while not self._stop.wait(0.2):
            for name, process in (("serve", service), ("work", worker)):
                if process.poll() is not None:
                    return name
        return None


def _end(process: subprocess.Popen[bytes], seconds: float) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
