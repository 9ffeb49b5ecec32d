"""Lists, and the ids that paths and cursors are made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Depends, Path, Query
from pydantic import BaseModel

from service.domain.errors import NotFound

Item = TypeVar("Item")
Element = TypeVar("Element")
Limit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
LARGEST = 2**53


class Listing(BaseModel, Generic[Item]):
    """A page of a list. `next`: what to send as `after` for the page that follows, null on the last."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    next: str | None


def cut(rows: Sequence[Element], limit: int, cursor: str) -> tuple[list[Element], dict[str, Any]]:
    """Cut `limit + 1` rows to a page.

    Args:
        rows: what a query for one row more than the page gave.
        limit: the page's size.
        cursor: attribute of a row that the following page continues after.

    Returns:
        The page's rows, and `has_more` and `next` for its `Listing`.
    """
    page = list(rows[:limit])
    more = len(rows) > limit
    return page, {"has_more": more, "next": str(getattr(page[-1], cursor)) if more else None}


def id_of(kind: str, value: str) -> str:
    """An id out of a path, if it is one of its kind. Raises NotFound."""
    # Looked at before the database sees it: PostgreSQL refuses to compare some texts at all.
    if not re.fullmatch(kind + r"_[0-9a-f]{32}", value):
        raise NotFound("There is nothing by that id.")
    return value


async def _job_id(job_id: Annotated[str, Path(description="Id of a job.")]) -> str:
    return id_of("job", job_id)


async def _attempt_id(attempt_id: Annotated[str, Path(description="Id of an attempt.")]) -> str:
    return id_of("att", attempt_id)


async def _worker_id(worker_id: Annotated[str, Path(description="Id of a worker.")]) -> str:
    return id_of("wrk", worker_id)


async def _preflight_id(preflight_id: Annotated[str, Path(description="Id of a validation.")]) -> str:
    return id_of("pre", preflight_id)


JobId = Annotated[str, Depends(_job_id)]
AttemptId = Annotated[str, Depends(_attempt_id)]
WorkerId = Annotated[str, Depends(_worker_id)]
PreflightId = Annotated[str, Depends(_preflight_id)]

PROJECT = r"(prj_[0-9a-f]{32}|default)"
ProjectFilter = Annotated[str | None, Query(pattern=rf"^{PROJECT}$", description="Id of a project; by default the caller's.")]
AfterWorker = Annotated[str | None, Query(pattern=r"^wrk_[0-9a-f]{32}$", description="Id of the worker that the page follows.")]
AfterNumber = Annotated[int, Query(ge=0, lt=LARGEST, description="Number that the page follows; 0 for the first page.")]
