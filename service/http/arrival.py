"""A body as it comes in, from a sender who may be slow, but not for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from fastapi import Request

from service.context import Context
from service.domain.errors import TooSlow


async def chunks(request: Request) -> AsyncGenerator[bytes]:
    """The pieces of a body. Only the time spent waiting for the sender counts, not what is done with a piece meanwhile.

    Raises:
        TooSlow: it has been waited for longer than `body_seconds` and a second for each `body_bytes_per_second` that have come.
    """
    context: Context = request.app.state.context
    settings = context.settings
    left = settings.body_seconds
    stream = request.stream()
    while True:
        began = time.monotonic()
        try:
            async with asyncio.timeout(left):
                piece = await anext(stream, None)
        except TimeoutError:
            raise TooSlow(
                f"The body came too slowly: less than {settings.body_bytes_per_second} bytes a second. Send it again."
            ) from None
        if piece is None:
            return
        left += len(piece) / settings.body_bytes_per_second - (time.monotonic() - began)
        yield piece
