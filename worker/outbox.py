"""What an attempt has to tell the service, in numbered batches.

Everything put here leaves in the order it came. A batch is sealed once, then sent unchanged until the service has taken it, and
only then the next. Putting never waits: what the service cannot take yet is kept, in memory first, then in a file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from jobs.protocol import Committed, File, Happened, Report, Series
from worker.api import Service
from worker.backlog import Backlog
from worker.backoff import persist
from worker.messages import Nonfinite, Value

MOST_POINTS = 20_000
MOST_SERIES = 5_000
MOST_EVENTS = 1_000
MOST_CHARACTERS = 500_000


@dataclass
class Column:
    """Points of one metric, by column."""

    steps: list[int] = field(default_factory=list[int])
    values: list[float | None] = field(default_factory=list[float | None])
    nonfinite: dict[str, Nonfinite] = field(default_factory=dict[str, Nonfinite])

    def add(self, steps: Sequence[int], values: Sequence[Value]) -> None:
        """Add points."""
        for i, value in enumerate(values, start=len(self.values)):
            if isinstance(value, str):
                self.nonfinite[str(i)] = value
        self.steps.extend(steps)
        self.values.extend(None if isinstance(value, str) else value for value in values)


@dataclass
class Draft:
    """The batch that is being filled."""

    columns: dict[tuple[str, tuple[tuple[str, str], ...]], Column] = field(
        default_factory=dict[tuple[str, tuple[tuple[str, str], ...]], Column]
    )
    logs: list[str] = field(default_factory=list[str])
    checkpoints: list[Committed] = field(default_factory=list[Committed])
    artifacts: list[File] = field(default_factory=list[File])
    events: list[Happened] = field(default_factory=list[Happened])
    points: int = 0
    characters: int = 0

    @property
    def empty(self) -> bool:
        """Whether nothing has been put in."""
        return not (self.columns or self.logs or self.checkpoints or self.artifacts or self.events)

    @property
    def full(self) -> bool:
        """Whether it must be sealed before more comes."""
        crowded = len(self.columns) >= MOST_SERIES or len(self.events) >= MOST_EVENTS
        return crowded or self.points >= MOST_POINTS or self.characters >= MOST_CHARACTERS

    def add_metrics(self, steps: Sequence[int], labels: Mapping[str, str], values: Mapping[str, Sequence[Value]]) -> None:
        """Add values at steps, by column."""
        key = tuple(sorted(labels.items()))
        for name, column in values.items():
            self.columns.setdefault((name, key), Column()).add(steps, column)
        self.points += len(values) * len(steps)

    def add_log(self, text: str) -> None:
        """Add a piece of the log."""
        self.logs.append(text)
        self.characters += len(text)

    def seal(self, fence: int, batch: int) -> bytes:
        """The batch as it goes over the wire."""
        series = [
            Series(name=name, labels=dict(labels), steps=column.steps, values=column.values, nonfinite=column.nonfinite)
            for (name, labels), column in self.columns.items()
        ]
        report = Report(
            fence=fence,
            batch=batch,
            series=series,
            logs="".join(self.logs),
            checkpoints=self.checkpoints,
            artifacts=self.artifacts,
            events=self.events,
        )
        return report.model_dump_json().encode()


class Outbox:
    """The way out for one attempt's metrics, logs, checkpoints and events.

    Args:
        service: where batches go.
        attempt_id, fence: whose they are.
        backlog: where sealed batches wait.
        on_committed: awaited with the step of each checkpoint that the service has taken.
        every_seconds: how long a batch is filled before it is sent.
    """

    def __init__(
        self,
        service: Service,
        attempt_id: str,
        fence: int,
        backlog: Backlog,
        on_committed: Callable[[int], Awaitable[None]],
        every_seconds: float = 1.0,
    ) -> None:
        self._service = service
        self._attempt_id = attempt_id
        self._fence = fence
        self._backlog = backlog
        self._on_committed = on_committed
        self._every_seconds = every_seconds
        self._draft = Draft()
        self._sealed = 0
        self._taken = 0
        self._steps: dict[int, list[int]] = {}
        self._filled = asyncio.Event()
        self._urgent = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def put_metrics(self, steps: Sequence[int], labels: Mapping[str, str], values: Mapping[str, Sequence[Value]]) -> None:
        """Put values at steps, by column."""
        self._draft.add_metrics(steps, labels, values)
        self._put()

    def put_log(self, text: str) -> None:
        """Put text of the log; NUL, which no database column takes, becomes the replacement character."""
        for start in range(0, len(text), MOST_CHARACTERS):
            self._draft.add_log(text[start : start + MOST_CHARACTERS].replace("\x00", "\ufffd"))
            self._put()

    def put_event(self, happened: Happened) -> None:
        """Put an event."""
        self._draft.events.append(happened)
        self._put()

    def put_artifacts(self, files: Sequence[File], happened: Happened) -> None:
        """Put files that are to be listed, with the event that tells of them."""
        self._draft.artifacts.extend(files)
        self.put_event(happened)

    def put_checkpoint(self, committed: Committed) -> None:
        """Put a checkpoint, which goes out at once."""
        self._draft.checkpoints.append(committed)
        self._urgent.set()
        self._put()

    async def deliver(self) -> None:
        """Send whatever is put, for ever.

        Raises:
            AttemptSuperseded: the service holds another attempt for the right one.
            Refused: the service will never take a batch.
        """
        while True:
            await self._filled.wait()
            await self._fill()
            self._filled.clear()
            self._urgent.clear()
            self._seal()
            await self._send_all()

    async def flush(self) -> None:
        """Send all that has been put so far without delay, and wait until it has been taken. `deliver` must be running."""
        if not self._empty.is_set():
            self._urgent.set()
            self._filled.set()
            await self._empty.wait()

    def close(self) -> None:
        """Forget what has not been taken."""
        self._backlog.close()

    def _put(self) -> None:
        if self._draft.full:
            self._seal()
        self._empty.clear()
        self._filled.set()

    async def _fill(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._every_seconds):
                await self._urgent.wait()

    def _seal(self) -> None:
        if self._draft.empty:
            return
        draft, self._draft = self._draft, Draft()
        self._sealed += 1
        if draft.checkpoints:
            self._steps[self._sealed] = [committed.step for committed in draft.checkpoints]
        self._backlog.push(draft.seal(self._fence, self._sealed))

    async def _send_all(self) -> None:
        while self._backlog:
            body = self._backlog.first()
            await persist(lambda body=body: self._service.report(self._attempt_id, body), "report")
            self._backlog.pop()
            self._taken += 1
            for step in self._steps.pop(self._taken, ()):
                await self._on_committed(step)
        if self._draft.empty:
            self._empty.set()
