"""Uploads whose body is the bytes of one file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.engine import Row

from service.context import Context
from service.domain.incoming import Incoming
from service.domain.room import require_room
from service.http.pump import pump, refuse_announced

Keep = Callable[[Incoming], tuple[Row[Any], bool]]


def raw_body(description: str) -> dict[str, Any]:
    """How the schema tells of such a body."""
    content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {"requestBody": {"description": description, "required": True, "content": content}}


async def receive(request: Request, response: Response, context: Context, limit_bytes: int, keep: Keep) -> Row[Any]:
    """Take the body in and keep it; the reply is 201 where it is new and 200 where it was there.

    Raises:
        TooLarge: it has more than `limit_bytes`.
        StorageFull: there is too little room for anything.
    """
    refuse_announced(request, limit_bytes)
    await run_in_threadpool(require_room, context)
    incoming = Incoming(context.store, limit_bytes)
    try:
        await pump(request, incoming.take)
        row, is_new = await run_in_threadpool(keep, incoming)
    finally:
        await run_in_threadpool(incoming.abandon)
    if not is_new:
        response.status_code = 200
    response.headers["Location"] = f"{request.url.path}/{row.id}"
    return row
