"""Transactions as values: the two types tell a reader from a writer, so a signature says which it is.

Both begin at the first use of `connection` inside their block: a request that is refused early costs the database nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Self

from sqlalchemy.engine import Connection

from service.db.engine import Database

LOG = logging.getLogger(__name__)


class _Transaction:
    def __init__(self, begin: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._begin = begin
        self._stack: ExitStack | None = None
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """The open transaction's connection; opens it at the first call."""
        if self._stack is None:
            raise RuntimeError("a transaction is used inside its own `with` block; is the route a TransactionRoute?")
        if self._connection is None:
            self._connection = self._stack.enter_context(self._begin())
        return self._connection

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            stack.__exit__(kind, error, trace)


class Read(_Transaction):
    """A transaction that only reads; sees one moment of the database."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.read)


class Write(_Transaction):
    """A transaction that may write: committed when its block ends without an error, else rolled back."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.write)
        self._after: list[Callable[[], None]] = []

    def after(self, action: Callable[[], None]) -> None:
        """Run `action` when, and only when, the transaction has been committed."""
        self._after.append(action)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        if kind is None:
            for action in self._after:
                _attempt(action)


def _attempt(action: Callable[[], None]) -> None:
    try:
        action()
    except Exception:
        # The change is durable already: whoever asked for it must hear so, whatever becomes of a wake-up or of a file to delete.
        LOG.exception("after a commit")
