"""Trying again until the service can be reached: how long to wait, and what to say meanwhile."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from worker.api import Unreachable

T = TypeVar("T")
log = logging.getLogger(__name__)


class Backoff:
    """Growing waits with jitter, so that many workers do not come back in step.

    Args:
        first_seconds: about the first wait.
        most_seconds: no wait is longer.
    """

    def __init__(self, first_seconds: float = 0.1, most_seconds: float = 5.0) -> None:
        self._first = first_seconds
        self._most = most_seconds
        self._tries = 0

    @property
    def waiting(self) -> bool:
        """Whether the last try failed."""
        return self._tries > 0

    def next_seconds(self) -> float:
        """The next wait: between half and all of a span that doubles each time."""
        span = min(self._most, self._first * 2 ** min(self._tries, 30))
        self._tries += 1
        return span * random.uniform(0.5, 1.0)  # noqa: S311  jitter, not a secret

    def reset(self) -> None:
        """Begin again with the first wait: it worked."""
        self._tries = 0


async def persist(call: Callable[[], Awaitable[T]], what: str) -> T:
    """Await `call()` again and again until the service can be reached.

    Args:
        call: makes one try; may be called any number of times.
        what: what is being tried, for the log, such as "report".

    Raises:
        Refused, AttemptSuperseded: the service answered, and said no.
    """
    backoff = Backoff()
    while True:
        try:
            answer = await call()
        except Unreachable as error:
            if not backoff.waiting:
                log.warning("%s: %s; trying again", what, error)
            await asyncio.sleep(backoff.next_seconds())
            continue
        if backoff.waiting:
            log.info("%s: the service is back", what)
        return answer
