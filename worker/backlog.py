"""Sealed batches that wait for the service: the first few in memory, the rest in a file."""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)

LENGTH_BYTES = 8


class Backlog:
    """A queue of byte strings whose memory is bounded.

    Args:
        path: file for what does not fit; made when needed, deleted by `close`.
        most_bytes: what memory may hold.
    """

    def __init__(self, path: Path, most_bytes: int = 16 * 1024 * 1024) -> None:
        self._path = path
        self._most = most_bytes
        self._head: deque[bytes] = deque()
        self._held_bytes = 0
        self._file: BinaryIO | None = None
        self._read_at = 0
        self._write_at = 0

    def __bool__(self) -> bool:
        return bool(self._head)

    @property
    def held_bytes(self) -> int:
        """Bytes in memory."""
        return self._held_bytes

    @property
    def spilled_bytes(self) -> int:
        """Bytes in the file that have not been read back."""
        return self._write_at - self._read_at

    def push(self, body: bytes) -> None:
        """Add to the end."""
        fits = self._held_bytes + len(body) <= self._most or not self._head
        if (fits and not self.spilled_bytes) or not self._spill(body):
            self._hold(body)

    def first(self) -> bytes:
        """The first one, which stays. Raises IndexError if there is none."""
        return self._head[0]

    def pop(self) -> None:
        """Drop the first one; what was spilled moves up."""
        self._held_bytes -= len(self._head.popleft())
        while self.spilled_bytes and (not self._head or self._held_bytes < self._most // 2):
            self._hold(self._read_back())
        if self._file is not None and not self.spilled_bytes:
            self._file.truncate(0)
            self._read_at = self._write_at = 0

    def close(self) -> None:
        """Forget everything, the file too."""
        self._head.clear()
        self._held_bytes = self._read_at = self._write_at = 0
        if self._file is not None:
            self._file.close()
            self._file = None
            self._path.unlink(missing_ok=True)

    def _hold(self, body: bytes) -> None:
        self._head.append(body)
        self._held_bytes += len(body)

    def _spill(self, body: bytes) -> bool:
        """Write to the file. False where the disk will not have it and order allows to keep it in memory."""
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("w+b", buffering=0)
            self._file.seek(self._write_at)
            self._write_whole(self._file, len(body).to_bytes(LENGTH_BYTES, "big") + body)
        except OSError as error:
            if self.spilled_bytes:
                raise
            log.warning("reports wait in memory, because %s cannot be written: %s", self._path, error)
            return False
        self._write_at += LENGTH_BYTES + len(body)
        return True

    @staticmethod
    def _write_whole(file: BinaryIO, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]

    def _read_back(self) -> bytes:
        file = self._file
        if file is None:
            raise IndexError("nothing was spilled")
        file.seek(self._read_at)
        length = int.from_bytes(file.read(LENGTH_BYTES), "big")
        body = bytearray()
        while len(body) < length:
            body += file.read(length - len(body))
        self._read_at += LENGTH_BYTES + length
        return bytes(body)
