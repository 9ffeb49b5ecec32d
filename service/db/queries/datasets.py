"""Datasets: what was uploaded, once for each project, format and content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection, Row

from service.db.engine import insert_once, now_us
from service.db.tables import datasets


def add(connection: Connection, row: Mapping[str, Any]) -> Row[Any] | None:
    """Insert a dataset; None if the project has the same bytes in the same format already.

    Where another transaction is about to insert the same, this waits for its end.
    """
    statement = insert_once(connection, datasets).values(**row, created_at=now_us()).returning(*datasets.c)
    return connection.execute(statement).one_or_none()


def get(connection: Connection, project: str, dataset_id: str) -> Row[Any] | None:
    """A dataset's row, if the project has such a dataset."""
    return connection.execute(select(datasets).where(datasets.c.id == dataset_id, datasets.c.project == project)).one_or_none()


def same(connection: Connection, project: str, form: str, sha256: str) -> Row[Any] | None:
    """The project's dataset of this format and content."""
    query = select(datasets).where(datasets.c.project == project, datasets.c.format == form, datasets.c.sha256 == sha256)
    return connection.execute(query).one_or_none()


def page(connection: Connection, project: str, after: str | None, limit: int) -> list[Row[Any]]:
    """Datasets, newest first, that come after the dataset `after`."""
    query = select(datasets).where(datasets.c.project == project).order_by(datasets.c.id.desc()).limit(limit)
    return list(connection.execute(query if after is None else query.where(datasets.c.id < after)))


def any_at(connection: Connection, key: str) -> bool:
    """Whether any dataset of any project has its bytes under this key."""
    return connection.execute(select(datasets.c.id).where(datasets.c.key == key).limit(1)).first() is not None
