"""Wake-up calls inside one process: a hint that something changed, never the news itself.

Whoever waits looks at the database when woken, and also every `poll_seconds`, so a hint that is lost (another replica's write, say)
costs a little time and nothing else. A waiter holds neither a thread nor a connection.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

QUEUE = "queue"
Found = TypeVar("Found")


class Signals:
    """Topics to wait on and to wake. Waiting is for the event loop; waking is for any thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._wakes: Counter[str] = Counter()
        self.closing = False

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Name the loop that waits; called once when the application starts."""
        self._loop = loop

    def wake(self, *topics: str) -> None:
        """Wake all who wait on these topics (`QUEUE`, or a job's id). Safe from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._release, topics)

    def close(self) -> None:
        """Let every waiter go, now and from now on: the server is stopping."""
        self.closing = True
        self.wake(*list(self._waiters))

    def listen(self, topic: str) -> asyncio.Future[None]:
        """Begin to listen. Listen first, look at the database second, wait third: no wake-up falls between."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[topic].add(future)
        return future

    def wakes(self, topic: str) -> int:
        """How often a topic has been woken."""
        return self._wakes[topic]

    def waiting(self, topic: str) -> int:
        """How many listen to a topic just now."""
        return len(self._waiters.get(topic, ()))

    async def wait(self, topic: str, future: asyncio.Future[None], seconds: float) -> None:
        """Wait until the topic is woken, the time is up, or the server stops."""
        try:
            if not self.closing:
                await asyncio.wait([future], timeout=seconds)
        finally:
            self.forget(topic, future)

    @contextmanager
    def hearing(self, topic: str) -> Generator[asyncio.Future[None]]:
        """Listen for the length of a block, however it ends."""
        future = self.listen(topic)
        try:
            yield future
        finally:
            self.forget(topic, future)

    def forget(self, topic: str, future: asyncio.Future[None]) -> None:
        """Stop listening."""
        waiters = self._waiters.get(topic)
        if waiters is not None:
            waiters.discard(future)
            if not waiters:
                del self._waiters[topic]

    def _release(self, topics: tuple[str, ...]) -> None:
        self._wakes.update(topics)
        for topic in topics:
            for future in self._waiters.get(topic, ()):
                if not future.done():
                    future.set_result(None)


class Lookout:
    """Spares a crowd that waits for the same thing from all looking for it at once.

    A few look at a time. Who finds nothing at all there looks for all: those behind, woken no later than that look began, need not.

    Args:
        signals: whose wakes count.
        topic: what the crowd waits on.
        fresh_seconds: how long such a finding holds where no wake contradicts it.
    """

    AT_ONCE = 4

    def __init__(self, signals: Signals, topic: str, fresh_seconds: float) -> None:
        self._signals = signals
        self._topic = topic
        self._fresh_seconds = fresh_seconds
        self._turns = asyncio.Semaphore(self.AT_ONCE)
        self._quiet_at = (-1, 0.0)

    async def look(self, looking: Callable[[], Awaitable[tuple[Found | None, bool]]]) -> Found | None:
        """Look, or learn that there is nothing to see.

        Args:
            looking: gives what it found for this one, and whether there is nothing for anybody.
        """
        woken = self._signals.wakes(self._topic)
        async with self._turns:
            wakes, instant = self._quiet_at
            if woken <= wakes and asyncio.get_running_loop().time() < instant + self._fresh_seconds:
                return None
            began = (self._signals.wakes(self._topic), asyncio.get_running_loop().time())
            found, is_quiet = await looking()
            if is_quiet:
                self._quiet_at = began
            return found
