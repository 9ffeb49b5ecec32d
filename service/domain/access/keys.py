"""Keys: made, shown once, rotated, revoked."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field
from sqlalchemy.engine import Connection, Row

from jobs.errors import Issue
from jobs.ids import new_id
from service.context import Context
from service.db.queries import keys as rows
from service.db.queries import projects
from service.db.transaction import Write
from service.domain.access.keyring import Keyring
from service.domain.access.tokens import mint
from service.domain.callers import BoundToProject, Caller, Scope
from service.domain.errors import Conflict, Invalid, NotFound
from service.domain.instants import Instant, microseconds
from service.domain.lifecycle import Change

DEFAULT_OVERLAP_SECONDS = 24 * 3600.0


class Key(BaseModel):
    """A key, without its secret. `previous_expires_at`: until when the secret before the last rotation is still taken."""

    object: Literal["key"] = "key"
    id: str
    name: str | None
    project: str
    prefix: str
    scopes: list[Scope]
    all_projects: bool
    status: Literal["active", "expired", "revoked"]
    created_at: Instant
    rotated_at: Instant | None
    expires_at: Instant | None
    previous_expires_at: Instant | None
    revoked_at: Instant | None
    last_used_at: Instant | None


class NewKey(Key):
    """A key with its secret, which is told this once and never again."""

    key: str = Field(description="Send it as `Authorization: Bearer <key>`.")


class Wanted(BaseModel):
    """A key to be made, as the domain sees it; instants in microseconds."""

    name: str | None
    scopes: list[Scope]
    project: str | None
    all_projects: bool | None
    expires_at: int | None


def create(change: Change, keyring: Keyring, caller: Caller, wanted: Wanted) -> NewKey:
    """Make a key.

    Raises:
        Invalid: no such project, or it would be over before it begins.
        BoundToProject: an administrator of one project asks for a key of another, or of all.
    """
    all_projects = _reaches_all(caller, wanted)
    project = _project_of(change.connection, caller, wanted.project)
    _refuse_past(change, wanted.expires_at)
    token = mint()
    row = rows.add(
        change.connection,
        {
            "id": new_id("key"),
            "project": project,
            "name": wanted.name,
            "prefix": token.prefix,
            "hash": keyring.pepper.hash(token),
            "pepper": keyring.pepper.name,
            "scopes": sorted(set(wanted.scopes)),
            "all_projects": all_projects,
            "expires_at": wanted.expires_at,
        },
    )
    return NewKey(**_fields(row, change.now), key=token.text)


def _reaches_all(caller: Caller, wanted: Wanted) -> bool:
    if wanted.all_projects and not caller.all_projects:
        raise BoundToProject("Only a key made with all_projects can make another such key.")
    return bool(wanted.all_projects)


def _project_of(connection: Connection, caller: Caller, named: str | None) -> str:
    if named is None or named == caller.project:
        return caller.project
    row = projects.named(connection, named) if caller.all_projects else None
    if row is None:
        raise Invalid("The key cannot be made; see errors.", [Issue("/project", "not_found", "There is no such project.")])
    return str(row.id)


def _refuse_past(change: Change, expires_at: int | None) -> None:
    if expires_at is not None and expires_at <= change.now:
        raise Invalid(
            "The key cannot be made; see errors.", [Issue("/expires_at", "out_of_range", "This instant is over; name one to come.")]
        )


def found(connection: Connection, caller: Caller, key_id: str) -> Row[Any]:
    """A key's row.

    Raises:
        NotFound: none that the caller administers.
    """
    row = rows.get(connection, caller.bound_project, key_id)
    if row is None:
        raise NotFound("There is no such key.")
    return row


def rotate(change: Change, keyring: Keyring, caller: Caller, key_id: str, overlap_seconds: float) -> NewKey:
    """Give a key a new secret; the one before stays good for a while, so that nothing need stop.

    Raises:
        NotFound: none that the caller administers.
        Conflict: it has been revoked or has expired.
        BoundToProject: it reaches further than the caller.
    """
    row = _held(change, caller, key_id)
    if _status(row, change.now) != "active":
        raise Conflict("Only an active key can be rotated. Make a new one.")
    token = mint(row.prefix)
    values: dict[str, Any] = {
        "hash": keyring.pepper.hash(token),
        "pepper": keyring.pepper.name,
        "previous_hash": row.hash,
        "previous_expires_at": change.now + microseconds(overlap_seconds),
        "rotated_at": change.now,
    }
    after = rows.change(change.connection, key_id, values)
    change.write.after(lambda: keyring.forget(key_id))
    return NewKey(**_fields(after, change.now), key=token.text)


def revoke(change: Change, keyring: Keyring, caller: Caller, key_id: str) -> None:
    """Take a key back for good. Again changes nothing.

    Raises:
        NotFound: none that the caller administers.
        BoundToProject: it reaches further than the caller.
    """
    row = _held(change, caller, key_id)
    if row.revoked_at is None:
        rows.change(change.connection, key_id, {"revoked_at": change.now})
    change.write.after(lambda: keyring.forget(key_id))


def _held(change: Change, caller: Caller, key_id: str) -> Row[Any]:
    row = rows.lock(change.connection, caller.bound_project, key_id)
    if row is None:
        raise NotFound("There is no such key.")
    if row.all_projects and not caller.all_projects:
        raise BoundToProject("This key reaches every project; only one that does too can change it.")
    return row


def note_used(context: Context, keyring: Keyring) -> None:
    """Write down when keys were last used; not with each request, which would make every reader a writer."""
    used = keyring.used()
    if used:
        with Write(context.database) as write:
            rows.note_used(write.connection, used)


def shown(row: Row[Any], now: int) -> Key:
    """A key's row as administrators see it."""
    return Key(**_fields(row, now))


def _fields(row: Row[Any], now: int) -> dict[str, Any]:
    names = ("id", "name", "project", "prefix", "scopes", "all_projects", "created_at", "rotated_at", "expires_at", "revoked_at")
    values = {name: getattr(row, name) for name in (*names, "last_used_at")}
    overlapping = row.previous_expires_at is not None and row.previous_expires_at > now
    return {**values, "previous_expires_at": row.previous_expires_at if overlapping else None, "status": _status(row, now)}


def _status(row: Row[Any], now: int) -> Literal["active", "expired", "revoked"]:
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.expires_at is not None and row.expires_at <= now else "active"
