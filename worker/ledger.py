"""Where an attempt's time went: seconds by phase, which sum to its wall time because one phase ends where the next begins."""

from __future__ import annotations

import time
from collections import defaultdict

DATA_WAIT = "data_wait"
"""Waiting for a batch: booked out of the phase that waits for it."""


class Ledger:
    """A stopwatch with one hand. One thread moves it; any may read it.

    Args:
        phase: what the process is doing from the start.
        since: when that began, by `time.monotonic`; None for now.
    """

    def __init__(self, phase: str, since: float | None = None) -> None:
        self.phase = phase
        self._since = time.monotonic() if since is None else since
        self._spent: dict[str, float] = defaultdict(float)

    def enter(self, phase: str) -> bool:
        """Go on to another phase. Tells whether it is another."""
        if phase == self.phase:
            return False
        now = time.monotonic()
        self._spent[self.phase] += now - self._since
        self._since = now
        self.phase = phase
        return True

    def book(self, part: str, seconds: float) -> None:
        """Book seconds of the phase that runs under a name of their own."""
        self._spent[part] += seconds
        self._spent[self.phase] -= seconds

    def seconds(self) -> dict[str, float]:
        """Seconds spent in each phase so far."""
        spent = dict(self._spent)
        spent[self.phase] = spent.get(self.phase, 0.0) + time.monotonic() - self._since
        return {phase: round(max(seconds, 0.0), 6) for phase, seconds in spent.items()}
