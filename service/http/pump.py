"""A body on its way to the store: read as it comes, handed on in larger pieces by a thread, never held whole."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from service.domain.errors import Invalid, TooLarge, Unavailable, UnsupportedMedia
from service.http.arrival import chunks
from service.storage.store import CHUNK_BYTES

LONGEST_NUMBER = 19


async def pump(request: Request, take: Callable[[bytes], None]) -> None:
    """Hand a request's body to `take`, about `CHUNK_BYTES` at a time, each call in a thread.

    Raises:
        Invalid: the client went before its end.
        UnsupportedMedia: it is compressed.
        Unavailable: the store does not take it.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("Send the body without a Content-Encoding.")
    pending = bytearray()
    try:
        async for chunk in chunks(request):
            pending += chunk
            if len(pending) >= CHUNK_BYTES:
                await run_in_threadpool(_hand_on, take, bytes(pending))
                pending.clear()
        if pending:
            await run_in_threadpool(_hand_on, take, bytes(pending))
    except ClientDisconnect:
        raise Invalid("The body broke off before its end.") from None


def _hand_on(take: Callable[[bytes], None], piece: bytes) -> None:
    try:
        take(piece)
    except OSError as error:
        raise Unavailable("The artifact store takes nothing just now; try again later.") from error


def refuse_announced(request: Request, limit_bytes: int) -> None:
    """Raise TooLarge where the body says beforehand that it has more than the limit."""
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or len(length) > LONGEST_NUMBER or int(length) > limit_bytes:
        raise TooLarge(f"At most {limit_bytes} bytes may be sent here.")
