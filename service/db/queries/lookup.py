"""The least that must be known of a job before what hangs on it is read: a whole row brings its spec, which can be a megabyte."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection, Row

from service.db.tables import code_bundles, datasets, jobs

OWNED = {"job": jobs, "ds": datasets, "code": code_bundles}
"""Tables by the kind of id of what lies in them."""


def project_of(connection: Connection, ident: str) -> str | None:
    """Whose a job, a dataset or a bundle is."""
    table = OWNED[ident.partition("_")[0]]
    return connection.execute(select(table.c.project).where(table.c.id == ident)).scalar_one_or_none()


def status(connection: Connection, project: str, job_id: str) -> str | None:
    """Where the job stands; None if the project has no such job."""
    query = select(jobs.c.status).where(jobs.c.id == job_id, jobs.c.project == project)
    return connection.execute(query).scalar_one_or_none()


def result(connection: Connection, project: str, job_id: str) -> Row[*tuple[Any, ...]] | None:
    """`status` and `result` of a job, if the project has it."""
    query = select(jobs.c.status, jobs.c.result).where(jobs.c.id == job_id, jobs.c.project == project)
    return connection.execute(query).one_or_none()
