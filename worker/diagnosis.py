"""Why a child died that did not say so itself."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from jobs.protocol import Failure
from worker.child import Exit

OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|out of memory|std::bad_alloc|MemoryError", re.IGNORECASE)
CGROUP = Path("/sys/fs/cgroup")
MOST_LINE = 400


class Tail:
    """The last lines of a log.

    Args:
        most_lines: how many to keep.
    """

    def __init__(self, most_lines: int = 20) -> None:
        self._lines: deque[str] = deque(maxlen=most_lines)
        self._open = ""

    def feed(self, text: str) -> None:
        """The next piece of the log."""
        *lines, self._open = (self._open + text[-100_000:]).split("\n")
        self._lines.extend(line[-MOST_LINE:] for line in lines if line.strip())
        self._open = self._open[-MOST_LINE:]

    @property
    def text(self) -> str:
        """The lines, the unfinished one included."""
        return "\n".join([*self._lines, self._open] if self._open.strip() else self._lines).replace("\x00", "\ufffd")


class OutOfMemoryKills:
    """How many processes the kernel has killed for memory: of this control group where it counts, else of the whole machine.

    Args:
        sources: files with a line `oom_kill N`; the first that can be read is used.
    """

    def __init__(self, sources: Sequence[Path] | None = None) -> None:
        self._sources = (_own_events(), CGROUP / "memory.events", Path("/proc/vmstat")) if sources is None else sources
        self._before = self._count()

    def rose(self) -> bool:
        """Whether there have been more since this object was made."""
        return self._count() > self._before

    def _count(self) -> int:
        for source in self._sources:
            try:
                lines = source.read_text().splitlines()
            except OSError:
                continue
            counts = [int(line.split()[1]) for line in lines if line.startswith("oom_kill ")]
            if counts:
                return counts[0]
        return 0


def diagnose(end: Exit, tail: str, kills: OutOfMemoryKills) -> Failure:
    """The error of a job whose child went without a last word.

    Args:
        end: how its process ended.
        tail: the last lines of its log.
        kills: counted since the attempt began.
    """
    words = f"Its last lines:\n{tail}" if tail else "It had printed nothing."
    by_kernel = end.signal_name == "SIGKILL" and kills.rose()
    if by_kernel or _tells_of_memory(tail):
        how = "was killed by the kernel for memory" if by_kernel else "ran out of memory"
        advice = "Make the batch or the model smaller, or ask for more devices."
        return Failure(code="oom", message=f"The process {how}. {advice} {words}")
    if end.signal_name is not None:
        return Failure(code="child_killed", message=f"The process was ended by {end.signal_name}. {words}")
    return Failure(code="internal", message=f"The process ended with status {end.returncode} and no last word. {words}")


def _tells_of_memory(tail: str) -> bool:
    """Whether a line says that memory ran out. A full disk has the same word in its message."""
    return any(OUT_OF_MEMORY.search(line) and "No space left" not in line for line in tail.splitlines())


def _own_events() -> Path:
    """`memory.events` of the control group that this process, and so each child, belongs to."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    own = next((line.removeprefix("0::").lstrip("/") for line in lines if line.startswith("0::")), "")
    return CGROUP / own / "memory.events"
