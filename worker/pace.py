"""How fast a run goes: seconds a step, how much of them is waiting for data, and a word when that is too much."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

MOST_STEPS = 10_000
"""Percentiles are over so many of the latest blocks."""

WINDOW_STEPS = 50
WINDOW_SECONDS = 5.0
"""The data wait is judged over at least so many steps and so much time."""

TOO_MUCH = 1 / 3
HINT = (
    "The devices wait for their input. Upload the data in a format that is read faster (npz or Parquet rather than CSV or JSON "
    "Lines), take larger batches, or give the worker more processor cores."
)


class Pace:
    """Times blocks: `begin`, `fetched`, `done`, two clock calls and one more.

    Args:
        event: told once if input is the bottleneck: (type, data).
        clock: monotonic seconds.
    """

    def __init__(self, event: Callable[..., None], clock: Callable[[], float] = time.monotonic) -> None:
        self._event, self._clock = event, clock
        self._each: deque[float] = deque(maxlen=MOST_STEPS)
        self._begun = self._fetched_at = 0.0
        self._unlogged: list[float] = []
        self._window = [0.0, 0.0, 0]
        self._first, self._warned = True, False
        self.steps = 0
        """Steps timed so far; the first block, in which everything starts, is none of them."""

    def begin(self) -> None:
        """A block begins with fetching its data."""
        self._begun = self._clock()

    def fetched(self) -> float:
        """Its data is there. Gives the seconds waited for it."""
        self._fetched_at = self._clock()
        waited = self._fetched_at - self._begun
        self._unlogged.append(waited)
        return waited

    def done(self, steps: int, step: int) -> None:
        """It has been dispatched, and the devices are not too far behind.

        Args:
            steps: how many steps it has.
            step: the step it reaches.
        """
        if self._first:
            self._first = False
            return
        seconds = self._clock() - self._begun
        self.steps += steps
        self._each.append(seconds / max(steps, 1))
        self._judge(steps, step, seconds, self._fetched_at - self._begun)

    def wait_since_logged(self) -> float:
        """Mean seconds of waiting for data in a block since this was last asked."""
        waits, self._unlogged = self._unlogged, []
        return sum(waits) / len(waits) if waits else 0.0

    def percentiles(self) -> dict[str, float] | None:
        """p50 and p95 of seconds a step; None before the second block."""
        if not self._each:
            return None
        p50, p95 = np.percentile(np.asarray(self._each), [50, 95])
        return {"p50": round(float(p50), 6), "p95": round(float(p95), 6)}

    def _judge(self, steps: int, step: int, seconds: float, waited: float) -> None:
        if self._warned:
            return
        self._window = [self._window[0] + seconds, self._window[1] + waited, self._window[2] + steps]
        total, waiting, count = self._window
        if total < WINDOW_SECONDS or count < WINDOW_STEPS:
            return
        self._window = [0.0, 0.0, 0]
        if waiting > TOO_MUCH * total:
            self._warned = True
            told: dict[str, Any] = {"step": step, "data_wait_seconds": round(waiting / count, 6)}
            self._event("input.bottleneck", **told, step_seconds=round(total / count, 6), hint=HINT)
