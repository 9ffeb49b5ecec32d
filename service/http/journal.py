"""What a request's log lines and span bear: its id, and the ids in its path. And, if the operator wants it, a line for each."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.logbook import about, ids_in
from jobs.tracing import Tracing

LOG = logging.getLogger(__name__)


class Journal:
    """Middleware inside the gate, which has given the request its id.

    Args:
        app: what lies behind.
        tells_requests: whether each request gets a line when it has been answered.
        tracing: whose spans tell of requests.
    """

    def __init__(self, app: ASGIApp, *, tells_requests: bool, tracing: Tracing) -> None:
        self._app, self._tells_requests, self._tracing = app, tells_requests, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = 500, time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        ids = {"request_id": scope.get("state", {}).get("request_id", ""), **ids_in(scope["path"])}
        self._tracing.note(**ids)
        with about(**ids, **self._tracing.ids()):
            try:
                await self._app(scope, receive, noting)
            finally:
                if self._tells_requests:
                    _tell(scope, status, 1000 * (time.perf_counter() - began))


def _tell(scope: Scope, status: int, milliseconds: float) -> None:
    # The route's template, not the path: a log is searched by it, and a path may hold what a user wrote.
    route = getattr(scope.get("route"), "path", "unmatched")
    fields = {"method": scope["method"], "route": route, "status": status, "milliseconds": round(milliseconds, 1)}
    LOG.info("%s %s %d", scope["method"], route, status, extra={"fields": fields})
