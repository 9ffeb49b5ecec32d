"""The composition root: the only place that puts the parts together."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from importlib import metadata
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from starlette.types import Scope

from jobs import tracing
from jobs.protocol import Probe
from jobs.tracing import Tracing
from service.context import Context
from service.db.engine import Database
from service.domain import sweeper, tidying
from service.domain.access import keys as access_keys
from service.domain.access import usage as access_usage
from service.domain.access.keyring import Keyring
from service.http import (
    artifacts,
    catalog,
    checkpoints,
    code,
    control,
    datasets,
    events,
    files,
    health,
    jobs,
    keys,
    leases,
    logs,
    metrics,
    openapi,
    preflights,
    problems,
    projects,
    prometheus,
    stream,
    uploads,
    usage,
    webhooks,
    workers,
)
from service.http.access import NEEDS, GuardedRoute
from service.http.auth import Gate
from service.http.courier import Courier
from service.http.journal import Journal
from service.http.throttle import Streams
from service.settings import Settings
from service.signals import Signals
from service.storage.local import LocalStore
from service.storage.once import kept_text

LOG = logging.getLogger(__name__)

ROUTERS = (
    *(jobs, preflights, control, events, stream, metrics, logs, checkpoints, files, artifacts),
    *(datasets, code, catalog, workers, leases, uploads, keys, projects, usage, webhooks, prometheus, health),
)
CLOSING = "closing"
TIDY_SECONDS = 60.0
MEASURE_SECONDS = 600.0
UNTRACED = frozenset({"/healthz", "/readyz", "/metrics"})
"""What machines ask for all day long."""


def _guarded(router: APIRouter) -> APIRouter:
    """A router, if every route of it says what it asks for: an oversight must not open a door, so nothing starts with one."""
    for route in router.routes:
        if not isinstance(route, GuardedRoute):
            raise TypeError(f"{route} would let everybody pass: make its router with a route_class that guards")
        if route.name not in NEEDS:
            raise TypeError(f"say in service/http/access.py what {route.name} asks for")
    return router


GUARDED = tuple(map(_guarded, (*(module.router for module in ROUTERS), preflights.reports)))


def create_app(settings: Settings, context: Context | None = None) -> FastAPI:
    """Build the service.

    Args:
        settings: the operator's.
        context: what the service shares; built from the settings if left out.
    """
    context = context or build_context(settings)
    app = FastAPI(
        title="Meshyard",
        version=_version(),
        description="A training and sampling service: JAX jobs in, restored checkpoints out.",
        lifespan=_lifespan,
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
        strict_content_type=False,  # service.http.body looks at it
        docs_url=None,
        redoc_url=None,
        telemetry=_telemetry(context.tracing),
    )
    app.state.context = context
    app.state.keyring = Keyring(settings, context.database)
    app.state.streams = Streams(settings.max_streams_per_key)
    app.add_middleware(Journal, tells_requests=settings.log_requests, tracing=context.tracing)
    app.add_middleware(Gate, settings=settings, context=context, keyring=app.state.keyring)
    app.add_middleware(prometheus.Measured)
    problems.install(app)
    for router in GUARDED:
        app.include_router(router)
    openapi.install(app, needs_key=settings.api_key is not None)
    return app


def _telemetry(traces: Tracing) -> TelemetryConfig:
    """What FastAPI does of its own: spans of requests where there are traces, and nothing else."""
    return {
        "tracer_provider": traces.provider,
        "tracing": traces.provider is not None,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "auto_configure": False,
        "exclude": _is_untraced,
    }


def _is_untraced(scope: Scope) -> bool:
    return scope["path"] in UNTRACED


def _version() -> str:
    try:
        return metadata.version("meshyard")
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "0"


def _operation_id(route: APIRoute) -> str:
    """An operation is called as its function is; a test sees to it that no two are called the same."""
    return route.name


def build_context(settings: Settings) -> Context:
    """What the service shares, from its settings; makes the artifact folder and the probe file in it."""
    settings.artifact_root.mkdir(parents=True, exist_ok=True)
    store = LocalStore(settings.artifact_root)
    folder = store.shared_folder()
    probe = _probe(folder.resolve() / ".probe") if folder is not None else None
    traces = tracing.from_environment(os.environ, "meshyard-service")
    return Context(settings, Database(settings.database_url), store, Signals(), probe, tracing=traces)


def _probe(path: Path) -> Probe:
    """The file by which a worker shows that it sees the artifact folder; kept from one start to the next, as workers stay too."""
    return Probe(path=str(path), token=kept_text(path, 0o644))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    context: Context = app.state.context
    context.signals.bind(asyncio.get_running_loop())
    await run_in_threadpool(sweeper.spare, context)
    tasks = (
        (partial(sweeper.sweep_if_due, context), context.settings.sweep_seconds),
        (partial(sweeper.tidy, context), TIDY_SECONDS),
        (partial(tidying.retain, context), TIDY_SECONDS),
        (partial(access_keys.note_used, context, app.state.keyring), TIDY_SECONDS),
        (partial(access_usage.settle, context), TIDY_SECONDS),
        (partial(access_usage.measure, context), MEASURE_SECONDS),
    )
    repeating = [asyncio.create_task(_repeat(task, context, seconds)) for task, seconds in tasks]
    delivering = asyncio.create_task(Courier(context).run())
    try:
        yield
    finally:
        context.signals.close()
        await asyncio.gather(*repeating, delivering)
        context.database.close()
        await run_in_threadpool(context.tracing.close)


async def _repeat(task: partial[None], context: Context, seconds: float) -> None:
    signals = context.signals
    while not signals.closing:
        with signals.hearing(CLOSING) as heard:
            began, failed = time.perf_counter(), False
            try:
                await run_in_threadpool(task)
            except Exception:
                # The database may be away for a while; what is due is done when it is back.
                failed = True
                LOG.exception("in the background: %s", task.func.__name__)
            context.telemetry.ran(task.func.__name__, time.perf_counter() - began, failed=failed)
            await signals.wait(CLOSING, heard, seconds)
