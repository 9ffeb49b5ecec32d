"""One request is one transaction.

The two dependencies differ by type, so a handler's signature says whether it writes. `scope="function"` makes FastAPI commit before
it sends the reply; with the default scope a client could be told 201 for a row whose commit then fails. What must follow a commit
(waking waiters, deleting files) is left with `Write.after` and runs only once the commit has succeeded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request

from service.context import Context
from service.db.transaction import Read, Write

__all__ = ["Read", "Reading", "Shared", "Write", "Writing", "context_of"]


async def context_of(request: Request) -> Context:
    """The running service's shared parts. Async only to spare it a thread."""
    context: Context = request.app.state.context
    return context


Shared = Annotated[Context, Depends(context_of)]


def _reading(context: Shared) -> Iterator[Read]:
    with Read(context.database) as transaction:
        yield transaction


def _writing(context: Shared) -> Iterator[Write]:
    with Write(context.database) as transaction:
        yield transaction


Reading = Annotated[Read, Depends(_reading, scope="function")]
Writing = Annotated[Write, Depends(_writing, scope="function")]
