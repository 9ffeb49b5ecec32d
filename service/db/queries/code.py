"""Bundles of user code: what was uploaded, once for each project, module name and content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection, Row

from service.db.engine import insert_once, now_us
from service.db.tables import code_bundles as bundles


def add(connection: Connection, row: Mapping[str, Any]) -> Row[Any] | None:
    """Insert a bundle; None if the project has the same bytes under the same module name already."""
    statement = insert_once(connection, bundles).values(**row, created_at=now_us()).returning(*bundles.c)
    return connection.execute(statement).one_or_none()


def get(connection: Connection, project: str, code_id: str) -> Row[Any] | None:
    """A bundle's row, if the project has such a bundle."""
    return connection.execute(select(bundles).where(bundles.c.id == code_id, bundles.c.project == project)).one_or_none()


def same(connection: Connection, project: str, module: str, sha256: str) -> Row[Any] | None:
    """The project's bundle of this content."""
    query = select(bundles).where(bundles.c.project == project, bundles.c.module == module, bundles.c.sha256 == sha256)
    return connection.execute(query).one_or_none()


def page(connection: Connection, project: str, after: str | None, limit: int) -> list[Row[Any]]:
    """Bundles, newest first, that come after the bundle `after`."""
    query = select(bundles).where(bundles.c.project == project).order_by(bundles.c.id.desc()).limit(limit)
    return list(connection.execute(query if after is None else query.where(bundles.c.id < after)))


def any_at(connection: Connection, key: str) -> bool:
    """Whether any bundle of any project has its bytes under this key."""
    return connection.execute(select(bundles.c.id).where(bundles.c.key == key).limit(1)).first() is not None
