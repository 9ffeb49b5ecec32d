"""Keys: their rows, and the one look by which a request's key is recognised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection, Row

from service.db.engine import now_us
from service.db.tables import keys


def add(connection: Connection, row: Mapping[str, Any]) -> Row[Any]:
    """Insert a key; gives its row."""
    return connection.execute(insert(keys).values(**row, created_at=now_us()).returning(*keys.c)).one()


def recognised(connection: Connection, prefix: str) -> Row[Any] | None:
    """The key of a prefix, and `now`."""
    return connection.execute(select(*keys.c, now_us().label("now")).where(keys.c.prefix == prefix)).one_or_none()


def get(connection: Connection, project: str | None, key_id: str) -> Row[Any] | None:
    """A key's row, if the project has it; None asks in every project."""
    query = select(keys).where(keys.c.id == key_id)
    return connection.execute(query if project is None else query.where(keys.c.project == project)).one_or_none()


def lock(connection: Connection, project: str | None, key_id: str) -> Row[Any] | None:
    """The same, held until the transaction ends."""
    query = select(keys).where(keys.c.id == key_id).with_for_update()
    return connection.execute(query if project is None else query.where(keys.c.project == project)).one_or_none()


def page(connection: Connection, project: str | None, after: str | None, limit: int) -> list[Row[Any]]:
    """Keys, newest first, that come after the key `after`; None asks in every project."""
    query = select(keys).order_by(keys.c.id.desc()).limit(limit)
    query = query if project is None else query.where(keys.c.project == project)
    return list(connection.execute(query if after is None else query.where(keys.c.id < after)))


def change(connection: Connection, key_id: str, values: Mapping[str, Any]) -> Row[Any]:
    """Set columns of a key; gives the row as it is then."""
    return connection.execute(update(keys).where(keys.c.id == key_id).values(**values).returning(*keys.c)).one()


def note_used(connection: Connection, used: Mapping[str, int]) -> None:
    """Note when keys were last used. In order, so that two who note at once do not wait for each other."""
    for key_id in sorted(used):
        later = (keys.c.last_used_at.is_(None)) | (keys.c.last_used_at < used[key_id])
        connection.execute(update(keys).where(keys.c.id == key_id, later).values(last_used_at=used[key_id]))


def any_live(connection: Connection, project: str) -> bool:
    """Whether a project has a key that is neither revoked nor over."""
    live = (keys.c.project == project, keys.c.revoked_at.is_(None), keys.c.expires_at.is_(None) | (keys.c.expires_at > now_us()))
    return connection.execute(select(keys.c.id).where(*live).limit(1)).first() is not None
