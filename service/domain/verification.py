"""Reading stored bytes against the SHA-256 noted when they came: what does not match is never handed out whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.domain.errors import Corrupt
from service.storage.store import Store

VERIFY_FIRST_BYTES = 64 * 1024 * 1024
"""Up to this size all is read and checked before the first byte goes out, so that a fault can still be told in a sentence. Beyond
it, checking runs along: a reader sees the connection break before the end."""


@dataclass(frozen=True)
class Stored:
    """A file that is to be handed out. `fault`: the error that tells that it is damaged."""

    key: str
    name: str
    bytes: int
    sha256: str
    fault: type[Corrupt] = Corrupt


def verified(store: Store, file: Stored) -> Iterator[bytes]:
    """The bytes of a file; the last chunk comes only after all of them have been checked.

    Raises:
        Corrupt: `file.fault`, where the file is gone or is not what it was.
    """
    hasher = hashlib.sha256()
    held = b""
    size = 0
    try:
        for chunk in store.read(file.key):
            hasher.update(chunk)
            size += len(chunk)
            if held:
                yield held
            held = chunk
    except FileNotFoundError:
        raise _damaged(file) from None
    if size != file.bytes or hasher.hexdigest() != file.sha256:
        raise _damaged(file)
    if held:
        yield held


def check_sizes(store: Store, files: Sequence[Stored]) -> None:
    """Raise the first file's `fault` whose size is not what it was."""
    for file in files:
        if store.size(file.key) != file.bytes:
            raise _damaged(file)


def check_first(store: Store, files: Sequence[Stored]) -> None:
    """Check before anything is handed out: sizes always, contents where they are not too large."""
    check_sizes(store, files)
    if sum(file.bytes for file in files) <= VERIFY_FIRST_BYTES:
        for file in files:
            for _ in verified(store, file):
                pass


def _damaged(file: Stored) -> Corrupt:
    return file.fault(f"The stored file {file.name!r} is not what it was when it came; it cannot be handed out.")
