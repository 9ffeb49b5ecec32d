"""Connections as uvicorn keeps them, with a bound that it does not set: how long a request's head may take to come."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import orjson
from uvicorn.protocols.http.h11_impl import H11Protocol

from jobs.ids import new_id

TITLES = {400: "Bad Request", 408: "Request Timeout"}


class Bounded(H11Protocol):
    """A connection whose requests' heads must come in time.

    Uvicorn closes a connection that is idle between two requests. One that sends a head byte by byte, or a body that nobody reads
    any more, is never idle to it, and whoever opens enough of those takes every descriptor there is.
    """

    header_seconds: ClassVar[float] = 20.0
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for the first head."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._rest()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request."""
        self._close(400, "bad_request", "This is no HTTP request, or its headers are too long. Send less in them.")

    @property
    def _is_answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    def _watch(self) -> None:
        """Wait for the rest of what has begun; a connection that is idle is uvicorn's to close."""
        is_idle = bool(self.cycle) and repr(self.conn.their_state) == "IDLE" and not self.conn.trailing_data[0]
        if self._is_answering or is_idle or self.transport.is_closing():
            self._rest()
        elif self._patience is None:
            self._patience = self.loop.call_later(self.header_seconds, self._lose_patience)

    def _rest(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        self._patience = None
        self._close(408, "request_timeout", "The request's head came too slowly. Send it again.")

    def _close(self, status: int, code: str, detail: str) -> None:
        """Close the connection; say why where no answer is under way, and none has been given to this request."""
        if not self._is_answering and repr(self.conn.their_state) != "SEND_BODY" and not self.transport.is_closing():
            self.transport.write(_problem(status, code, detail))
        self.transport.close()


def bounded(header_seconds: float) -> type[H11Protocol]:
    """The class of connections whose heads may take so long."""

    class Own(Bounded):
        pass

    Own.header_seconds = header_seconds
    return Own


def _problem(status: int, code: str, detail: str) -> bytes:
    """A whole reply, for what never becomes a request."""
    request_id, title = new_id("req"), TITLES[status]
    members = {"type": f"urn:meshyard:problem:{code}", "title": title, "status": status, "detail": detail, "code": code}
    body = orjson.dumps({**members, "request_id": request_id, "errors": []})
    fields = (
        "content-type: application/problem+json",
        f"x-request-id: {request_id}",
        f"content-length: {len(body)}",
        "connection: close",
    )
    return "\r\n".join((f"HTTP/1.1 {status} {title}", *fields, "", "")).encode() + body
