"""The agent's own folder below the work folder.

Several workers may be given the same work folder, on several machines even: each takes the first room that no living process holds.
So whatever lies in a room has one owner, leftovers can be thrown away, and every compile cache has one writer.

    {work_dir}/{n}/lock
    {work_dir}/{n}/datasets/{sha256}          downloaded data, verified
    {work_dir}/{n}/encoded/{digest}/          texts as tokens, each made once
    {work_dir}/{n}/scratch/{attempt}/         what an attempt needs while it runs
    {work_dir}/{n}/compile-cache/{slot}/
"""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import BinaryIO

from jobs.errors import MeshyardError

MOST_ROOMS = 1024


class NoRoom(MeshyardError):
    """The work folder cannot be used."""


class Room:
    """A folder that this process alone uses, until it closes it or ends. Made by `take`."""

    def __init__(self, folder: Path, lock: BinaryIO) -> None:
        self.folder = folder
        self._lock = lock

    @classmethod
    def take(cls, work_dir: Path) -> Room:
        """Take the first free room and empty its scratch folder.

        Raises:
            NoRoom: the folder cannot be written, or all rooms are taken.
        """
        try:
            for number in range(MOST_ROOMS):
                lock = _lock(work_dir / str(number))
                if lock is not None:
                    room = cls(work_dir / str(number), lock)
                    shutil.rmtree(room.folder / "scratch", ignore_errors=True)
                    return room
        except OSError as error:
            raise NoRoom(f"the work folder {work_dir} cannot be used: {error.strerror}") from error
        raise NoRoom(f"the work folder {work_dir} has {MOST_ROOMS} workers already")

    @property
    def datasets(self) -> Path:
        """Downloaded data by digest."""
        return self._made("datasets")

    @property
    def encoded(self) -> Path:
        """Texts as tokens, by digest of text and tokenizer."""
        return self._made("encoded")

    def scratch(self, attempt_id: str) -> Path:
        """A folder for one attempt, deleted when it ends."""
        return self._made("scratch", attempt_id)

    def compile_cache(self, slot: int) -> Path:
        """The compiled programs of a slot, whose children come one after another."""
        return self._made("compile-cache", str(slot))

    def kept(self, slots: int) -> list[Path]:
        """The folders of what is kept for later jobs."""
        return [self.datasets, self.encoded, *(self.compile_cache(slot) for slot in range(slots))]

    def close(self) -> None:
        """Let another process have it."""
        self._lock.close()

    def _made(self, *names: str) -> Path:
        folder = self.folder.joinpath(*names)
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _lock(folder: Path) -> BinaryIO | None:
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock
