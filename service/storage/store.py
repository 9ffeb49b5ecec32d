"""Where bytes are kept: one small interface, so that a local folder can become an object store without anyone else knowing.

Keys are relative POSIX paths that the service makes itself (`jobs/job_…/att_…/checkpoints/200/state/…`, `datasets/<sha256>`).
Text from a user only ever becomes the last parts of one, after `safe_key` has looked at it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

CHUNK_BYTES = 1024 * 1024


def safe_key(*parts: str) -> str:
    """Join parts to a key. Raises ValueError where one is empty, absolute, or climbs (`..`, NUL, a backslash)."""
    names = [name for part in parts for name in part.split("/")]
    if any(name in ("", ".", "..") or "\x00" in name or "\\" in name or len(name) > 255 for name in names):
        raise ValueError("not a relative path of plain names")
    return "/".join(names)


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

    def part(self, key: str) -> int:
        """Bytes received so far of an unfinished upload, 0 if there is none."""
        ...

    def append(self, key: str, offset: int, chunk: bytes) -> int:
        """Add to an unfinished upload at `offset` (which must be where it stands, else ValueError); gives its new length."""
        ...

    def commit(self, key: str) -> None:
        """Make an unfinished upload the file `key`, durably and at once. An existing file of that name is replaced."""
        ...

    def discard(self, key: str) -> None:
        """Forget an unfinished upload. Nothing to forget is fine."""
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
