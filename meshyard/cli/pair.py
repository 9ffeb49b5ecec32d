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

    The worker is started when the service has said that it is ready, and at which address.

    Args:
        environment: of both processes.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._running: dict[str, subprocess.Popen[str]] = {}

    def run(self) -> int:
        """Give 0 when asked to stop, 1 when one of them ended by itself."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        try:
            ended = self._run_both()
        finally:
            self._end()
        if ended is None:
            return 0
        sys.stderr.write(f"meshyard up: {ended} ended with {self._running[ended].returncode}\n")
        return 1

    def _run_both(self) -> str | None:
        service = self._start("serve", stdout=subprocess.PIPE)
        threading.Thread(target=self._pass_on, args=(service,), daemon=True).start()
        ended = self._watch(until=self._ready)
        if ended is not None or self._stop.is_set():
            return ended
        self._start("work")
        return self._watch()

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self._stop.set()

    def _start(self, command: str, **options: Any) -> subprocess.Popen[str]:
        # A session of its own: Ctrl-C reaches only us, so that the worker can hand its job back before the service goes.
        program = [sys.executable, "-m", "meshyard", command]
        process = subprocess.Popen(program, env=self._environment, start_new_session=True, text=True, **options)  # noqa: S603
        self._running[command] = process
        return process

    def _pass_on(self, service: subprocess.Popen[str]) -> None:
        """Pass the service's standard output on, and take its address from the first line."""
        for line in service.stdout or ():
            sys.stdout.write(line)
            sys.stdout.flush()
            self._environment["MESHYARD_SERVER"] = seen_from_here(line.split()[-1])
            self._ready.set()

    def _watch(self, until: threading.Event | None = None) -> str | None:
        """Wait for a process to end and give its name; or None, when asked to stop or when `until` has come."""
        while not self._stop.wait(0.1) and not (until is not None and until.is_set()):
            for name, process in self._running.items():
                if process.poll() is not None:
                    return name
        return None

    def _end(self) -> None:
        for name, seconds in (("work", WORKER_SECONDS), ("serve", SERVICE_SECONDS)):
            if name in self._running:
                _stop(self._running[name], seconds)


def seen_from_here(address: str) -> str:
    """How a service is reached from its own machine, wherever else it listens."""
    return address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _stop(process: subprocess.Popen[str], seconds: float) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
