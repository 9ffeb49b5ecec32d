"""What the child has been told to do, and how long it may take over it.

A child that holds its interpreter, or whose compiler does not come back, hears nothing. Whoever asked is not kept waiting for ever:
after a grace the child is killed, and the attempt ends as it was asked to, with the last checkpoint it has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobs.protocol import Ending

log = logging.getLogger(__name__)

ENDING_OF: dict[str, Ending] = {"drain": "released", "pause": "paused", "cancel": "cancelled"}
"""Commands that end an attempt and how it then ended; a later one here outranks those before it."""

RANKS = tuple(ENDING_OF)
SIGNS_OF_LIFE = frozenset({"checkpointing", "finalizing"})
"""Phases that show that a child told to stop is about it."""


@dataclass(frozen=True)
class Graces:
    """How long a child may take, in seconds.

    Attributes:
        react_seconds: from a command that ends the attempt to the first sign that it was heard, or to the end.
        save_seconds: from that sign to the end.
        exit_seconds: from its last message to its exit.
    """

    react_seconds: float = 25.0
    save_seconds: float = 600.0
    exit_seconds: float = 10.0


class Orders:
    """Commands on their way to one child.

    Args:
        send: hands a message to the child.
        kill: ends it.
        graces: how long it may take.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None], kill: Callable[[], None], graces: Graces) -> None:
        self._send = send
        self._kill = kill
        self._graces = graces
        self._begun = False
        self._waiting: list[dict[str, Any]] = []
        self._sequences: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._hurried = False
        self.stop: str | None = None
        """The command that ends the attempt, once there is one."""
        self.stopping = asyncio.Event()
        self.overdue = False
        """Whether the child was killed because it did not obey."""

    @property
    def ending(self) -> Ending:
        """How the attempt ends once it has been told to stop."""
        return ENDING_OF[self.stop or "drain"]

    def give(self, command: str, *, save: bool, sequence: int = 0) -> None:
        """Pass a command on; before `begin` it waits.

        Args:
            command: `checkpoint`, or a key of `ENDING_OF`.
            save: whether a last checkpoint is wanted.
            sequence: the service's number of it, 0 for the agent's own.
        """
        self._sequences[command] = max(sequence, self._sequences.get(command, 0))
        if command in ENDING_OF and not self._outranks(command):
            return
        message = {"type": "command", "command": command, "save": save}
        self._pass_on(message)
        if command in ENDING_OF:
            self.stop = command
            self.stopping.set()
            self._allow(self._graces.react_seconds)

    def profile(self, num_steps: int, *, memory: bool) -> None:
        """Pass on that a trace is wanted, whatever else is to be done; before `begin` it waits."""
        self._pass_on({"type": "profile", "num_steps": num_steps, "memory": memory})

    def hurry(self) -> None:
        """The agent itself has little time: signs of life gain the child none."""
        self._hurried = True

    def begin(self) -> None:
        """The child has its start message: pass on what has waited."""
        self._begun = True
        for message in self._waiting:
            self._send(message)
        self._waiting.clear()

    def hear_phase(self, phase: str) -> None:
        """The child has entered a phase."""
        if self.stop is not None and phase in SIGNS_OF_LIFE and not self._hurried:
            self._allow(self._graces.save_seconds)

    def handled(self, command: str) -> int:
        """The child has carried a command out. Gives the service's number of it, 0 if it has none."""
        return self._sequences.get(command, 0)

    def close(self) -> None:
        """The child has ended: no grace runs any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pass_on(self, message: dict[str, Any]) -> None:
        if self._begun:
            self._send(message)
        else:
            self._waiting.append(message)

    def _outranks(self, command: str) -> bool:
        return self.stop is None or RANKS.index(command) > RANKS.index(self.stop)

    def _allow(self, seconds: float) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        log.warning("the child did not obey %r in time and is killed", self.stop)
        self.overdue = True
        self._kill()
