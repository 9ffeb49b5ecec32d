"""Talking to the service in tests: a client for the application in this process, and a worker made of plain requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self, TypeVar

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI

BASE = "http://127.0.0.1"
MEMBERS = {"type", "title", "status", "detail", "code", "request_id", "errors"}
Found = TypeVar("Found")


class Api:
    """The application behind an in-process transport, with its lifespan running. Usable from any thread.

    `asgi`: what stands around the application, if anything does.
    """

    def __init__(self, app: FastAPI, headers: dict[str, str] | None = None, asgi: Any = None) -> None:
        self.app = app
        self._headers = headers
        self._asgi = asgi or app

    def __enter__(self) -> Self:
        self._starting: AbstractContextManager[BlockingPortal] = start_blocking_portal()
        self._portal = self._starting.__enter__()
        self._living = self._portal.wrap_async_context_manager(self.app.router.lifespan_context(self.app))
        self._living.__enter__()
        transport = httpx.ASGITransport(self._asgi, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url=BASE, headers=self._headers, timeout=60)
        return self

    def __exit__(self, *error: object) -> None:
        self._portal.call(self._client.aclose)
        self._living.__exit__(None, None, None)
        self._starting.__exit__(None, None, None)

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request and wait for the whole answer."""
        return self._portal.call(partial(self._client.request, method, path, **arguments))

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        """GET."""
        return self.request("GET", path, **arguments)

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        """POST."""
        return self.request("POST", path, **arguments)

    def patch(self, path: str, **arguments: Any) -> httpx.Response:
        """PATCH."""
        return self.request("PATCH", path, **arguments)

    def delete(self, path: str, **arguments: Any) -> httpx.Response:
        """DELETE."""
        return self.request("DELETE", path, **arguments)

    def submit(self, spec: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
        """Submit a job that is accepted; gives it."""
        reply = self.post("/v1/jobs", json=spec or sampling(), headers=headers)
        assert reply.status_code == 201, reply.text
        return reply.json()

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as it stands."""
        return self.get(f"/v1/jobs/{job_id}").json()

    def events(self, job_id: str) -> list[dict[str, Any]]:
        """All of a job's events, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(f"/v1/jobs/{job_id}/events", params={"after": found[-1]["seq"] if found else 0, "limit": 100}).json()
            found += page["data"]
            if not page["has_more"]:
                return found

    def told(self, job_id: str) -> list[str]:
        """The types of a job's events, in order."""
        return [event["type"] for event in self.events(job_id)]

    def worker(self, **changes: Any) -> Worker:
        """Register a worker."""
        return Worker(self, **changes)


def sampling(**changes: Any) -> dict[str, Any]:
    """The shortest job that is accepted."""
    base = {"kind": "mcmc", "model": {"type": "eight_schools"}, "data": {"builtin": "eight_schools"}, "num_chains": 4}
    return {**base, "num_warmup": 50, "num_samples": 50, **changes}


def training(**changes: Any) -> dict[str, Any]:
    """A small training job."""
    return {
        "kind": "train",
        "model": {"type": "mlp", "in_features": 1, "hidden": [], "out_features": 1},
        "data": {"inline": {"x": [0.0, 1.0, 2.0, 3.0], "y": [1.0, 3.0, 5.0, 7.0]}, "batch_size": 4},
        "loss": {"type": "squared_error"},
        "optimizer": {"type": "sgd", "learning_rate": 0.1},
        "steps": 10,
        **changes,
    }


OFFERS = [
    *("models/eight_schools", "models/linear_regression", "models/mlp", "models/transformer", "models/cnn", "kernels/NUTS"),
    *(
        "kernels/HMC",
        "losses/squared_error",
        "losses/next_token",
        "losses/Trace_ELBO",
        "optimizers/sgd",
        "optimizers/adam",
        "optimizers/adamw",
    ),
    *("datasets/eight_schools", "datasets/spirals", "datasets/line", "distributions/Normal", "guides/AutoNormal"),
]


@dataclass
class Attempt:
    """An attempt that a worker holds, as the claim gave it."""

    api: Api
    given: dict[str, Any]
    batch: int = 0

    @property
    def id(self) -> str:
        """The attempt's id."""
        return self.given["attempt_id"]

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.given["job_id"]

    def _send(self, what: str, body: dict[str, Any]) -> httpx.Response:
        return self.api.post(f"/v1/attempts/{self.id}/{what}", json={"fence": self.given["fence"], **body})

    def beat(self, step: int = 0, phase: str = "sampling", **more: Any) -> httpx.Response:
        """Send a heartbeat."""
        return self._send("heartbeat", {"step": step, "phase": phase, **more})

    def report(self, batch: int | None = None, **more: Any) -> httpx.Response:
        """Send a report, by default the next one."""
        self.batch = self.batch + 1 if batch is None else batch
        return self._send("report", {"batch": self.batch, **more})

    def finish(self, ending: str = "succeeded", step: int = 0, **more: Any) -> httpx.Response:
        """Tell the end."""
        return self._send("finish", {"ending": ending, "step": step, **more})

    def fail(self, code: str, step: int = 0) -> httpx.Response:
        """Tell an end by failure."""
        return self.finish("failed", step, error={"code": code, "message": "It broke."})


@dataclass
class Worker:
    """A registered worker."""

    api: Api
    platform: str = "cpu"
    device_kind: str = "cpu"
    device_count: int = 8
    memory_bytes: int = 2**34
    slots: int = 1
    offers: list[str] = field(default_factory=lambda: list(OFFERS))
    labels: dict[str, str] = field(default_factory=dict)
    probe_token: str | None = None

    def __post_init__(self) -> None:
        names = ("platform", "device_kind", "device_count", "memory_bytes", "slots", "labels", "offers")
        body = {name: getattr(self, name) for name in names}
        reply = self.api.post("/v1/workers", json={**body, "catalog_digest": "0" * 64})
        assert reply.status_code == 201, reply.text
        self.registered = reply.json()
        self.id: str = self.registered["id"]

    def ask(self, wait_seconds: float = 0, devices: int | None = None) -> httpx.Response:
        """Claim, whatever comes of it."""
        body = {"devices": devices or self.device_count, "wait_seconds": wait_seconds, "probe_token": self.probe_token}
        return self.api.post(f"/v1/workers/{self.id}/claim", json=body)

    def take(self, *takes: str, wait_seconds: float = 0, devices: int | None = None) -> httpx.Response:
        """Claim one of these kinds of work, whatever comes of it."""
        body = {"devices": devices or self.device_count, "wait_seconds": wait_seconds, "takes": list(takes)}
        return self.api.post(f"/v1/workers/{self.id}/claim", json=body)

    def claim(self, wait_seconds: float = 0, devices: int | None = None) -> Attempt:
        """Claim what must be there."""
        reply = self.ask(wait_seconds, devices)
        assert reply.status_code == 200, (reply.status_code, reply.text)
        return Attempt(self.api, reply.json())


def wait_for(look: Callable[[], Found], seconds: float = 30) -> Found:
    """Look until something is found; the bound is far beyond what any machine needs."""
    until = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.005)


def assert_problem(reply: httpx.Response, status: int) -> dict[str, Any]:
    """A refusal as RFC 9457 has it, all members there."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    document = reply.json()
    assert set(document) >= MEMBERS
    assert document["status"] == status
    assert document["request_id"] == reply.headers["x-request-id"]
    assert document["type"].endswith(document["code"])
    assert all(set(error) == {"pointer", "code", "detail"} for error in document["errors"])
    return document
