"""How much one key or address may ask for: token buckets and counters in this process, so each replica allows as much."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from service.domain.errors import TooMany

MOST_BUCKETS = 10_000


@dataclass
class _Bucket:
    left: float
    at: float


class Buckets:
    """A bucket for each name: it holds `size` tokens and gets `per_second` new ones. Used by the event loop alone.

    Args:
        per_second: new tokens; 0 sets no bound at all.
        size: how many a full bucket holds.
        clock: seconds that only go up.
    """

    def __init__(self, per_second: float, size: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._size, self._clock = per_second, size, clock
        self._buckets: dict[str, _Bucket] = {}

    def wait_seconds(self, name: str) -> float:
        """How long until a token is there; 0 if one is."""
        bucket = self._filled(name)
        return 0.0 if bucket is None or bucket.left >= 1 else (1 - bucket.left) / self._per_second

    def take(self, name: str) -> None:
        """Take a token, whether or not one is there."""
        bucket = self._filled(name)
        if bucket is not None:
            bucket.left = max(0.0, bucket.left - 1)

    def _filled(self, name: str) -> _Bucket | None:
        if self._per_second == 0:
            return None
        now = self._clock()
        bucket = self._buckets.get(name)
        if bucket is None:
            self._prune(now)
            bucket = self._buckets[name] = _Bucket(self._size, now)
        bucket.left = min(self._size, bucket.left + (now - bucket.at) * self._per_second)
        bucket.at = now
        return bucket

    def _prune(self, now: float) -> None:
        """Forget buckets that are full again, once there are many; and all, should that not help."""
        if len(self._buckets) < MOST_BUCKETS:
            return
        full = self._size / self._per_second
        self._buckets = {name: bucket for name, bucket in self._buckets.items() if now - bucket.at < full}
        if len(self._buckets) >= MOST_BUCKETS:
            self._buckets.clear()


class Streams:
    """Counts what each key holds open."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    def open(self, name: str) -> int:
        """How many a name holds."""
        return self._open[name]

    @contextmanager
    def holding(self, name: str) -> Generator[None]:
        """Hold one for the length of a block.

        Raises:
            TooMany: the name holds as many as it may.
        """
        if self._open[name] >= self._most:
            raise TooMany(f"This key holds {self._most} streams open, which is all it may. Close one first.", 10.0)
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]
