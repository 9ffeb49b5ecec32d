"""What projects have used, and what people have changed."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy.engine import Row

from service.db.queries import audit as audit_rows
from service.db.queries import clock
from service.db.queries import projects as project_rows
from service.domain.access import projects, usage
from service.domain.access.projects import Quotas
from service.domain.errors import Invalid
from service.domain.instants import Instant, day_of
from service.http.auth import Whoever
from service.http.paging import Limit, Listing, ProjectFilter, cut
from service.http.session import Reading, TransactionRoute

router = APIRouter(route_class=TransactionRoute, tags=["access"])

DAYS_SHOWN = 30
Day = Annotated[date | None, Query(description="The first day to count, by default thirty days ago.")]
AfterDay = Annotated[date | None, Query(description="Day that the page follows.")]
AfterEntry = Annotated[str | None, Query(pattern=r"^aud_[0-9a-f]{32}$", description="Id of the entry that the page follows.")]
KeyFilter = Annotated[str | None, Query(max_length=64, pattern=r"^[a-z0-9_]*$", description="Only what was done under this key.")]


class UsageList(Listing[usage.Used]):
    """What a project used, newest day first; with what it holds now and may hold at most."""

    now: usage.Standing
    quotas: Quotas


class Entry(BaseModel):
    """Something that a person changed: under which key, by which operation on which path, in which request, from where.

    `key_id` is `bootstrap` for the operator's own key and `local` where no keys are in use.
    """

    object: Literal["audit_entry"] = "audit_entry"
    id: str
    project: str
    key_id: str
    action: str
    target: str
    request_id: str
    address: str | None
    created_at: Instant
    data: dict[str, Any]


class AuditList(Listing[Entry]):
    """A page of entries, newest first."""


def _entry(row: Row[Any]) -> Entry:
    return Entry(**{name: getattr(row, name) for name in Entry.model_fields if name != "object"})


@router.get("/v1/usage")
def list_usage(
    read: Reading, caller: Whoever, project: ProjectFilter = None, since: Day = None, limit: Limit = 31, after: AfterDay = None
) -> UsageList:
    """Tell what a project used, by day in UTC, and what it holds now."""
    of = caller.within(project)
    row = project_rows.get(read.connection, of)
    if row is None:
        raise Invalid("There is no such project.")
    quotas = projects.shown(row).quotas
    first = since or date.fromisoformat(day_of(clock.now(read.connection))) - timedelta(days=DAYS_SHOWN)
    days = usage.days(read.connection, of, first.isoformat(), None if after is None else after.isoformat(), limit + 1)
    page, rest = cut(days, limit, "day")
    standing = usage.standing(read.connection, of, quotas.device_seconds_period)
    return UsageList(data=page, now=standing, quotas=quotas, **rest)


@router.get("/v1/audit")
def list_audit(
    read: Reading,
    caller: Whoever,
    limit: Limit = 20,
    after: AfterEntry = None,
    project: ProjectFilter = None,
    key_id: KeyFilter = None,
) -> AuditList:
    """List what people have changed, newest first."""
    of = caller.bound_project if project is None else caller.within(project)
    page, rest = cut(audit_rows.page(read.connection, of, key_id, after, limit + 1), limit, "id")
    return AuditList(data=[_entry(row) for row in page], **rest)
