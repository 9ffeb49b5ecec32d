"""A service with keys in use: an operator, projects, and a caller for each kind of key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.service.core_driver import Api, Worker

OPERATOR = "the-operators-own-key"


def bearer(key: str) -> dict[str, str]:
    """The header that bears a key."""
    return {"Authorization": f"Bearer {key}"}


@dataclass
class Bearer(Api):
    """The same application, which somebody else has started, asked under one key."""

    api: Api
    key: str
    made: dict[str, Any] = field(default_factory=dict[str, Any])

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request under the key."""
        headers = {**bearer(self.key), **(arguments.pop("headers", None) or {})}
        return self.api.request(method, path, headers=headers, **arguments)


class House:
    """The application with an operator's key, and what is needed to make others."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.operator = Bearer(api, OPERATOR)

    def project(self, name: str, **fields: Any) -> str:
        """Make a project; gives its id."""
        reply = self.operator.post("/v1/projects", json={"name": name, **fields})
        assert reply.status_code == 201, reply.text
        return reply.json()["id"]

    def bearer(self, *scopes: str, project: str = "default", **fields: Any) -> Bearer:
        """Make a key; gives somebody who bears it."""
        reply = self.operator.post("/v1/keys", json={"scopes": list(scopes), "project": project, **fields})
        assert reply.status_code == 201, reply.text
        made = reply.json()
        return Bearer(self.api, made.pop("key"), made)

    def worker(self, by: Bearer, **changes: Any) -> Worker:
        """Register a worker under a key."""
        return Worker(by, **changes)


@contextmanager
def house(start: Any, **settings: Any) -> Iterator[House]:
    """Start the application with the operator's key."""
    with start(api_key=OPERATOR, **settings) as api:
        yield House(api)
