"""Projects: whom everything belongs to, how much each may use, and what share is its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy.engine import Connection, Row

from jobs.ids import new_id
from service.db.queries import keys
from service.db.queries import projects as rows
from service.domain.callers import DEFAULT_PROJECT, Caller
from service.domain.errors import Conflict, NotFound
from service.domain.instants import Instant
from service.domain.lifecycle import Change

CALLED = {"code_bundles": "code bundles"}


class Quotas(BaseModel):
    """What a project may use at most; null sets no bound. `max_devices` and running jobs count what is held at one time."""

    max_queued_jobs: int | None
    max_running_jobs: int | None
    max_devices: int | None
    max_device_seconds: float | None
    device_seconds_period: Literal["day", "month", "total"]
    max_stored_bytes: int | None


class Project(BaseModel):
    """A project. `weight`: its share of the devices beside those of the others."""

    object: Literal["project"] = "project"
    id: str
    name: str
    weight: float
    quotas: Quotas
    created_at: Instant


def shown(row: Row[Any]) -> Project:
    """A project's row as users see it."""
    quotas = Quotas(**{name: getattr(row, name) for name in Quotas.model_fields})
    return Project(id=row.id, name=row.name, weight=row.weight, quotas=quotas, created_at=row.created_at)


def found(connection: Connection, caller: Caller, project_id: str) -> Row[Any]:
    """A project's row.

    Raises:
        NotFound: there is none, or it is not the caller's.
    """
    row = rows.get(connection, project_id)
    if row is None or caller.bound_project not in (None, project_id):
        raise NotFound("There is no such project.")
    return row


def create(change: Change, values: Mapping[str, Any]) -> Row[Any]:
    """Make a project.

    Raises:
        Conflict: the name is taken.
    """
    row = rows.add(change.connection, {"id": new_id("prj"), **values})
    if row is None:
        raise Conflict("There is a project of this name. Choose another.")
    return row


def patch(change: Change, project_id: str, values: Mapping[str, Any]) -> Row[Any]:
    """Change a project's name, weight or quotas.

    Raises:
        NotFound: there is none.
        Conflict: the name is taken.
    """
    row = _held(change, project_id)
    named = rows.named(change.connection, values["name"]) if "name" in values else None
    if named is not None and named.id != project_id:
        raise Conflict("There is a project of this name. Choose another.")
    return rows.change(change.connection, project_id, values) if values else row


def delete(change: Change, project_id: str) -> None:
    """Delete a project in which nothing is left.

    Raises:
        NotFound: there is none.
        Conflict: something is left in it, or it is the one that is always there.
    """
    _held(change, project_id)
    if project_id == DEFAULT_PROJECT:
        raise Conflict("The default project is always there.")
    left = [CALLED.get(name, name) for name in rows.holding(change.connection, project_id)]
    if keys.any_live(change.connection, project_id):
        left.append("keys that are not revoked")
    if left:
        raise Conflict(f"The project still has {' and '.join(left)}. Delete them first.")
    rows.remove(change.connection, project_id)


def _held(change: Change, project_id: str) -> Row[Any]:
    row = rows.lock(change.connection, project_id)
    if row is None:
        raise NotFound("There is no such project.")
    return row
