"""Keys: make, list, rotate, revoke. A key is told once, when it is made or rotated."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import Field

from jobs.spec.strict import Document, Name
from service.db.queries import clock
from service.db.queries import keys as rows
from service.domain.access import keys
from service.domain.access.keys import DEFAULT_OVERLAP_SECONDS, Key, NewKey, Wanted
from service.domain.callers import Scope
from service.domain.lifecycle import Change
from service.http.auth import Keys, Whoever
from service.http.body import JsonRoute
from service.http.instants import Instant, microseconds_of
from service.http.openapi import CONFLICT
from service.http.paging import Limit, Listing, ProjectFilter, cut, id_of
from service.http.session import Reading, Shared, Writing

router = APIRouter(route_class=JsonRoute, tags=["access"])

LONGEST_OVERLAP_SECONDS = 30 * 86_400.0
AfterKey = Annotated[str | None, Query(pattern=r"^key_[0-9a-f]{32}$", description="Id of the key that the page follows.")]
ScopeName = Literal["jobs:read", "jobs:write", "code:write", "worker", "admin"]


async def _key_id(key_id: Annotated[str, Path(description="Id of a key.")]) -> str:
    return id_of("key", key_id)


KeyId = Annotated[str, Depends(_key_id)]


class KeyList(Listing[Key]):
    """A page of keys, newest first."""


class KeyWanted(Document):
    """A key to be made.

    `project`: id or name, by default the caller's own. `all_projects`: what it may do it may do in every project; a worker that
    registers with such a key takes everybody's jobs.
    """

    name: Name | None = None
    scopes: list[ScopeName] = Field(min_length=1, max_length=20)
    project: Name | None = None
    all_projects: bool = False
    expires_at: Instant | None = None


class Rotation(Document):
    """How long the secret before stays good."""

    overlap_seconds: float = Field(default=DEFAULT_OVERLAP_SECONDS, ge=0, le=LONGEST_OVERLAP_SECONDS)


@router.post("/v1/keys", status_code=201)
def create_key(wanted: KeyWanted, response: Response, write: Writing, context: Shared, keyring: Keys, caller: Whoever) -> NewKey:
    """Make a key. The reply is the only place where it stands."""
    expires_at = None if wanted.expires_at is None else microseconds_of(wanted.expires_at)
    asked = Wanted(
        name=wanted.name,
        scopes=[Scope(scope) for scope in wanted.scopes],
        project=wanted.project,
        all_projects=wanted.all_projects,
        expires_at=expires_at,
    )
    made = keys.create(Change(write, context), keyring, caller, asked)
    response.headers["Location"] = f"/v1/keys/{made.id}"
    write.note(id=made.id, scopes=[scope.value for scope in made.scopes], project=made.project)
    return made


@router.get("/v1/keys")
def list_keys(read: Reading, caller: Whoever, limit: Limit = 20, after: AfterKey = None, project: ProjectFilter = None) -> KeyList:
    """List keys, newest first; none with its secret."""
    of = caller.bound_project if project is None else caller.within(project)
    page, rest = cut(rows.page(read.connection, of, after, limit + 1), limit, "id")
    now = clock.now(read.connection)
    return KeyList(data=[keys.shown(row, now) for row in page], **rest)


@router.get("/v1/keys/{key_id}")
def get_key(key_id: KeyId, read: Reading, caller: Whoever) -> Key:
    """Read a key; not its secret."""
    return keys.shown(keys.found(read.connection, caller, key_id), clock.now(read.connection))


@router.post("/v1/keys/{key_id}/rotate", responses={409: CONFLICT})
def rotate_key(
    key_id: KeyId, write: Writing, context: Shared, keyring: Keys, caller: Whoever, rotation: Rotation | None = None
) -> NewKey:
    """Give a key a new secret. The one before stays good for `overlap_seconds`."""
    overlap = (rotation or Rotation()).overlap_seconds
    return keys.rotate(Change(write, context), keyring, caller, key_id, overlap)


@router.delete("/v1/keys/{key_id}", status_code=204)
def revoke_key(key_id: KeyId, write: Writing, context: Shared, keyring: Keys, caller: Whoever) -> None:
    """Revoke a key for good. It stays in the list."""
    keys.revoke(Change(write, context), keyring, caller, key_id)
