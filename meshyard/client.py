"""The two clients: the same operations, waited for or awaited."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Generic, Self
from urllib.parse import urlsplit

from meshyard.errors import ConfigurationInvalid
from meshyard.operations import Driver
from meshyard.resources import (
    Artifacts,
    Catalog,
    Checkpoints,
    Code,
    Datasets,
    Jobs,
    Keys,
    Projects,
    Service,
    Usage,
    Webhooks,
    Workers,
)
from meshyard.retries import Policy
from meshyard.transport import AsyncDriver, Connection, SyncDriver

if TYPE_CHECKING:
    import httpx

DEFAULT_SERVER = "http://127.0.0.1:8642"


def _agent() -> str:
    try:
        return f"meshyard/{version('meshyard')}"
    except PackageNotFoundError:
        return "meshyard"


def _connection(server: str | None, api_key: str | None, timeout: float, policy: Policy) -> Connection:
    address = (server or os.environ.get("MESHYARD_SERVER") or DEFAULT_SERVER).rstrip("/")
    key = api_key or os.environ.get("MESHYARD_API_KEY")
    headers = {"User-Agent": _agent(), **({"Authorization": f"Bearer {key}"} if key else {})}
    return Connection(_checked(address), headers, timeout, policy)


def _checked(address: str) -> str:
    try:
        parts = urlsplit(address)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound:
        raise ConfigurationInvalid(f"{address!r} is not the address of a server; one looks like {DEFAULT_SERVER}")
    return address


class _Surface(Generic[Driver]):
    """What both clients offer."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.server = driver.connection.server
        self.jobs = Jobs(driver)
        self.checkpoints = Checkpoints(driver)
        self.artifacts = Artifacts(driver)
        self.code = Code(driver)
        self.datasets = Datasets(driver)
        self.workers = Workers(driver)
        self.webhooks = Webhooks(driver)
        self.keys = Keys(driver)
        self.projects = Projects(driver)
        self.usage = Usage(driver)
        self.catalog = Catalog(driver)
        self.service = Service(driver)


class Client(_Surface[SyncDriver]):
    """A Meshyard service, from plain code. Safe to share between threads.

    Args:
        server: its address; else `MESHYARD_SERVER`, else `http://127.0.0.1:8642`.
        api_key: else `MESHYARD_API_KEY`, else none.
        timeout: seconds to wait for a connection, and for the next byte of an answer.
        max_retries: further tries after a connection error, 408, 429 or 5xx.
        policy: how to retry in every detail, in place of `max_retries`.
        transport: what carries the requests, for tests.
    """

    def __init__(
        self,
        server: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        max_retries: int = 2,
        policy: Policy | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        connection = _connection(server, api_key, timeout, policy or Policy(max_retries))
        super().__init__(SyncDriver(connection, transport))

    def close(self) -> None:
        """Close every connection."""
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class AsyncClient(_Surface[AsyncDriver]):
    """A Meshyard service, from asyncio. The arguments are those of `Client`; methods are awaited, iterations are asynchronous."""

    def __init__(
        self,
        server: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        max_retries: int = 2,
        policy: Policy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        connection = _connection(server, api_key, timeout, policy or Policy(max_retries))
        super().__init__(AsyncDriver(connection, transport))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.aclose()
