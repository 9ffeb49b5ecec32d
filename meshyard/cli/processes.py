"""`serve`, `work`, `up` and `migrate`: the processes of a service. Their code is imported only here, and only when asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshyard.cli.answer import Answer
from meshyard.cli.command import carry_out
from meshyard.cli.report import UsageFault
from meshyard.cli.session import Session
from meshyard.errors import MissingExtra

if TYPE_CHECKING:
    from service.settings import Settings as ServiceSettings
    from worker.settings import Settings as WorkerSettings

PANEL = "Running a service"
OWN_PACKAGES = frozenset({"jobs", "service", "worker", "meshyard", "migrations"})


def _option(flag: str, text: str, variable: str, **more: Any) -> Any:
    return typer.Option(flag, help=text, envvar=f"MESHYARD_{variable}", show_default=False, **more)


HostOption = Annotated[str | None, _option("--host", "Address to listen on (127.0.0.1); without a key, a loopback one.", "HOST")]
PortOption = Annotated[int | None, _option("--port", "Port to listen on (8642).", "PORT", min=0, max=65535)]
DatabaseOption = Annotated[str | None, _option("--database-url", "SQLite or PostgreSQL.", "DATABASE_URL")]
RootOption = Annotated[Path | None, _option("--artifact-root", "Folder of datasets, checkpoints and artifacts.", "ARTIFACT_ROOT")]
KeyOption = Annotated[str | None, _option("--api-key", "The one key.", "API_KEY")]
LeaseOption = Annotated[float | None, _option("--lease-seconds", "How long a worker may be silent (15).", "LEASE_SECONDS", min=0.1)]
ServerOption = Annotated[str | None, _option("--server", "Address of the service.", "SERVER")]
DevicesOption = Annotated[int | None, _option("--cpu-devices", "Make so many virtual CPU devices.", "CPU_DEVICES", min=1)]
LabelsOption = Annotated[list[str] | None, _option("--labels", "What jobs may ask for; repeatable.", "LABELS", metavar="K=V")]
SlotsOption = Annotated[int | None, _option("--slots", "Jobs to run at once, sharing the devices.", "SLOTS", min=1)]
WorkDirOption = Annotated[Path | None, _option("--work-dir", "Scratch files and compile cache.", "WORK_DIR")]
CacheOption = Annotated[
    float | None,
    _option("--cache-gib", "Most that data and compiled programs kept for later jobs may take (50).", "CACHE_GIB", min=0),
]
PlatformOption = Annotated[str | None, _option("--platform", "cpu, cuda or tpu; by default what JAX finds.", "PLATFORM")]

CodeOption = Annotated[
    str | None,
    _option("--code", "Take code of users: off (the default), on, or uncontained where this machine cannot contain it.", "CODE"),
]


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    for name, body, example in (
        ("serve", serve, "meshyard serve --port 9000\n\n  MESHYARD_API_KEY=… meshyard serve --host 0.0.0.0"),
        ("work", work, "meshyard work --cpu-devices 8\n\n  meshyard work --server http://lab:8642 --labels rack=a,gpu=h200"),
        ("up", up, "meshyard up\n\n  meshyard up --cpu-devices 8 --port 9000"),
        ("migrate", migrate, "meshyard migrate --database-url postgresql+psycopg://localhost/meshyard\n\n  meshyard migrate"),
    ):
        app.command(name, epilog=f"Examples:\n\n  {example}", rich_help_panel=PANEL)(body)


def serve(
    host: HostOption = None,
    port: PortOption = None,
    database_url: DatabaseOption = None,
    artifact_root: RootOption = None,
    api_key: KeyOption = None,
    lease_seconds: LeaseOption = None,
    code: CodeOption = None,
) -> int:
    """Run the service. An SQLite database is made and migrated by itself."""
    given = {"host": host, "port": port, "database_url": database_url, "artifact_root": artifact_root}
    settings = {**given, "api_key": api_key, "lease_seconds": lease_seconds, "code": code}

    def body() -> int:
        from service.__main__ import serve

        return serve(_service_settings(settings))

    return _run("service", body)


def migrate(database_url: DatabaseOption = None) -> int:
    """Bring the database to the newest version."""

    def body() -> int:
        from service.__main__ import migrate

        return migrate(_service_settings({"database_url": database_url}))

    return _run("service", body)


def work(  # noqa: PLR0913, PLR0917 - every flag of the process
    server: ServerOption = None,
    api_key: KeyOption = None,
    cpu_devices: DevicesOption = None,
    labels: LabelsOption = None,
    slots: SlotsOption = None,
    work_dir: WorkDirOption = None,
    cache_gib: CacheOption = None,
    platform: PlatformOption = None,
    artifact_root: RootOption = None,
    code: CodeOption = None,
) -> int:
    """Run a worker: claim jobs and carry them out on this machine's devices."""
    given = {"server": server, "api_key": api_key, "cpu_devices": cpu_devices, "slots": slots, "work_dir": work_dir, "code": code}
    given |= {"cache_gib": cache_gib}

    def body() -> int:
        from worker.agent import work

        return work(_worker_settings({**given, "platform": platform, "artifact_root": artifact_root}, labels))

    return _run("worker", body)


def up(  # noqa: PLR0913, PLR0917 - every flag of both processes
    host: HostOption = None,
    port: PortOption = None,
    database_url: DatabaseOption = None,
    artifact_root: RootOption = None,
    api_key: KeyOption = None,
    cpu_devices: DevicesOption = None,
    slots: SlotsOption = None,
    labels: LabelsOption = None,
    work_dir: WorkDirOption = None,
    cache_gib: CacheOption = None,
    platform: PlatformOption = None,
    lease_seconds: LeaseOption = None,
    code: CodeOption = None,
) -> int:
    """Run the service and one worker, until either ends or this is interrupted."""
    from meshyard.cli.pair import Pair

    # Flags travel to both as environment: a key among them stays out of the list of processes.
    shared = {"HOST": host, "PORT": port, "DATABASE_URL": database_url, "ARTIFACT_ROOT": artifact_root, "API_KEY": api_key}
    own: dict[str, Any] = {
        "CACHE_GIB": cache_gib,
        "CPU_DEVICES": cpu_devices,
        "SLOTS": slots,
        "WORK_DIR": work_dir,
        "PLATFORM": platform,
        "LEASE_SECONDS": lease_seconds,
    }
    given = {**shared, **own, "CODE": code, "LABELS": ",".join(labels) if labels else None}
    environment = {**os.environ, **{f"MESHYARD_{name}": str(value) for name, value in given.items() if value is not None}}
    return _run("service", Pair(environment).run)


def _service_settings(given: dict[str, Any]) -> ServiceSettings:
    from pydantic import ValidationError

    from service.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        faults = "; ".join(f"MESHYARD_{'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors())
        raise UsageFault(f"the settings cannot be used: {faults}") from error


def _worker_settings(given: dict[str, Any], labels: list[str] | None) -> WorkerSettings:
    from worker.settings import SettingsInvalid, parse_labels, read_settings

    try:
        values = {name: value for name, value in given.items() if value is not None}
        if labels:
            values["labels"] = parse_labels(labels)
        return replace(read_settings(os.environ), **values)
    except SettingsInvalid as error:
        raise UsageFault(str(error)) from error


def _run(extra: str, body: Callable[[], Any]) -> int:
    return carry_out(Session(), lambda: Answer(None, exit_code=_with_extra(extra, body) or 0))


def _with_extra(extra: str, body: Callable[[], Any]) -> int:
    try:
        return body()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing in OWN_PACKAGES:
            raise
        raise MissingExtra(missing, extra) from error
