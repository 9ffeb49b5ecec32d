"""The composition root: the only place that puts the parts together."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from importlib import metadata
from pathlib import Path

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute

from jobs.protocol import Probe
from service.context import Context
from service.db.engine import Database
from service.domain import sweeper, tidying
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
    leases,
    logs,
    metrics,
    openapi,
    preflights,
    problems,
    prometheus,
    stream,
    uploads,
    webhooks,
    workers,
)
from service.http.auth import Gate
from service.http.courier import Courier
from service.settings import Settings
from service.signals import Signals
from service.storage.local import LocalStore

LOG = logging.getLogger(__name__)

ROUTERS = (
    *(jobs, preflights, control, events, stream, metrics, logs, checkpoints, files, artifacts),
    *(datasets, code, catalog, workers, leases, uploads, webhooks, prometheus, health),
)
CLOSING = "closing"
TIDY_SECONDS = 60.0


def create_app(settings: Settings, context: Context | None = None) -> FastAPI:
    """Build the service.

    Args:
        settings: the operator's.
        context: what the service shares; built from the settings if left out.
    """
    app = FastAPI(
        title="Meshyard",
        version=_version(),
        description="A training and sampling service: JAX jobs in, restored checkpoints out.",
        lifespan=_lifespan,
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context or build_context(settings)
    app.add_middleware(Gate, api_key=settings.api_key)
    app.add_middleware(prometheus.Measured)
    problems.install(app)
    for module in ROUTERS:
        app.include_router(module.router)
    app.include_router(preflights.reports)
    openapi.install(app, needs_key=settings.api_key is not None)
    return app


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
    probe = _probe(folder) if folder is not None else None
    return Context(settings, Database(settings.database_url), store, Signals(), probe)


def _probe(folder: Path) -> Probe:
    """The file by which a worker shows that it sees the artifact folder; kept from one start to the next, as workers stay too."""
    path = folder.resolve() / ".probe"
    if not path.exists():
        _write_whole(path, secrets.token_hex(32))
    return Probe(path=str(path), token=path.read_text())


def _write_whole(path: Path, text: str) -> None:
    """Write a file that nobody ever sees half written; one that is there by now stays."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    draft.write_text(text)
    with suppress(FileExistsError):
        path.hardlink_to(draft)
    draft.unlink()


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    context: Context = app.state.context
    context.signals.bind(asyncio.get_running_loop())
    await run_in_threadpool(sweeper.spare, context)
    sweeping = asyncio.create_task(_repeat(sweeper.sweep_if_due, context, context.settings.sweep_seconds))
    forgetting = asyncio.create_task(_repeat(sweeper.tidy, context, TIDY_SECONDS))
    retaining = asyncio.create_task(_repeat(tidying.retain, context, TIDY_SECONDS))
    delivering = asyncio.create_task(Courier(context).run())
    try:
        yield
    finally:
        context.signals.close()
        await asyncio.gather(sweeping, forgetting, retaining, delivering)
        context.database.close()


async def _repeat(task: Callable[[Context], None], context: Context, seconds: float) -> None:
    signals = context.signals
    while not signals.closing:
        with signals.hearing(CLOSING) as heard:
            began, failed = time.perf_counter(), False
            try:
                await run_in_threadpool(task, context)
            except Exception:
                # The database may be away for a while; what is due is done when it is back.
                failed = True
                LOG.exception("in the background: %s", task.__name__)
            context.telemetry.ran(task.__name__, time.perf_counter() - began, failed=failed)
            await signals.wait(CLOSING, heard, seconds)
