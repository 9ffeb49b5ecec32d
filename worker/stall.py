"""Seeing that an attempt comes on. Its beats say only that its agent lives; a child may hang while they go on."""

from __future__ import annotations

import asyncio
import logging

from jobs.errors import InfraFault
from jobs.protocol import STALL_PATIENCE
from jobs.states import STEPPING
from worker.lease import Standing

log = logging.getLogger(__name__)

LOOKS = 20
MOST_TICK_SECONDS = 5.0
LAST_WORDS_SECONDS = 1.0
"""How long the child has to write its stacks into its log: its signal handler does so at once if anything still runs there."""


class Watchdog:
    """Counts how long an attempt stands still.

    Its own ticks are counted and no clock is read: the time in which this process was stopped proves nothing against its child.

    Args:
        standing: of the attempt.
        stall_seconds: how long a step may take.
    """

    def __init__(self, standing: Standing, stall_seconds: float) -> None:
        self._standing = standing
        self._stall_seconds = stall_seconds

    async def stalled(self) -> InfraFault:
        """Return when the attempt has stood still for too long; gives what its end shall say."""
        tick = min(MOST_TICK_SECONDS, self._stall_seconds / LOOKS)
        moves, still = self._standing.moves, 0.0
        while still < self._limit_seconds:
            await asyncio.sleep(tick)
            still = still + tick if self._standing.moves == moves else 0.0
            moves = self._standing.moves
        standing = self._standing
        message = f"Nothing moved for {still:.0f} s at step {standing.step} ({standing.phase}); the stacks are in the log."
        log.warning("%s", message)
        return InfraFault("stalled", message)

    @property
    def _limit_seconds(self) -> float:
        return self._stall_seconds if self._standing.phase in STEPPING else STALL_PATIENCE * self._stall_seconds
