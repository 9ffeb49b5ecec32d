"""Files on their way in, and keeping them once for each project, form and content."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from sqlalchemy.engine import Row

from service.context import Context
from service.db.queries.contents import Contents
from service.db.transaction import Read, Write
from service.domain.errors import NotFound, TooLarge
from service.storage.store import Store


class Incoming:
    """A file on its way in. Nothing of it stays unless `keep` is reached; call `abandon` in any case.

    Args:
        store: where it will lie.
        limit_bytes: the most it may have.
    """

    def __init__(self, store: Store, limit_bytes: int) -> None:
        self._store, self.limit_bytes = store, limit_bytes
        self._hasher = hashlib.sha256()
        self._key = f"incoming/{secrets.token_hex(16)}"
        self.bytes = 0

    def take(self, chunk: bytes) -> None:
        """Add a piece.

        Raises:
            TooLarge: more than the limit has come.
        """
        if self.bytes + len(chunk) > self.limit_bytes:
            raise TooLarge(f"An upload may have at most {self.limit_bytes} bytes.")
        self._hasher.update(chunk)
        self.bytes = self._store.append(self._key, self.bytes, chunk)

    @property
    def sha256(self) -> str:
        """Of what has come so far."""
        return self._hasher.hexdigest()

    def open(self) -> BinaryIO:
        """All of it, from its start; seekable."""
        if self.bytes == 0:
            self._store.append(self._key, 0, b"")
        return self._store.open_part(self._key)

    def place(self, key: str) -> None:
        """Give it its place in the store."""
        self._store.commit(self._key, key)

    def abandon(self) -> None:
        """Forget what has not been placed."""
        self._store.discard(self._key)


def keep_once(
    context: Context, contents: Contents, identity: Mapping[str, Any], incoming: Incoming, described: Callable[[], dict[str, Any]]
) -> tuple[Row[Any], bool]:
    """Keep what has come in, unless the same is there; tells also whether it is new.

    Args:
        context: the store and the database.
        contents: among what.
        identity: the row's id, project, name, form and key; the key is where the bytes are to lie.
        incoming: the bytes.
        described: looks them through and gives the rest of the row. What it raises leaves nothing behind.
    """
    row: dict[str, Any] = {**identity, "sha256": incoming.sha256, "bytes": incoming.bytes}
    with Read(context.database) as read:
        known = contents.like(read.connection, row)
    rest = described() if known is None else {}
    # Also where it is known: the bytes that have just come are sound, the ones that are there may no longer be.
    incoming.place(row["key"])
    if known is not None:
        return known, False
    try:
        return _insert(context, contents, row | rest)
    except BaseException:
        _drop(context, contents, row["key"])
        raise


def _insert(context: Context, contents: Contents, row: dict[str, Any]) -> tuple[Row[Any], bool]:
    with Write(context.database) as write:
        added = contents.add(write.connection, row)
        found = added if added is not None else contents.like(write.connection, row)
        if found is None:
            raise NotFound("The same upload was there and has just been deleted; send it again.")
        return found, added is not None


def _drop(context: Context, contents: Contents, key: str) -> None:
    with Write(context.database) as write:
        if not contents.any_at(write.connection, key):
            context.store.delete(key)
