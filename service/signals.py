"""Wake-up calls inside one process: a hint that something changed, never the news itself.

Whoever waits looks at the database when woken, and also every `poll_seconds`, so a hint that is lost (another replica's write, say)
costs a little time and nothing else. A waiter holds neither a thread nor a connection.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager

QUEUE = "queue"


class Signals:
    """Topics to wait on and to wake. Waiting is for the event loop; waking is for any thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
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
        for topic in topics:
            for future in self._waiters.get(topic, ()):
                if not future.done():
                    future.set_result(None)
