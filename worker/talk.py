"""The child's conversation with its agent: what it reports goes out in order from one thread, commands come in on another.

Metrics are device arrays when they are put; reading them waits for the device, so the reading is done here, off the step path,
and for the steps of a fifth of a second at once: a message a step would cost a short step more than its work. Anything else is
said at once, after all that was put before it: a checkpoint's message follows every metric of the steps up to it.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np

from jobs.programs.program import Measurement
from worker.channel import Channel, Message
from worker.ledger import Ledger

ENDING_OF = {"pause": "paused", "cancel": "cancelled", "drain": "released"}
"""Commands that end an attempt, and how it then ended."""

HELD_SECONDS = 0.2
"""How long metrics wait for others to go with."""

MOST_ROWS = 500
"""Steps in one message."""


class Abandoned(BaseException):
    """What the loop waited for is given up, because a command ends the attempt. No library may take it for an error of its own."""


class Talk:
    """Reports to the agent, and hears its commands.

    Args:
        channel: the two pipes.
        ledger: seconds by phase.
    """

    def __init__(self, channel: Channel, ledger: Ledger) -> None:
        self._channel, self.ledger = channel, ledger
        self._out: deque[Message | Measurement | None] = deque()
        self._urgent = threading.Event()
        self._command: Message | None = None
        self._profile: Message | None = None
        self._interruptible_at: int | None = None
        self._waits = False
        self._lock = threading.Lock()
        self._writer = threading.Thread(target=self._write, name="reports", daemon=True)
        self._writer.start()

    def listen(self) -> None:
        """Hear commands from now on. The process ends when the agent's end of the pipe closes: nobody is left to work for.

        Call it from the main thread: signals wake no other.
        """
        signal.signal(signal.SIGUSR2, self._abandon)
        threading.Thread(target=self._hear, name="commands", daemon=True).start()

    # -- reports -------------------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Put a message into the queue."""
        self._out.append(message)
        self._urgent.set()

    def measure(self, measurement: Measurement) -> None:
        """Put values into the queue; they are read from the device when their turn comes."""
        self._out.append(measurement)

    def reached(self, step: int) -> None:
        """A step is done on the devices."""
        self._channel.reached(step)

    def enter(self, phase: str, step: int) -> None:
        """Tell what the attempt is doing."""
        if self.ledger.enter(phase):
            self.send({"type": "phase", "phase": phase, "step": step, "seconds": self.ledger.seconds()})

    def event(self, event: str, **data: Any) -> None:
        """Tell of something that happened."""
        self.send({"type": "event", "event": event, "data": data})

    def note(self, text: str) -> None:
        """Write a line into the job's log, beside what its own code prints. A log that cannot be written stops nobody."""
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with suppress(OSError):
            sys.stdout.write(f"{at} {text}\n")
            sys.stdout.flush()

    def end(
        self, ending: str, step: int, error: Message | None = None, result: Any = None, artifacts: list[str] | None = None
    ) -> None:
        """Say how the attempt ended, as the last message, and wait until it is said."""
        seconds = self.ledger.seconds()
        self._out.append({"type": "end", "ending": ending, "step": step, "error": error, "seconds": seconds, "result": result,
                          "artifacts": artifacts or []})  # fmt: skip
        self._out.append(None)
        self._urgent.set()
        self._writer.join()

    # -- commands ------------------------------------------------------------------------------------------------------------

    @property
    def command(self) -> str | None:
        """The command that waits to be carried out."""
        return None if self._command is None else self._command["command"]

    @property
    def saves(self) -> bool:
        """Whether the command that ends the attempt wants a last checkpoint."""
        return self._command is None or self._command.get("save", True)

    def leaving(self) -> bool:
        """Whether a command waits that ends the attempt."""
        return self.command in ENDING_OF

    def handled(self) -> None:
        """The command has been carried out."""
        if self._command is not None:
            self.send({"type": "handled", "command": self._command["command"]})
            self._command = None

    def asked_profile(self) -> Message | None:
        """The trace that is wanted of the running job; it is told once."""
        asked, self._profile = self._profile, None
        return asked

    @contextmanager
    def interruptible(self, step: int) -> Iterator[None]:
        """While inside, a command that ends the attempt ends the process at once.

        There is nothing new to save, and a compiler does not look at flags.
        """
        with self._lock:
            self._interruptible_at = step
            self._leave_if_told()
        try:
            yield
        finally:
            with self._lock:
                self._interruptible_at = None

    @contextmanager
    def abandonable(self) -> Iterator[None]:
        """While inside, a command that ends the attempt raises Abandoned, even out of a wait that has no end."""
        self._waits = True
        try:
            if self.leaving():
                raise Abandoned
            yield
        finally:
            self._waits = False

    def _abandon(self, *_: object) -> None:
        if self._waits and self.leaving():
            self._waits = False
            raise Abandoned

    def _hear(self) -> None:
        for message in self._channel.receive():
            if message["type"] == "profile":
                self._profile = message
                continue
            with self._lock:
                self._command = message
                self._leave_if_told()
            self._nudge()
        os._exit(1)

    def _nudge(self) -> None:
        """Wake the main thread out of what it waits for in vain.

        A signal that comes just before it falls asleep does not wake it, so this is done again and again.
        """
        if self._waits and self.leaving():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)

    def _leave_if_told(self) -> None:
        if self._interruptible_at is not None and self.command in ENDING_OF:
            self.end(ENDING_OF[self.command], self._interruptible_at)
            os._exit(0)

    def _write(self) -> None:
        while True:
            self._urgent.wait(HELD_SECONDS)
            self._urgent.clear()
            self._nudge()
            rows: list[Measurement] = []
            for _ in range(len(self._out)):
                item = self._out.popleft()
                if isinstance(item, Measurement):
                    rows.append(item)
                    continue
                self._send_rows(rows)
                if item is None:
                    return
                self._channel.send(item)
            self._send_rows(rows)

    def _send_rows(self, rows: list[Measurement]) -> None:
        while rows:
            try:
                messages = list(_in_columns(rows[:MOST_ROWS]))
            except RuntimeError:
                # A step failed on the devices. The loop finds that out for itself, and the last message must still go out here.
                messages = []
            for message in messages:
                self._channel.send(message)
            del rows[:MOST_ROWS]


def _in_columns(rows: Iterable[Measurement]) -> Iterator[Message]:
    """Messages of measurements: one for all that have the same names and labels, with a column for each name."""
    columns: dict[tuple[Any, ...], Message] = {}
    for row in rows:
        values = {name: np.asarray(value) for name, value in row.values.items()}
        for label, at in _labelled(row.label, values):
            key = (label, *values)
            empty = {
                "type": "metrics",
                "labels": dict([label] if label else []),
                "steps": [],
                "values": {name: [] for name in values},
            }
            message = columns.setdefault(key, empty)
            message["steps"].append(row.step)
            for name, value in values.items():
                message["values"][name].append(_word(float(value[at])))
    yield from columns.values()


def _labelled(label: str | None, values: dict[str, np.ndarray]) -> Iterator[tuple[tuple[str, str] | None, Any]]:
    """Each pair of a label with its value, None where there is none, and where its values lie in the arrays."""
    if label is None:
        yield None, ()
        return
    for i in range(len(next(iter(values.values())))):
        yield (label, str(i)), i


def _word(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
