"""The gate in front of every route: the request's id, the host it was meant for, whose key it bears, and how much they may ask.

Pure ASGI, and before routing: a caller without a key learns nothing of what is behind it. Without a key only this machine may
ask, and only under a loopback name: a page in somebody's browser can send requests here, but it cannot choose their `Host` and
`Origin`.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.ids import new_id
from service.context import Context
from service.db.queries import lookup, projects
from service.db.transaction import Read
from service.domain.access.keyring import Keyring
from service.domain.access.tokens import MARK
from service.domain.callers import Caller, bootstrap, local
from service.domain.callers import Scope as Right
from service.domain.errors import DomainError, Forbidden, Invalid, TooMany, Unauthorized
from service.http.access import caller_of
from service.http.problems import DATABASE_ERRORS, of_database_error, of_domain_error
from service.http.throttle import Buckets, Streams
from service.settings import Settings

SCHEME = "bearer "
IN_PROJECT = "meshyard-project"
FAILURES_AT_ONCE = 100.0
MOST_SEEN = 10_000


async def _caller(request: Request) -> Caller:
    return caller_of(request.scope)


async def _project(request: Request) -> str:
    return caller_of(request.scope).project


async def _keys(request: Request) -> Keyring:
    keyring: Keyring = request.app.state.keyring
    return keyring


Whoever = Annotated[Caller, Depends(_caller)]
"""Who sends the request."""

Project = Annotated[str, Depends(_project)]
"""The project that the caller works in."""

Keys = Annotated[Keyring, Depends(_keys)]
"""The keys that this process knows."""


async def open_stream(request: Request) -> AsyncGenerator[None]:
    """Count a stream among those that its key holds open, until it has been sent. Raises TooMany."""
    streams: Streams = request.app.state.streams
    with streams.holding(caller_of(request.scope).key_id):
        yield


OpenStream = Depends(open_stream)
"""The same, of a route."""


def reach(read: Read, caller: Caller, ident: str) -> str:
    """Where a job, a dataset or a bundle is looked for: a worker that takes everybody's jobs reads everybody's bytes."""
    if not caller.all_projects or Right.WORKER not in caller.scopes:
        return caller.project
    return lookup.project_of(read.connection, ident) or caller.project


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine and nothing else."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def matches(host: str, patterns: Sequence[str]) -> bool:
    """Whether a host name is among those that are answered to; `*.example.org` means all below it."""
    name = host.rstrip(".").lower()
    return any(name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern for pattern in patterns)


class Gate:
    """Gives each request its id and its caller and lets it through, or refuses it.

    Args:
        app: what lies behind.
        settings: the operator's.
        context: what the service shares.
        keyring: the keys that this process knows.
    """

    def __init__(self, app: ASGIApp, settings: Settings, context: Context, keyring: Keyring) -> None:
        self._app, self._context, self._keyring = app, context, keyring
        self._api_key = settings.api_key.encode() if settings.api_key is not None else None
        self._hosts = settings.host_patterns
        self._asked = Buckets(settings.requests_per_second, float(settings.requests_at_once))
        self._failed = Buckets(settings.failures_per_minute / 60, FAILURES_AT_ONCE)
        self._seen: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        refusal = await self._refusal(scope)
        handler = self._app if refusal is None else refusal
        await handler(scope, receive, _naming(request_id, send))

    async def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        try:
            self._check_host(headers)
            if needs_key(scope["path"]):
                scope["state"]["caller"] = await self._admitted(scope, headers)
        except DomainError as error:
            return of_domain_error(Request(scope), error)
        except DATABASE_ERRORS as error:
            return of_database_error(Request(scope), error)
        return None

    def _check_host(self, headers: Headers) -> None:
        host = _host_name(f"//{headers.get('host', '')}")
        if self._api_key is None:
            self._check_loopback(host, headers.get("origin"))
        elif self._hosts and not matches(host, self._hosts) and not is_loopback(host):
            raise Forbidden("The service does not answer under this name; the operator lists names in MESHYARD_ALLOWED_HOSTS.")

    def _check_loopback(self, host: str, origin: str | None) -> None:
        if not is_loopback(host):
            raise Forbidden("Without a key the service answers only to loopback names, such as 127.0.0.1 or localhost.")
        if origin is not None and not is_loopback(_host_name(origin)):
            raise Forbidden("Without a key the service answers no page of another origin.")

    async def _admitted(self, scope: Scope, headers: Headers) -> Caller:
        """Who asks, in the project that is meant, and not too often."""
        caller = await self._bearer(scope, headers.get("authorization", ""))
        if self._api_key is not None:
            wait = self._asked.wait_seconds(caller.key_id)
            if wait > 0:
                raise TooMany("This key sends more requests than it may; wait as Retry-After says.", wait)
            self._asked.take(caller.key_id)
        named = headers.get(IN_PROJECT)
        return caller if named is None or named == caller.project else await self._elsewhere(caller, named)

    async def _bearer(self, scope: Scope, given: str) -> Caller:
        is_bearer = given.lower().startswith(SCHEME)
        text = given[len(SCHEME) :].strip() if is_bearer else ""
        if self._api_key is None and not text.startswith(MARK):
            return local()
        if not text:
            raise Unauthorized("Send the key: Authorization: Bearer <key>.")
        return self._keyring.remembered(text) or await self._recognised(scope, text)

    async def _recognised(self, scope: Scope, text: str) -> Caller:
        client, trace = scope.get("client"), hashlib.sha256(text.encode("latin-1")).digest()
        address = client[0] if client else ""
        wait = self._failed.wait_seconds(address)
        # Whoever was let in before is not shut out by a neighbour who guesses.
        if wait > 0 and trace not in self._seen:
            raise TooMany("Too many wrong keys came from this address; wait as Retry-After says.", wait)
        caller = await self._owner(text)
        if caller is None:
            self._failed.take(address)
            raise Unauthorized("The key is not valid here.")
        if len(self._seen) >= MOST_SEEN:
            self._seen.clear()
        self._seen.add(trace)
        return caller

    async def _owner(self, text: str) -> Caller | None:
        if self._api_key is not None and hmac.compare_digest(text.encode("latin-1"), self._api_key):
            return bootstrap()
        return await run_in_threadpool(self._keyring.recognise, text) if text.startswith(MARK) else None

    async def _elsewhere(self, caller: Caller, named: str) -> Caller:
        if not caller.all_projects:
            raise Forbidden("The key is bound to one project; leave Meshyard-Project out, or use a key of that project.")
        found = await run_in_threadpool(self._find, named)
        if found is None:
            raise Invalid("Meshyard-Project names no project.")
        return replace(caller, project=found)

    def _find(self, named: str) -> str | None:
        if "\x00" in named:
            return None
        with self._context.database.read() as connection:
            row = projects.named(connection, named)
        return None if row is None else str(row.id)


def needs_key(path: str) -> bool:
    """Whether a key is asked for on this path, if keys are in use."""
    return path == "/metrics" or path.startswith("/v1")


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
