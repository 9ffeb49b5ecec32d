"""The right to run one attempt, kept by beats.

Beats are a task of their own: they wait for no child, no disk and no upload. Only the service can end a lease. While it cannot be
reached the attempt goes on, even past the lease's time: most likely nobody else has taken it, and the fence tells whoever has.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from jobs.protocol import Beat, Heartbeat, Window
from jobs.states import Phase
from worker.api import Refused, Service, Unreachable
from worker.backoff import Backoff

log = logging.getLogger(__name__)

MOST_BEAT_SECONDS = 5.0


@dataclass
class Standing:
    """Where an attempt stands: what its beats say.

    Attributes:
        handled: sequence of the last command carried out.
        profiled: sequence of the last trace that was passed on.
        seconds: by phase, as its child last told.
        moves: how often it has come further: a step, another phase.
    """

    step: int = 0
    phase: Phase = Phase.ASSIGNED
    last_step_at: str | None = None
    handled: int = 0
    profiled: int = 0
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    moves: int = 0
    _told_at: float = 0.0

    def advance(self, step: int) -> None:
        """A step is done. Steps never go back within an attempt."""
        if step > self.step:
            self.step = step
            self.moves += 1
            self.last_step_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def enter(self, phase: str) -> None:
        """A phase begins. One that this version does not know leaves the old one standing."""
        self.moves += 1
        with suppress(ValueError):
            self.phase = Phase(phase)

    def spend(self, seconds: dict[str, float]) -> None:
        """The child has told where its time went."""
        self.seconds, self._told_at = seconds, time.monotonic()

    def seconds_until_now(self) -> dict[str, float]:
        """Where a child's time went that has told no more of it: what has passed since belongs to the phase it was in."""
        if not self.seconds:
            return {}
        phase = self.phase.value
        return self.seconds | {phase: self.seconds.get(phase, 0.0) + time.monotonic() - self._told_at}


class Lease:
    """Beats of one attempt.

    Args:
        service: who is told.
        attempt_id, fence, lease_seconds: as claimed.
        standing: what to tell; read at each beat.
        on_command: called with each answer that asks for something, once for each sequence.
        on_profile: called with each trace that is wanted, once for each sequence.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        service: Service,
        attempt_id: str,
        fence: int,
        lease_seconds: float,
        standing: Standing,
        on_command: Callable[[Beat], None],
        on_profile: Callable[[Window], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._attempt_id = attempt_id
        self._fence = fence
        self._lease_seconds = lease_seconds
        self._standing = standing
        self._on_command = on_command
        self._on_profile = on_profile
        self._clock = clock
        self._expires_at = clock() + lease_seconds
        self._sequence = 0
        self._soon = asyncio.Event()

    @property
    def expired(self) -> bool:
        """Whether the lease has surely run out, by this machine's clock."""
        return self._clock() > self._expires_at

    def beat_soon(self) -> None:
        """Do not wait for the next regular beat: there is something to tell."""
        self._soon.set()

    async def keep(self) -> None:
        """Beat for ever.

        Raises:
            AttemptSuperseded: the lease is held no more.
        """
        backoff = Backoff(first_seconds=min(0.2, self._interval), most_seconds=self._interval)
        while True:
            await self._pause(backoff.next_seconds() if backoff.waiting else self._interval)
            try:
                await self._beat()
            except (Unreachable, Refused) as error:
                if not backoff.waiting:
                    log.warning("heartbeat of %s: %s; going on and trying again", self._attempt_id, error)
                backoff.next_seconds()
            else:
                backoff.reset()

    @property
    def _interval(self) -> float:
        return min(self._lease_seconds / 3, MOST_BEAT_SECONDS)

    async def _beat(self) -> None:
        standing = self._standing
        sent_at = self._clock()
        beat = await self._service.heartbeat(
            self._attempt_id,
            Heartbeat(
                fence=self._fence,
                step=standing.step,
                phase=standing.phase,
                last_step_at=standing.last_step_at,
                handled=standing.handled,
                profiled=standing.profiled,
                seconds=standing.seconds,
            ),
        )
        self._lease_seconds = beat.lease_seconds
        # Counted from when the beat was sent: the service can only have renewed it later than that.
        self._expires_at = sent_at + beat.lease_seconds
        if beat.command != "continue" and beat.sequence > self._sequence:
            self._sequence = beat.sequence
            self._on_command(beat)
        if beat.profile is not None and beat.profile.sequence > standing.profiled:
            standing.profiled = beat.profile.sequence
            self._on_profile(beat.profile)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._soon.wait()
        self._soon.clear()
