"""What a worker keeps for later jobs, bounded: the least recently used goes first, and nothing that a running attempt uses.

Downloaded data, texts as tokens and compiled programs only save time. An entry counts as used when it was last read or written, as
the file system says; whatever was used since the oldest running attempt began is left alone.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

SLACK_SECONDS = 2.0
"""File systems round instants, and an attempt's data is looked at just before it begins."""


@dataclass(frozen=True)
class Entry:
    """A file or a folder that goes as one.

    Attributes:
        used_at: when it was last used, in seconds since the epoch.
    """

    path: Path
    bytes: int
    used_at: float


class Caches:
    """The entries of some folders, together no larger than a limit.

    Args:
        folders: whose children are the entries.
        limit_bytes: how much they may take together.
    """

    def __init__(self, folders: Sequence[Path], limit_bytes: float) -> None:
        self._folders = tuple(folders)
        self._limit_bytes = limit_bytes
        self._running: list[float] = []

    @contextmanager
    def in_use(self) -> Generator[None]:
        """While inside, what is used from now on stays."""
        began = time.time() - SLACK_SECONDS
        self._running.append(began)
        try:
            yield
        finally:
            self._running.remove(began)

    def evict(self) -> list[Path]:
        """Delete what has not been used for longest until the rest is within the limit; gives what has gone. Blocks."""
        entries = sorted(self._entries(), key=lambda entry: entry.used_at)
        excess = sum(entry.bytes for entry in entries) - self._limit_bytes
        safe_from = min(self._running, default=float("inf"))
        gone: list[Path] = []
        for entry in entries:
            if excess <= 0 or entry.used_at >= safe_from:
                break
            _delete(entry.path)
            excess -= entry.bytes
            gone.append(entry.path)
        if gone:
            log.info("deleted %d kept files that were not used for longest", len(gone))
        return gone

    def _entries(self) -> Iterator[Entry]:
        for folder in self._folders:
            for path in folder.iterdir() if folder.is_dir() else ():
                with suppress(OSError):  # it may go while it is looked at
                    yield _measured(path)


def _measured(path: Path) -> Entry:
    found = [each.stat() for each in _files(path)]
    own = path.stat()
    used_at = max(own.st_mtime, *(max(each.st_atime, each.st_mtime) for each in found)) if found else own.st_mtime
    return Entry(path, sum(each.st_size for each in found), used_at)


def _files(path: Path) -> Iterable[Path]:
    return (each for each in path.rglob("*") if each.is_file()) if path.is_dir() else (path,)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
