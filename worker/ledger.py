"""Where an attempt's time went: seconds by phase, which sum to its wall time because one phase ends where the next begins."""

from __future__ import annotations

import time
from collections import defaultdict


class Ledger:
    """A stopwatch with one hand.

    Args:
        phase: what the process is doing from the start.
    """

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self._since = time.perf_counter()
        self._spent: dict[str, float] = defaultdict(float)

    def enter(self, phase: str) -> bool:
        """Go on to another phase. Tells whether it is another."""
        if phase == self.phase:
            return False
        self._close()
        self.phase = phase
        return True

    def seconds(self) -> dict[str, float]:
        """Seconds spent in each phase so far."""
        self._close()
        return {phase: round(spent, 6) for phase, spent in self._spent.items()}

    def _close(self) -> None:
        now = time.perf_counter()
        self._spent[self.phase] += now - self._since
        self._since = now
