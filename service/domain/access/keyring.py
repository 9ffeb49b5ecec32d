"""Recognising keys. Every request passes here, so a key that has been seen stays known for a few seconds without the database.

A key that is revoked here is refused at once; another replica goes on with it for as long as it remembers, `key_cache_seconds`.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Row

from service.db.engine import Database
from service.db.queries import keys as rows
from service.domain.access.tokens import Pepper, read, same
from service.domain.callers import Caller, widened
from service.settings import Settings
from service.storage.once import kept_text

LOG = logging.getLogger(__name__)

MOST_REMEMBERED = 10_000
PEPPER_FILE = "key-pepper"


def pepper_of(settings: Settings, database: Database) -> Pepper:
    """The pepper that the operator has set, else that of a file, made when it is first needed.

    The file lies beside an SQLite database; with PostgreSQL it lies in the artifact folder, which all replicas share.
    """
    if settings.key_pepper is not None:
        return Pepper(settings.key_pepper.encode())
    path = settings.artifact_root / f".{PEPPER_FILE}"
    if database.folder is not None:
        path = Path(f"{database.url.database}.{PEPPER_FILE}")
    return Pepper(kept_text(path, 0o600).encode())


class Keyring:
    """The keys that one process knows."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._database = settings, database
        self._guard = threading.Lock()
        self._known: dict[bytes, tuple[float, Caller]] = {}
        self._used: dict[str, int] = {}
        self._pepper: Pepper | None = None

    @property
    def pepper(self) -> Pepper:
        """The pepper; read when it is first needed."""
        with self._guard:
            if self._pepper is None:
                self._pepper = pepper_of(self._settings, self._database)
            return self._pepper

    def remembered(self, text: str) -> Caller | None:
        """Whose key this is, if it was seen just now. Touches no database."""
        found = self._known.get(_trace(text))
        if found is None or time.monotonic() >= found[0]:
            return None
        self._note(found[1].key_id)
        return found[1]

    def recognise(self, text: str) -> Caller | None:
        """Whose key this is; None if it is nobody's, or nobody's any more."""
        token = read(text)
        if token is None:
            return None
        with self._database.read() as connection:
            row = rows.recognised(connection, token.prefix)
        if row is None or not _is_live(row) or not self._fits(row, self.pepper.hash(token)):
            self._tell_of_other_pepper(row)
            return None
        caller = Caller(row.id, row.project, widened(row.scopes), all_projects=row.all_projects)
        self._remember(text, caller, _seconds_left(row))
        return caller

    def _tell_of_other_pepper(self, row: Row[Any] | None) -> None:
        if row is not None and row.pepper != self.pepper.name:
            LOG.warning("the key %s was made under another pepper: give every replica the same MESHYARD_KEY_PEPPER", row.id)

    def _fits(self, row: Row[Any], digest: str) -> bool:
        current = same(digest, row.hash)
        overlapping = row.previous_expires_at is not None and row.now < row.previous_expires_at
        previous = same(digest, row.previous_hash)
        return current or (previous and overlapping)

    def _remember(self, text: str, caller: Caller, seconds_left: float) -> None:
        until = time.monotonic() + min(self._settings.key_cache_seconds, seconds_left)
        with self._guard:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[_trace(text)] = (until, caller)
        self._note(caller.key_id)

    def forget(self, key_id: str) -> None:
        """Forget a key that has changed."""
        with self._guard:
            self._known = {trace: known for trace, known in self._known.items() if known[1].key_id != key_id}

    def _note(self, key_id: str) -> None:
        self._used[key_id] = time.time_ns() // 1000

    def used(self) -> dict[str, int]:
        """When which key was used since this was last asked."""
        used, self._used = self._used, {}
        return used


def _trace(text: str) -> bytes:
    # Not the key itself: what lies in memory for seconds can end in a dump.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _is_live(row: Row[Any]) -> bool:
    return row.revoked_at is None and (row.expires_at is None or row.now < row.expires_at)


def _seconds_left(row: Row[Any]) -> float:
    """How long the key stays what it is now."""
    ends = [instant for instant in (row.expires_at, row.previous_expires_at) if instant is not None and instant > row.now]
    return (min(ends) - row.now) / 1_000_000 if ends else float("inf")
