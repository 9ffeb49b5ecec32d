"""The database connection: the only file that knows which database it is.

SQLite runs in WAL mode with `synchronous=FULL`; every write begins with BEGIN IMMEDIATE, because a deferred transaction that turns
into a writer fails at once when another has written, whatever the busy timeout says. Its lock is unfair, so writers of one process
queue on a fair lock of ours first. Time is the database's: on SQLite that is this process's clock, given to it as a function,
because its own has milliseconds only.
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Engine, Table, create_engine, event, func, select
from sqlalchemy.dialects import postgresql as postgresql_dialect
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

BUSY_SECONDS = 30.0
CONNECT_SECONDS = 5
POOL_SIZE = 20
SCHEMA_LOCK = 0x6D657368  # any number, as long as it stays the same


class now_us(FunctionElement[int]):  # noqa: N801  (a SQL function, named as one)
    """Microseconds since the epoch by the database's clock, at the moment the statement runs."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_us, "sqlite")
def _now_us_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    return "meshyard_now_us()"


@compiles(now_us, "postgresql")
def _now_us_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    return "(extract(epoch from clock_timestamp()) * 1000000)::bigint"


def insert_once(connection: Connection, table: Table) -> sqlite_dialect.Insert | postgresql_dialect.Insert:
    """An INSERT that does nothing where the row is there already; with RETURNING it gives a row only where it did something."""
    if connection.dialect.name == "sqlite":
        return sqlite_dialect.insert(table).on_conflict_do_nothing()
    return postgresql_dialect.insert(table).on_conflict_do_nothing()


class FairLock:
    """A mutual exclusion that serves waiters in the order they came."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._held = False

    def __enter__(self) -> None:
        with self._guard:
            if not self._held:
                self._held = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()

    def __exit__(self, *exc: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._held = False


class Database:
    """A pool of connections with one way to read and one way to write.

    Args:
        url: SQLAlchemy URL, `sqlite:///path` or `postgresql+psycopg://…`.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(url) if self.is_sqlite else _postgresql_engine(url)
        self._writers = FairLock()

    @property
    def folder(self) -> Path | None:
        """Where the file lies, if the database is one."""
        return Path(self.url.database).parent if self.is_sqlite and self.url.database else None

    @contextmanager
    def read(self) -> Generator[Connection]:
        """A transaction that only reads; sees one moment of the database."""
        with self.engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
            else:
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield connection
            connection.rollback()

    @contextmanager
    def write(self) -> Generator[Connection]:
        """A transaction that may write; committed when the block ends without an error, else rolled back."""
        if not self.is_sqlite:
            with self.engine.begin() as connection:
                yield connection
            return
        with self._writers, self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    @contextmanager
    def exclusive(self) -> Generator[Connection]:
        """A write transaction that no other process has begun in this way: for changing the schema."""
        if not self.is_sqlite:
            with self.write() as connection:
                connection.execute(select(func.pg_advisory_xact_lock(SCHEMA_LOCK)))
                yield connection
            return
        # Two processes that open a new file at once can fail at switching it to WAL, before any lock of the database's own.
        with Path(f"{self.url.database}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with self.write() as connection:
                yield connection

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def _postgresql_engine(url: str) -> Engine:
    connecting = {"connect_timeout": CONNECT_SECONDS}
    return create_engine(url, connect_args=connecting, pool_size=POOL_SIZE, pool_pre_ping=True)


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}, pool_size=POOL_SIZE)

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, record: object) -> None:  # pyright: ignore[reportUnusedFunction]
        # The driver must not begin transactions by itself: it would begin deferred ones.
        connection.isolation_level = None
        connection.create_function("meshyard_now_us", 0, lambda: time.time_ns() // 1000)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={int(BUSY_SECONDS * 1000)}"):
            connection.execute(f"PRAGMA {pragma}")

    return engine
