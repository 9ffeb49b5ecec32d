"""A running job in sight: what has come in so far, as one line or as a panel that is drawn in place."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jobs.states import Status
from meshyard.cli.views.tables import pairs, status_text
from meshyard.cli.views.words import count, duration, number
from meshyard.models import Event, Job, Metrics

WINDOW_SECONDS = 30.0
SHOWN = {"train/loss": "loss", "eval/loss": "eval loss", "r_hat/max": "R-hat", "ess_bulk/min": "ESS"}
CHAIN_COLUMNS = {"divergences": "divergences", "step_size": "step size", "accept_prob": "acceptance"}
MARK_OF_STATUS = {"succeeded": "✓", "failed": "✗", "cancelled": "■"}

Point = tuple[int, float]


class Rate:
    """Steps a second over the last half minute.

    Args:
        clock: seconds, rising.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, step: int) -> None:
        """A job is at this step now."""
        now = self._clock()
        if self._seen and step < self._seen[-1][1]:
            self._seen.clear()  # the job went back to a checkpoint
        if not self._seen or step > self._seen[-1][1]:
            self._seen.append((now, step))
        while len(self._seen) > 2 and now - self._seen[0][0] > WINDOW_SECONDS:
            self._seen.popleft()

    def value(self) -> float | None:
        """Steps a second; None as long as there is too little to tell."""
        if len(self._seen) < 2:
            return None
        (begin, first), (end, last) = self._seen[0], self._seen[-1]
        return (last - first) / (end - begin) if end > begin else None


def _status_after(kind: str) -> str | None:
    """The status that a job has after an event; None if the event says nothing of it."""
    prefix, _, word = kind.partition(".")
    if prefix == "job" and word in set(Status):
        return word
    return {"attempt.started": "running", "job.requeued": "queued", "job.resumed": "queued"}.get(kind)


class JobView:
    """What is known of a job that is being followed. May be fed and drawn from different threads.

    Args:
        job: as it stood at the start.
        clock: seconds, rising.
    """

    def __init__(self, job: Job, clock: Callable[[], float] = time.monotonic) -> None:
        self.job = job
        self._lock = threading.Lock()
        self._rate = Rate(clock)
        self._latest: dict[str, Point] = {}
        self._chains: dict[str, dict[str, Point]] = {}
        self._checkpoint: int | None = None
        self._attempt = job.attempt
        self._step = job.progress.step or 0

    def take_job(self, job: Job) -> None:
        """The job as it stands now."""
        with self._lock:
            self.job = job
            self._attempt = job.attempt or self._attempt
            if job.progress.step is not None:
                self._move(job.progress.step)

    def take_event(self, event: Event) -> None:
        """Something happened."""
        with self._lock:
            if event.type == "checkpoint.committed":
                self._checkpoint = event.data.get("step", self._checkpoint)
            elif event.type == "attempt.started":
                self._attempt = event.data.get("number", self._attempt)
                self._step = event.data.get("resumed_from") or 0
            status = _status_after(event.type)
            if status is not None:
                self.job = self.job.model_copy(update={"status": status, "phase": None})

    def take_metrics(self, metrics: Metrics) -> None:
        """New points."""
        with self._lock:
            for series in metrics.series:
                points = series.points()
                if not points:
                    continue
                chain = series.labels.get("chain")
                place = self._latest if chain is None else self._chains.setdefault(chain, {})
                place[series.name] = points[-1]
                self._move(points[-1][0])

    def _move(self, step: int) -> None:
        # What the job says lags behind its metrics, and an evaluation's step behind the training's: neither is a way back.
        if step >= self._step:
            self._step = step
            self._rate.note(step)

    @property
    def _total(self) -> int:
        return self.job.progress.total or 0

    @property
    def _unit(self) -> str:
        return self.job.progress.unit or "step"

    def figures(self) -> list[str]:
        """What is worth telling, most important first."""
        found = [f"{label} {number(self._latest[name][1])}" for name, label in SHOWN.items() if name in self._latest]
        rate = self._rate.value()
        if rate and self.job.status == "running":
            found.append(f"{number(rate, 3)} {self._unit}/s")
            if self._total > self._step:
                found.append(f"ETA {duration((self._total - self._step) / rate)}")
        if self._checkpoint is not None:
            found.append(f"ckpt {self._checkpoint:,} ✓")
        return found

    def line(self) -> str:
        """All of it on one line."""
        with self._lock:
            share = f" {100 * self._step // self._total}%" if self._total else ""
            place = f"{self._unit} {self._step:,}/{count(self._total)}{share}"
            return "  ".join([self._headline(), place, *self.figures(), *self._chain_lines()])

    def event_line(self, event: Event) -> str:
        """An event on one line."""
        at = event.created_at.astimezone().strftime("%H:%M:%S") if event.created_at else ""
        return f"{at} {event.type}  {pairs(event.data)}".rstrip()

    def render(self) -> RenderableType:
        """All of it, for drawing in place."""
        with self._lock:
            bar = Table.grid(padding=(0, 1))
            drawn = ProgressBar(total=max(self._total, 1), completed=min(self._step, max(self._total, 1)), width=24)
            share = f"{100 * self._step // self._total}%" if self._total else ""
            bar.add_row(f" {self._unit} {self._step:,}/{count(self._total)}", drawn, share, Text("  ".join(self.figures())))
            head = Text(self.job.name or self.job.id, style="bold").append("  ").append_text(self._state())
            return Group(head, bar, *([self._chain_table()] if self._chains else []))

    def _state(self) -> Text:
        text = status_text(self.job.status, self.job.phase)
        if self._attempt:
            text.append(f"  attempt {self._attempt}", style="dim")
        if self.job.status == "queued" and self.job.reason:
            text.append(f"  {self.job.reason}", style="dim")
        return text

    def _headline(self) -> str:
        return f"{self.job.name or self.job.id}  {self._state().plain}"

    def _rows(self) -> list[tuple[str, int, dict[str, Point]]]:
        # Chains are numbered, so ten comes after nine.
        order = sorted(self._chains, key=lambda name: (len(name), name))
        return [(name, max(step for step, _ in self._chains[name].values()), self._chains[name]) for name in order]

    def _chain_table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, step, values in self._rows():
            cells = (f"{number(values[key][1])} {label}" if key in values else "" for key, label in CHAIN_COLUMNS.items())
            table.add_row(f" chain {name}", f"{step:,} draws", *cells)
        return table

    def _chain_lines(self) -> list[str]:
        found: list[str] = []
        for name, step, values in self._rows():
            cells = [f"{number(values[key][1])} {label}" for key, label in CHAIN_COLUMNS.items() if key in values]
            found.append(f"chain {name}: {', '.join([f'{step:,} draws', *cells])}")
        return found


def ending(job: Job) -> str:
    """The last line on a job that has been followed."""
    mark = MARK_OF_STATUS.get(job.status, "·")
    ran = ""
    if job.started_at and job.finished_at:
        ran = f" after {duration((job.finished_at - job.started_at).total_seconds())}"
    why = f": {job.reason}" if job.reason else ""
    return f"{mark} {job.name or job.id} {job.status}{ran}{why}"
