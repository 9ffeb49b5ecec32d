"""Projects: make, list, change, delete."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import AfterValidator, Field, StringConstraints

from jobs.spec.strict import Document, without_nul
from service.db.queries import projects as rows
from service.domain.access import projects
from service.domain.access.projects import Project
from service.domain.errors import NotFound
from service.domain.lifecycle import Change
from service.http.auth import Whoever
from service.http.body import JsonRoute
from service.http.openapi import CONFLICT
from service.http.paging import LARGEST, PROJECT, Limit, Listing, cut
from service.http.session import Reading, Shared, Writing

router = APIRouter(route_class=JsonRoute, tags=["access"])

AfterProject = Annotated[str | None, Query(pattern=rf"^{PROJECT}$", description="Id of the project that the page follows.")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(without_nul)]
Count = Annotated[int, Field(ge=0, lt=LARGEST)]
Weight = Annotated[float, Field(gt=0, le=1_000_000)]


async def _project_id(project_id: Annotated[str, Path(description="Id of a project.")]) -> str:
    if not re.fullmatch(PROJECT, project_id):
        raise NotFound("There is no such project.")
    return project_id


ProjectId = Annotated[str, Depends(_project_id)]


class ProjectList(Listing[Project]):
    """A page of projects, newest first."""


class QuotasWanted(Document):
    """What a project may use at most; null sets no bound."""

    max_queued_jobs: Count | None = None
    max_running_jobs: Count | None = None
    max_devices: Count | None = None
    max_device_seconds: Annotated[float, Field(ge=0)] | None = None
    device_seconds_period: Literal["day", "month", "total"] = "total"
    max_stored_bytes: Count | None = None


class ProjectWanted(Document):
    """A project to be made. `weight`: its share of the devices beside those of the others."""

    name: Name
    weight: Weight = 1.0
    quotas: QuotasWanted = Field(default_factory=QuotasWanted)


class ProjectPatch(Document):
    """What of a project can be changed; of its quotas, too, what is left out stays."""

    name: Name = ""
    weight: Weight = 1.0
    quotas: QuotasWanted = Field(default_factory=QuotasWanted)


def _columns(fields: ProjectWanted | ProjectPatch) -> dict[str, Any]:
    values: dict[str, Any] = fields.model_dump(include=fields.model_fields_set - {"quotas"})
    return values | fields.quotas.model_dump(include=fields.quotas.model_fields_set)


@router.post("/v1/projects", status_code=201, responses={409: CONFLICT})
def create_project(wanted: ProjectWanted, response: Response, write: Writing, context: Shared) -> Project:
    """Make a project."""
    made = projects.shown(projects.create(Change(write, context), _columns(wanted)))
    response.headers["Location"] = f"/v1/projects/{made.id}"
    write.note(id=made.id)
    return made


@router.get("/v1/projects")
def list_projects(read: Reading, caller: Whoever, limit: Limit = 20, after: AfterProject = None) -> ProjectList:
    """List projects, newest first: all of them, or the caller's own."""
    page, rest = cut(rows.page(read.connection, caller.bound_project, after, limit + 1), limit, "id")
    return ProjectList(data=[projects.shown(row) for row in page], **rest)


@router.get("/v1/projects/{project_id}")
def get_project(project_id: ProjectId, read: Reading, caller: Whoever) -> Project:
    """Read a project."""
    return projects.shown(projects.found(read.connection, caller, project_id))


@router.patch("/v1/projects/{project_id}", responses={409: CONFLICT})
def patch_project(project_id: ProjectId, fields: ProjectPatch, write: Writing, context: Shared) -> Project:
    """Change a project's name, weight or quotas; what is left out stays."""
    values = _columns(fields)
    write.note(**values)
    return projects.shown(projects.patch(Change(write, context), project_id, values))


@router.delete("/v1/projects/{project_id}", status_code=204, responses={409: CONFLICT})
def delete_project(project_id: ProjectId, write: Writing, context: Shared) -> None:
    """Delete a project in which nothing is left."""
    projects.delete(Change(write, context), project_id)
