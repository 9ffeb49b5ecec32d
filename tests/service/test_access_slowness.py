"""Senders who are slow on purpose, over real connections: each is told so and let go, and nobody else waits for them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from service.app import create_app
from service.http.connections import bounded
from service.settings import Settings
from tests.service.access_driver import OPERATOR, bearer
from tests.service.core_driver import sampling, wait_for

Serve = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def serve(settings: Settings) -> Serve:
    """Starts a real server with some settings changed; gives its address."""

    @contextmanager
    def serving(**changes: object) -> Iterator[str]:
        own = settings.model_copy(update=changes)
        app = create_app(own)
        config = uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=5, http=bounded(own.header_seconds))
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            wait_for(lambda: server.started)
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            app.state.context.signals.close()
            server.should_exit = True
            thread.join()

    return serving


def told(address: str, *pieces: bytes) -> tuple[list[int], dict[str, Any]]:
    """Send these bytes and no more; gives the statuses of what comes until the other side closes, and the last document."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    replies = answer.split(b"HTTP/1.1 ")[1:]
    return [int(reply[:3]) for reply in replies], json.loads(replies[-1].partition(b"\r\n\r\n")[2])


def head(method: str, path: str, *fields: str) -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *fields, "", "")).encode()


JSON = ("Content-Type: application/json", "Content-Length: 1000")


def test_a_body_that_does_not_come_is_not_waited_for(serve: Serve):
    with serve(body_seconds=0.2) as address:
        statuses, problem = told(address, head("POST", "/v1/jobs", *JSON) + b'{"kind":')
        assert (statuses, problem["code"]) == ([408], "request_timeout")
        statuses, _ = told(address, head("POST", "/v1/datasets?format=text", "Content-Length: 1000") + b"abc")
        assert statuses == [408]
        assert httpx.get(f"{address}/v1/datasets").json()["data"] == []


def test_a_head_that_does_not_come_is_not_waited_for(serve: Serve):
    with serve(header_seconds=0.2) as address:
        for piece in (b"", b"GET", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "):
            statuses, problem = told(address, piece)
            assert (statuses, problem["code"]) == ([408], "request_timeout"), piece
        statuses, problem = told(address, head("GET", "/healthz") + b"GET /hea")
        assert statuses == [200, 408]


def test_a_body_that_nobody_reads_any_more_is_not_waited_for(serve: Serve):
    with serve(header_seconds=0.2, api_key=OPERATOR) as address:
        statuses, problem = told(address, head("POST", "/v1/jobs", *JSON) + b"{")
        assert (statuses, problem["code"]) == ([401], "unauthorized")


def test_headers_without_end_are_refused(serve: Serve):
    with serve() as address:
        # Beyond its limit and within what is read at once, so that nothing is left unread when the connection is closed.
        statuses, problem = told(address, b"GET /healthz HTTP/1.1\r\n" + b"X-Long: " + b"x" * 20_000)
        assert (statuses, problem["code"]) == ([400], "bad_request")
        assert told(address, b"\x16\x03\x01nonsense\r\n\r\n")[0] == [400]


def test_a_connection_serves_request_after_request(serve: Serve):
    with serve(header_seconds=0.2) as address, httpx.Client(base_url=address) as client:
        job = client.post("/v1/jobs", json=sampling()).json()["id"]
        worker = {"platform": "cpu", "device_kind": "cpu", "device_count": 1, "memory_bytes": 1, "catalog_digest": "0" * 64}
        worker_id = client.post("/v1/workers", json=worker | {"offers": []}).json()["id"]
        # Longer than a head may take: while a request is answered, nobody waits for one.
        assert client.post(f"/v1/workers/{worker_id}/claim", json={"devices": 1, "wait_seconds": 1}).status_code == 204
        assert client.get(f"/v1/jobs/{job}").status_code == 200


def test_a_key_holds_so_many_streams_and_no_more(serve: Serve):
    with (
        serve(api_key=OPERATOR, max_streams_per_key=2) as address,
        httpx.Client(base_url=address, headers=bearer(OPERATOR)) as client,
    ):
        job = client.post("/v1/jobs", json=sampling()).json()["id"]
        other = client.post("/v1/keys", json={"scopes": ["jobs:read"]}).json()["key"]
        paths = f"/v1/jobs/{job}/stream", f"/v1/jobs/{job}/logs?follow=true"
        with client.stream("GET", paths[0]) as first:
            with client.stream("GET", paths[1]) as second:
                assert {first.status_code, second.status_code} == {200}
                refused = [client.get(path) for path in paths]
                assert [reply.status_code for reply in refused] == [429, 429]
                assert int(refused[0].headers["retry-after"]) > 0
                assert client.get(f"/v1/jobs/{job}/logs").status_code == 200
                with client.stream("GET", paths[0], headers=bearer(other)) as theirs:
                    assert theirs.status_code == 200
            wait_for(lambda: opened(client, paths[0]) == 200)


def opened(client: httpx.Client, path: str) -> int:
    """The status with which a stream begins."""
    with client.stream("GET", path) as reply:
        return reply.status_code
