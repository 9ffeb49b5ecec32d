"""What a job may name, and the schema of the whole spec."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from jobs.spec import catalog
from jobs.spec.schema import arguments_schema, job_schema
from service.domain.errors import NotFound
from service.http.access import GuardedRoute
from service.http.paging import Listing

router = APIRouter(route_class=GuardedRoute, tags=["catalog"])

JsonSchema = dict[str, Any]
Sections = Annotated[str, Path(max_length=40, description="`models`, `optimizers`, …; see /v1/catalog.")]


class Entry(BaseModel):
    """A legal `type`: what it does, the schema of its arguments, and where the library has it."""

    object: str = "catalog_entry"
    type: str
    doc: str
    schema_: JsonSchema = Field(alias="schema")
    source: str | None
    kinds: list[str] | None


class EntryList(Listing[Entry]):
    """Entries of a section, by type."""


class Section(BaseModel):
    """A section of the catalog and how many entries it has."""

    object: str = "catalog_section"
    section: str
    count: int


class Overview(Listing[Section]):
    """All sections. `digest`: over everything in them; workers with the same digest know the same things."""

    digest: str


@router.get("/v1/catalog")
def get_catalog() -> Overview:
    """List the sections of the catalog."""
    known = catalog.load()
    sections = [Section(section=name, count=len(entries)) for name, entries in known.sections.items()]
    return Overview(data=sections, has_more=False, next=None, digest=known.digest)


@router.get("/v1/catalog/{section}")
def list_entries(
    section: Sections,
    limit: Annotated[int | None, Query(ge=1, le=100, description="How many at most; all by default.")] = None,
    after: Annotated[str | None, Query(max_length=200, description="Type that the page follows.")] = None,
) -> EntryList:
    """List a section's entries, by type."""
    entries = catalog.load().sections.get(section)
    if entries is None:
        raise NotFound("There is no such section of the catalog.")
    names = sorted(name for name in entries if after is None or name > after)
    page = names if limit is None else names[:limit]
    more = len(page) < len(names)
    return EntryList(data=[_entry(name, entries[name]) for name in page], has_more=more, next=page[-1] if more else None)


def _entry(name: str, entry: Any) -> Entry:
    return Entry(type=name, doc=entry["doc"], schema=arguments_schema(entry), source=entry.get("source"), kinds=entry.get("kinds"))


@router.get("/v1/schemas/job")
def get_job_schema() -> JsonSchema:
    """Read the JSON Schema of a job's spec."""
    return job_schema()
