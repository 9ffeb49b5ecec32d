"""Where bytes are kept: one small interface, so that a local folder can become an object store without anyone else knowing.

Keys are relative POSIX paths that the service makes itself (`jobs/job_…/att_…/checkpoints/200/state/…`, `datasets/<sha256>`).
Text from a user only ever becomes the last parts of one, after `safe_key` has looked at it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

CHUNK_BYTES = 1024 * 1024
NAME_BYTES = 255
"""The longest file name that common file systems hold."""

KEY_BYTES = 3072
"""Leaves room for the folder in front of it: a path has 4096 bytes on Linux."""


def safe_key(*parts: str) -> str:
    """Join parts to a key. Raises ValueError where one is empty, absolute, too long, or climbs (`..`, NUL, a backslash)."""
    names = [name for part in parts for name in part.split("/")]
    if not all(_is_plain(name) for name in names):
        raise ValueError("not a relative path of plain names")
    key = "/".join(names)
    if len(key.encode()) > KEY_BYTES:
        raise ValueError("the path is too long")
    return key


def _is_plain(name: str) -> bool:
    # A lone surrogate has no UTF-8 and raises UnicodeEncodeError, which is a ValueError.
    return name not in ("", ".", "..") and "\x00" not in name and "\\" not in name and len(name.encode()) <= NAME_BYTES


class Store(Protocol):
    """A place for files, named by key. A missing file is told by `size` giving None; reading one raises FileNotFoundError."""

    def size(self, key: str) -> int | None:
        """Bytes of a file, None if there is none."""
        ...

    def open(self, key: str, offset: int = 0) -> BinaryIO:
        """A stream from `offset` to the end."""
        ...

    def read(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The file's bytes in chunks of at most `CHUNK_BYTES`."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Make `target` a file of the same bytes as `source`, durably; it may share them on disk."""
        ...

    def part(self, key: str) -> int | None:
        """Bytes received so far of an unfinished upload, None if there is none."""
        ...

    def open_part(self, key: str) -> BinaryIO:
        """What has been received so far, as a seekable stream."""
        ...

    def append(self, key: str, offset: int, chunk: bytes) -> int:
        """Add to an unfinished upload at `offset` (which must be where it stands, else ValueError); gives its new length."""
        ...

    def commit(self, key: str, target: str | None = None) -> None:
        """Make an unfinished upload the file `target` (`key` if None), durably and at once; one of that name is replaced."""
        ...

    def discard(self, key: str) -> None:
        """Forget an unfinished upload. Nothing to forget is fine."""
        ...

    def prune(self, older_than_seconds: float) -> int:
        """Forget unfinished uploads that nothing was added to for that long; gives how many."""
        ...

    def names(self, prefix: str) -> list[str]:
        """What lies directly below a prefix, by name; nothing where there is nothing."""
        ...

    def free_bytes(self) -> int | None:
        """Room that is left; None where there is no telling."""
        ...

    def delete(self, prefix: str) -> None:
        """Delete a file, or all below a prefix. A missing one is success."""
        ...

    def shared_folder(self) -> Path | None:
        """The local folder behind the store, for workers that share it; None for an object store."""
        ...

    def check(self) -> None:
        """Raise OSError if the store cannot be reached or written."""
        ...
