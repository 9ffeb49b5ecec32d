"""Webhooks: where they point, what they want to hear, what they sign with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.engine import Connection, Row

from service.db.engine import now_us
from service.db.tables import webhook_filters as filters
from service.db.tables import webhooks


def add(connection: Connection, row: Mapping[str, Any], patterns: Iterable[str]) -> Row[Any]:
    """Insert a webhook with its filters."""
    statement = insert(webhooks).values(**row, created_at=now_us(), updated_at=now_us()).returning(*webhooks.c)
    added = connection.execute(statement).one()
    set_filters(connection, added.id, patterns)
    return added


def set_filters(connection: Connection, webhook_id: str, patterns: Iterable[str]) -> None:
    """Replace what a webhook wants to hear."""
    connection.execute(delete(filters).where(filters.c.webhook_id == webhook_id))
    rows = [{"webhook_id": webhook_id, "pattern": pattern} for pattern in sorted(set(patterns))]
    if rows:
        connection.execute(insert(filters), rows)


def filters_of(connection: Connection, webhook_ids: Sequence[str]) -> dict[str, list[str]]:
    """What each of these wants to hear."""
    found: dict[str, list[str]] = {webhook_id: [] for webhook_id in webhook_ids}
    query = select(filters).where(filters.c.webhook_id.in_(webhook_ids)).order_by(filters.c.pattern)
    for row in connection.execute(query):
        found[row.webhook_id].append(row.pattern)
    return found


def count(connection: Connection, project: str) -> int:
    """How many webhooks a project has."""
    return connection.execute(select(func.count()).where(webhooks.c.project == project)).scalar_one()


def get(connection: Connection, project: str, webhook_id: str) -> Row[Any] | None:
    """A webhook's row, if the project has such a webhook."""
    return connection.execute(select(webhooks).where(webhooks.c.id == webhook_id, webhooks.c.project == project)).one_or_none()


def some(connection: Connection, webhook_ids: Sequence[str]) -> dict[str, Row[Any]]:
    """Rows by id, of any project."""
    return {row.id: row for row in connection.execute(select(webhooks).where(webhooks.c.id.in_(webhook_ids)))}


def page(connection: Connection, project: str, after: str | None, limit: int) -> list[Row[Any]]:
    """Webhooks, newest first, that come after the webhook `after`."""
    query = select(webhooks).where(webhooks.c.project == project).order_by(webhooks.c.id.desc()).limit(limit)
    return list(connection.execute(query if after is None else query.where(webhooks.c.id < after)))


def change(connection: Connection, webhook_id: str, values: Mapping[str, Any]) -> Row[Any] | None:
    """Set columns of a webhook; None if it is gone."""
    statement = update(webhooks).where(webhooks.c.id == webhook_id).values(**values, updated_at=now_us())
    return connection.execute(statement.returning(*webhooks.c)).one_or_none()


def note_success(connection: Connection, webhook_id: str) -> None:
    """Note that it has just taken a message."""
    connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(succeeded_at=now_us()))


def disable(connection: Connection, webhook_id: str, reason: str) -> bool:
    """Tell it nothing any more; False if it was disabled already."""
    statement = update(webhooks).where(webhooks.c.id == webhook_id, webhooks.c.status == "active")
    return connection.execute(statement.values(status="disabled", reason=reason, updated_at=now_us())).rowcount > 0


def remove(connection: Connection, project: str, webhook_id: str) -> bool:
    """Delete a webhook with its messages; False if the project has no such webhook."""
    return connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id, webhooks.c.project == project)).rowcount > 0
