"""Figures for the operator, in Prometheus' format. One registry an app: two apps in a process share nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.engine import Connection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.states import Status
from service.context import Context
from service.db.queries import clock, figures, outbox
from service.domain.instants import MICROSECONDS
from service.domain.status_reason import gone_before
from service.http.session import Reading, Shared, TransactionRoute

router = APIRouter(route_class=TransactionRoute, tags=["operation"])

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0)
KINDS = ("train", "mcmc", "svi")
UNMATCHED = "unmatched"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Traffic:
    """What has been asked of one app, and how it was answered."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("meshyard_http_requests", "Requests by route and status.", labels, registry=self.registry)
        self._seconds = Histogram(
            "meshyard_http_request_seconds", "Time to the end of the reply.", labels[:2], buckets=BUCKETS, registry=self.registry
        )

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


def traffic_of(app: Any) -> Traffic:
    """The app's own; made when it is first asked for, by the event loop."""
    if not hasattr(app.state, "traffic"):
        app.state.traffic = Traffic()
    traffic: Traffic = app.state.traffic
    return traffic


class Measured:
    """Middleware that counts requests by the template of their route, never by their path: the number of series stays bounded."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        traffic = traffic_of(scope["app"])
        began = time.perf_counter()
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "OTHER"
            traffic.note(method, _template(scope), status, time.perf_counter() - began)


def _template(scope: Scope) -> str:
    path: str = getattr(scope.get("route"), "path", UNMATCHED)
    return path


class Figures(Collector):
    """What the database tells, read when it is asked for."""

    def __init__(self, connection: Connection, context: Context) -> None:
        self._connection, self._context = connection, context

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give every figure."""
        yield self._jobs()
        waited = figures.longest_wait_us(self._connection) / MICROSECONDS
        yield GaugeMetricFamily("meshyard_queue_age_seconds", "How long the job queued longest has waited.", waited)
        yield self._workers()
        for kind, size in figures.stored_bytes(self._connection).items():
            yield GaugeMetricFamily(f"meshyard_{kind}_bytes", f"Bytes of {kind}.", size)

        free = self._context.store.free_bytes()
        if free is not None:
            yield GaugeMetricFamily("meshyard_storage_free_bytes", "Room left where artifacts lie.", free)
            low = free < self._context.settings.min_free_bytes
            yield GaugeMetricFamily("meshyard_storage_low", "1 while uploads are refused for want of room.", float(low))
        waiting, due_us = outbox.pending_by_age(self._connection)
        yield GaugeMetricFamily("meshyard_webhook_messages_waiting", "Messages that webhooks have not taken.", waiting)
        yield GaugeMetricFamily(
            "meshyard_webhook_lag_seconds", "How long the message due longest has been due.", due_us / MICROSECONDS
        )

    def _jobs(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily("meshyard_jobs", "Jobs by kind and status.", labels=("kind", "status"))
        counts = dict.fromkeys(product(KINDS, (status.value for status in Status)), 0)
        counts |= {(kind, status): count for kind, status, count in figures.jobs_by_status(self._connection)}
        for labels, count in counts.items():
            family.add_metric(labels, count)
        return family

    def _workers(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily("meshyard_workers", "Workers heard of within three leases.", labels=("status",))
        since = gone_before(self._context, clock.now(self._connection))
        counts = {"active": 0, "draining": 0} | dict(map(tuple, figures.workers_seen_since(self._connection, since)))
        for status, count in counts.items():
            family.add_metric((status,), count)
        return family


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
def get_figures(request: Request, read: Reading, context: Shared) -> Response:
    """Read the service's figures in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(read.connection, context))
    registries = (registry, context.telemetry.registry, traffic_of(request.app).registry)
    return Response(b"".join(map(generate_latest, registries)), media_type=MEDIA_TYPE)
