"""Projects: their rows, and what belongs to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection, Row

from service.db.engine import insert_once, now_us
from service.db.tables import code_bundles, datasets, jobs, projects, usage, usage_entries, workers

BELONGINGS = (jobs, datasets, code_bundles, workers)


def add(connection: Connection, row: Mapping[str, Any]) -> Row[Any] | None:
    """Insert a project; gives its row, None if the name is taken."""
    statement = insert_once(connection, projects).values(**row, created_at=now_us())
    return connection.execute(statement.returning(*projects.c)).one_or_none()


def get(connection: Connection, project_id: str) -> Row[Any] | None:
    """A project's row."""
    return connection.execute(select(projects).where(projects.c.id == project_id)).one_or_none()


def lock(connection: Connection, project_id: str) -> Row[Any] | None:
    """The same, held until the transaction ends."""
    return connection.execute(select(projects).where(projects.c.id == project_id).with_for_update()).one_or_none()


def named(connection: Connection, name: str) -> Row[Any] | None:
    """The project of a name, or of an id."""
    query = select(projects).where((projects.c.name == name) | (projects.c.id == name)).order_by(projects.c.id).limit(1)
    return connection.execute(query).one_or_none()


def page(connection: Connection, only: str | None, after: str | None, limit: int) -> list[Row[Any]]:
    """Projects, newest first, that come after the project `after`; `only` this one if it is named."""
    query = select(projects).order_by(projects.c.id.desc()).limit(limit)
    query = query if only is None else query.where(projects.c.id == only)
    return list(connection.execute(query if after is None else query.where(projects.c.id < after)))


def ids(connection: Connection) -> Sequence[str]:
    """Every project."""
    return connection.execute(select(projects.c.id).order_by(projects.c.id)).scalars().all()


def change(connection: Connection, project_id: str, values: Mapping[str, Any]) -> Row[Any]:
    """Set columns of a project; gives the row as it is then."""
    statement = update(projects).where(projects.c.id == project_id).values(**values)
    return connection.execute(statement.returning(*projects.c)).one()


def holding(connection: Connection, project_id: str) -> list[str]:
    """Names of the tables in which something belongs to a project."""
    found = (connection.execute(select(table.c.id).where(table.c.project == project_id).limit(1)).first() for table in BELONGINGS)
    return [table.name for table, row in zip(BELONGINGS, found, strict=True) if row is not None]


def remove(connection: Connection, project_id: str) -> None:
    """Delete a project with its keys and what it has used."""
    for table in (usage, usage_entries):
        connection.execute(delete(table).where(table.c.project == project_id))
    connection.execute(delete(projects).where(projects.c.id == project_id))
