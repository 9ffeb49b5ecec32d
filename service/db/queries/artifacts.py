"""Artifacts: files that jobs have put out for good, by job and path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.engine import Connection, Row

from service.db.engine import insert_once, now_us
from service.db.tables import artifacts


def save(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert artifacts; one of the same path is replaced.

    Args:
        connection: a write transaction that holds the job.
        rows: `job_id`, `path`, `key`, `bytes` and `sha256` of each.
    """
    for row in rows:
        statement = insert_once(connection, artifacts).values(**row, created_at=now_us()).returning(artifacts.c.path)
        if connection.execute(statement).one_or_none() is None:
            here = (artifacts.c.job_id == row["job_id"], artifacts.c.path == row["path"])
            connection.execute(update(artifacts).where(*here).values(**row, created_at=now_us()))


def of_job(connection: Connection, job_id: str) -> list[Row[Any]]:
    """A job's artifacts by path."""
    return list(connection.execute(select(artifacts).where(artifacts.c.job_id == job_id).order_by(artifacts.c.path)))


def get(connection: Connection, job_id: str, path: str) -> Row[Any] | None:
    """One artifact."""
    return connection.execute(select(artifacts).where(artifacts.c.job_id == job_id, artifacts.c.path == path)).one_or_none()
