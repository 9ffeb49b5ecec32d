"""One request is one transaction.

A handler that names `read: Reading` or `write: Writing` gets a transaction, and its signature says which. The transaction begins at
its first use and ends when the handler returns, in the same thread, and so before the reply begins: nobody is told 201 for a row
whose commit then fails. What must follow a commit (waking waiters, deleting files) is left with `Write.after`.

FastAPI's own way, a dependency with `yield`, ends in another thread. Between the two the handler's answer waits for a thread to be
checked in; with a crowd of writers every thread is taken by one that waits for that very transaction to end.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Annotated, Any

from fastapi import Depends, Request

from jobs.tracing import TRACEPARENT
from service.context import Context
from service.db.transaction import Read, Write
from service.http.access import GuardedRoute, actor_of

__all__ = ["Read", "Reading", "Shared", "TransactionRoute", "Write", "Writing", "context_of"]


# These are async only to spare them a thread: none of them waits for anything.
async def context_of(request: Request) -> Context:
    """The running service's shared parts."""
    context: Context = request.app.state.context
    return context


Shared = Annotated[Context, Depends(context_of)]


async def _reading(context: Shared) -> Read:
    return Read(context.database)


async def _writing(request: Request, context: Shared) -> Write:
    return Write(context.database, actor_of(request), _traceparent(request, context))


def _traceparent(request: Request, context: Context) -> str | None:
    """The place of this request in a trace: its span's, or without spans of ours the one that the caller names."""
    named = request.headers.get("traceparent", "")
    return context.tracing.here() or (named if TRACEPARENT.fullmatch(named) else None)


Reading = Annotated[Read, Depends(_reading)]
Writing = Annotated[Write, Depends(_writing)]


class TransactionRoute(GuardedRoute):
    """A route whose handler, a plain function, may take a transaction."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        is_plain = not (iscoroutinefunction(endpoint) or isasyncgenfunction(endpoint))
        super().__init__(path, _within_transactions(endpoint) if is_plain else endpoint, **options)


def _within_transactions(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(endpoint)
    def run(**values: Any) -> Any:
        with ExitStack() as stack:
            for value in values.values():
                if isinstance(value, Read | Write):
                    stack.enter_context(value)
            return endpoint(**values)

    return run
