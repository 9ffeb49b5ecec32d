"""Keys, projects, usage: who may ask for what, and what they have used."""

from __future__ import annotations

from collections.abc import Sequence

from meshyard.effects import Flow, Items, Request, send
from meshyard.flows.requests import fetch, get, paged, part, with_json
from meshyard.models import AuditEntry, Document, Key, Project, Usage


def create_key(
    scopes: Sequence[str],
    *,
    name: str | None = None,
    project: str | None = None,
    all_projects: bool = False,
    expires_at: str | None = None,
) -> Flow[Key]:
    """Make a key. Its `key` is told in this answer alone.

    Args:
        scopes: of `jobs:read`, `jobs:write`, `code:write`, `worker`, `admin`.
        name: for people.
        project: id or name of the project it is bound to; by default the caller's.
        all_projects: what it may do it may do in every project.
        expires_at: until when it is good, as RFC 3339; for ever by default.
    """
    given = {"scopes": list(scopes), "name": name, "project": project, "expires_at": expires_at}
    document = {key: value for key, value in given.items() if value is not None}
    return (yield from fetch(Key, with_json("POST", "/v1/keys", document | ({"all_projects": True} if all_projects else {}))))


def list_keys(*, limit: int | None = None, project: str | None = None) -> Items[Key]:
    """Keys, newest first; none with its secret."""
    return paged(Key, "/v1/keys", limit, project=project)


def get_key(key: str | Key) -> Flow[Key]:
    """A key as it stands; not its secret."""
    return (yield from fetch(Key, get(_key(key))))


def rotate_key(key: str | Key, *, overlap_seconds: float | None = None) -> Flow[Key]:
    """Give a key a new secret, told in this answer alone; the one before is good until the overlap ends (a day by default)."""
    document = {} if overlap_seconds is None else {"overlap_seconds": overlap_seconds}
    return (yield from fetch(Key, with_json("POST", f"{_key(key)}/rotate", document)))


def revoke_key(key: str | Key) -> Flow[None]:
    """Take a key back for good."""
    yield from send(Request("DELETE", _key(key)))


def create_project(name: str, *, weight: float | None = None, quotas: Document | None = None) -> Flow[Project]:
    """Make a project.

    Args:
        name: for people, and to name it by.
        weight: its share of the devices beside those of the others, 1 by default.
        quotas: of `max_queued_jobs`, `max_running_jobs`, `max_devices`, `max_device_seconds`, `device_seconds_period`,
            `max_stored_bytes`.
    """
    given = {"name": name, "weight": weight, "quotas": quotas}
    document = {key: value for key, value in given.items() if value is not None}
    return (yield from fetch(Project, with_json("POST", "/v1/projects", document)))


def list_projects(*, limit: int | None = None) -> Items[Project]:
    """Projects, newest first."""
    return paged(Project, "/v1/projects", limit)


def get_project(project: str | Project) -> Flow[Project]:
    """A project with its quotas."""
    return (yield from fetch(Project, get(_project(project))))


def update_project(
    project: str | Project, *, name: str | None = None, weight: float | None = None, quotas: Document | None = None
) -> Flow[Project]:
    """Change a project's name, weight or quotas; a quota of None sets no bound any more."""
    given = {"name": name, "weight": weight, "quotas": quotas}
    document = {key: value for key, value in given.items() if value is not None}
    return (yield from fetch(Project, with_json("PATCH", _project(project), document)))


def delete_project(project: str | Project) -> Flow[None]:
    """Delete a project in which nothing is left."""
    yield from send(Request("DELETE", _project(project)))


def usage(*, project: str | None = None, since: str | None = None, limit: int | None = None) -> Items[Usage]:
    """What a project used, by day, newest first: of the last thirty days, or since a day such as `2026-11-23`."""
    return paged(Usage, "/v1/usage", limit, project=project, since=since)


def standing(*, project: str | None = None) -> Flow[Document]:
    """What a project holds `now`, and the `quotas` that this counts against."""
    document = (yield from send(get("/v1/usage", project=project, limit=1))).json()
    return {"now": document["now"], "quotas": document["quotas"]}


def audit(*, limit: int | None = None, project: str | None = None, key_id: str | None = None) -> Items[AuditEntry]:
    """What people have changed, newest first."""
    return paged(AuditEntry, "/v1/audit", limit, project=project, key_id=key_id)


def _key(key: str | Key) -> str:
    return f"/v1/keys/{part(key.id if isinstance(key, Key) else key)}"


def _project(project: str | Project) -> str:
    return f"/v1/projects/{part(project.id if isinstance(project, Project) else project)}"
