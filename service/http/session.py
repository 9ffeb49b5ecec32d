"""One request is one transaction.

The two dependencies differ by type, so a handler's signature says whether it writes. `scope="function"` makes FastAPI commit before it
sends the reply; with the default scope a client could be told 201 for a row whose commit then fails. What must follow a commit
(waking waiters, deleting files) is left with `Write.after` and runs only once the commit has succeeded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.engine import Connection

from service.context import Context


def context_of(request: Request) -> Context:
    """The running service's shared parts."""
    context: Context = request.app.state.context
    return context


class Read:
    """A transaction that only reads."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection


class Write:
    """A transaction that may write."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._after: list[Callable[[], None]] = []

    def after(self, action: Callable[[], None]) -> None:
        """Run `action` when, and only when, the transaction has been committed."""
        self._after.append(action)

    def committed(self) -> None:
        """Run what was left for after the commit."""
        for action in self._after:
            action()


Shared = Annotated[Context, Depends(context_of)]


def _reading(context: Shared) -> Iterator[Read]:
    with context.database.read() as connection:
        yield Read(connection)


def _writing(context: Shared) -> Iterator[Write]:
    with context.database.write() as connection:
        transaction = Write(connection)
        yield transaction
    transaction.committed()


Reading = Annotated[Read, Depends(_reading, scope="function")]
Writing = Annotated[Write, Depends(_writing, scope="function")]
