"""The gate in front of every route: the request's id, the host it was meant for, the caller's key.

Pure ASGI, and before routing: a caller without the key learns nothing of what is behind it. Without a key only this machine may
ask, and only under a loopback name: a page in somebody's browser can send requests here, but it cannot choose their `Host` and
`Origin`.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.ids import new_id
from service.domain.errors import DomainError, Forbidden, Unauthorized
from service.http.problems import of_domain_error

PROJECT = "default"
SCHEME = "bearer "


async def _project() -> str:
    return PROJECT


Project = Annotated[str, Depends(_project)]
"""The project that the caller's key belongs to; there is one only, so far."""


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine and nothing else."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Gate:
    """Gives each request its id and lets it through, or refuses it.

    Args:
        app: what lies behind.
        api_key: the key to ask for; None to answer to loopback names only.
    """

    def __init__(self, app: ASGIApp, api_key: str | None) -> None:
        self._app = app
        self._api_key = api_key.encode() if api_key is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        refusal = self._refusal(scope)
        handler = self._app if refusal is None else refusal
        await handler(scope, receive, _naming(request_id, send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        error = self._check_host(headers) if self._api_key is None else self._check_key(scope["path"], headers, self._api_key)
        return of_domain_error(Request(scope), error) if error is not None else None

    def _check_host(self, headers: Headers) -> DomainError | None:
        if not is_loopback(_host_name(f"//{headers.get('host', '')}")):
            return Forbidden("Without a key the service answers only to loopback names, such as 127.0.0.1 or localhost.")
        origin = headers.get("origin")
        if origin is not None and not is_loopback(_host_name(origin)):
            return Forbidden("Without a key the service answers no page of another origin.")
        return None

    def _check_key(self, path: str, headers: Headers, api_key: bytes) -> DomainError | None:
        if path != "/metrics" and not path.startswith("/v1"):
            return None
        given = headers.get("authorization", "")
        if not given.lower().startswith(SCHEME):
            return Unauthorized("Send the key: Authorization: Bearer <key>.")
        if not hmac.compare_digest(given[len(SCHEME) :].strip().encode("latin-1"), api_key):
            return Unauthorized("The key is not valid here.")
        return None


def _host_name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _naming(request_id: str, send: Send) -> Send:
    async def named(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Request-Id"] = request_id
        await send(message)

    return named
