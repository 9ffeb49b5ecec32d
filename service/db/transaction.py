"""Transactions as values: the two types tell a reader from a writer, so a signature says which it is.

Both begin at the first use of `connection` inside their block: a request that is refused early costs the database nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from sqlalchemy.engine import Connection

from jobs.ids import new_id
from service.db.engine import Database
from service.db.queries import audit

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Actor:
    """Who changes something: under which key, in which project, by which operation on which path."""

    project: str
    key_id: str
    action: str
    target: str
    request_id: str
    address: str | None


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
    """A transaction that may write: committed when its block ends without an error, else rolled back.

    Args:
        database: where.
        actor: the person for whom it writes, if there is one: what is changed is then noted in the audit, in this transaction.
        traceparent: the place in a trace from which it is asked for, if there is one.
    """

    def __init__(self, database: Database, actor: Actor | None = None, traceparent: str | None = None) -> None:
        super().__init__(database.write)
        self.actor = actor
        self.traceparent = traceparent
        self._after: list[Callable[[], None]] = []
        self._noted: dict[str, Any] = {}

    def note(self, **data: Any) -> None:
        """Say more of the change, for the audit."""
        self._noted.update(data)

    def _audit(self) -> None:
        # A transaction that was never begun has changed nothing.
        if self.actor is not None and self._connection is not None:
            audit.add(self._connection, {"id": new_id("aud"), **asdict(self.actor), "data": self._noted})

    def after(self, action: Callable[[], None]) -> None:
        """Run `action` when, and only when, the transaction has been committed."""
        self._after.append(action)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._audit()
        except BaseException as fault:
            super().__exit__(type(fault), fault, fault.__traceback__)
            raise
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
