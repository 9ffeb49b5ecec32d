"""What people have changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Connection, Row

from service.db.engine import now_us
from service.db.tables import audit


def add(connection: Connection, row: Mapping[str, Any]) -> None:
    """Insert an entry."""
    connection.execute(insert(audit).values(**row, created_at=now_us()))


def page(connection: Connection, project: str | None, key_id: str | None, after: str | None, limit: int) -> list[Row[Any]]:
    """Entries, newest first, that come after the entry `after`; None asks for every project, and for every key."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    for column, value in ((audit.c.project, project), (audit.c.key_id, key_id)):
        query = query if value is None else query.where(column == value)
    return list(connection.execute(query if after is None else query.where(audit.c.id < after)))


def forget_before(connection: Connection, instant: int, limit: int) -> int:
    """Delete entries made before `instant`, oldest first; gives how many."""
    old = select(audit.c.id).where(audit.c.created_at < instant).order_by(audit.c.created_at).limit(limit)
    return connection.execute(delete(audit).where(audit.c.id.in_(old))).rowcount
