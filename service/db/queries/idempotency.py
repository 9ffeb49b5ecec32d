"""Requests that were answered before, by project, route and key."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection, Row

from service.db.engine import insert_once, now_us
from service.db.tables import idempotency_keys as keys


def find(connection: Connection, project: str, route: str, key: str) -> Row[Any] | None:
    """The answer kept under a key, if any."""
    query = select(keys).where(keys.c.project == project, keys.c.route == route, keys.c.key == key)
    return connection.execute(query).one_or_none()


def take(connection: Connection, project: str, route: str, key: str, body_sha256: str) -> bool:
    """Take a key for this transaction; False if it is taken already.

    Where another transaction has taken it and not yet ended, this waits, so that the second of two equal requests hears the answer
    to the first.
    """
    row = {"project": project, "route": route, "key": key, "body_sha256": body_sha256, "status": 0}
    statement = insert_once(connection, keys).values(**row, response={}, created_at=now_us()).returning(keys.c.key)
    return connection.execute(statement).one_or_none() is not None


def keep(connection: Connection, project: str, route: str, key: str, status: int, response: dict[str, Any]) -> None:
    """Keep the answer to the request that took the key."""
    statement = update(keys).where(keys.c.project == project, keys.c.route == route, keys.c.key == key)
    connection.execute(statement.values(status=status, response=response))


def forget_before(connection: Connection, instant: int) -> int:
    """Forget answers older than `instant`; gives how many."""
    return connection.execute(delete(keys).where(keys.c.created_at < instant)).rowcount
