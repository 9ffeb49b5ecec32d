"""Jobs: their rows, their place in the queue, and who still needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, exists, func, insert, literal_column, or_, select, update
from sqlalchemy.engine import Connection, Row

from jobs.states import TERMINAL
from service.db.tables import job_labels, job_needs, jobs

QUEUED: ColumnElement[str] = literal_column("'queued'")
"""As a literal and not as a parameter: only so do both databases see that the index of queued jobs will do."""
ahead = jobs.alias("ahead")
MOST_COUNTED = 1_000
"""Jobs that are counted before a queued one: nobody waits for an exact number beyond, and a million would take long to count."""


@dataclass(frozen=True)
class Filter:
    """What a list of jobs is narrowed to. `statuses`: any of them; `metadata`: all of them."""

    project: str
    statuses: Sequence[str] = ()
    kind: str | None = None
    name: str | None = None
    group: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


def add(connection: Connection, row: Mapping[str, Any], needs: Sequence[str], labels: Mapping[str, str]) -> None:
    """Insert a job with what it needs of a worker and the labels it is found by."""
    connection.execute(insert(jobs).values(**row))
    if needs:
        connection.execute(insert(job_needs), [{"job_id": row["id"], "need": need} for need in sorted(set(needs))])
    _add_labels(connection, row["id"], labels)


def _add_labels(connection: Connection, job_id: str, labels: Mapping[str, str]) -> None:
    if labels:
        connection.execute(insert(job_labels), [{"job_id": job_id, "key": key, "value": value} for key, value in labels.items()])


def relabel(connection: Connection, job_id: str, labels: Mapping[str, str]) -> None:
    """Replace the labels that a job is found by."""
    connection.execute(delete(job_labels).where(job_labels.c.job_id == job_id))
    _add_labels(connection, job_id, labels)


def get(connection: Connection, project: str, job_id: str) -> Row[Any] | None:
    """A job's row, if the project has such a job."""
    return connection.execute(select(jobs).where(jobs.c.id == job_id, jobs.c.project == project)).one_or_none()


def lock(connection: Connection, project: str | None, job_id: str) -> Row[Any] | None:
    """A job's row (of any project with None), held against every other writer until the transaction ends."""
    query = select(jobs).where(jobs.c.id == job_id).with_for_update()
    return connection.execute(query if project is None else query.where(jobs.c.project == project)).one_or_none()


def exists_in(connection: Connection, project: str, job_id: str) -> bool:
    """Whether the project has such a job."""
    return connection.execute(select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.project == project)).first() is not None


def status_of(connection: Connection, job_id: str) -> str | None:
    """Where a job stands; None if there is no such job."""
    return connection.execute(select(jobs.c.status).where(jobs.c.id == job_id)).scalar_one_or_none()


def retries_of(connection: Connection, job_id: str) -> dict[str, int]:
    """How often a job may be tried again: `max_failures` and `max_infra_retries`."""
    spec: dict[str, Any] = connection.execute(select(jobs.c.resolved_spec).where(jobs.c.id == job_id)).scalar_one()
    return spec["retries"]


def change(connection: Connection, job_id: str, values: Mapping[str, Any]) -> Row[Any]:
    """Set columns of a job whose row this transaction holds; gives the row as it is then."""
    return connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values).returning(*jobs.c)).one()


def remove(connection: Connection, job_id: str) -> None:
    """Delete a job and everything that hangs on it."""
    connection.execute(delete(jobs).where(jobs.c.id == job_id))


def page(connection: Connection, wanted: Filter, after: str | None, limit: int) -> list[Row[Any]]:
    """Jobs, newest first, that come after the job `after`."""
    conditions = [jobs.c.project == wanted.project]
    if wanted.statuses:
        conditions.append(jobs.c.status.in_(wanted.statuses))
    for column, value in ((jobs.c.kind, wanted.kind), (jobs.c.name, wanted.name), (jobs.c.group_id, wanted.group)):
        if value is not None:
            conditions.append(column == value)
    conditions.extend(_labelled(key, value) for key, value in wanted.metadata.items())
    if after is not None:
        conditions.append(jobs.c.id < after)
    return list(connection.execute(select(jobs).where(*conditions).order_by(jobs.c.id.desc()).limit(limit)))


def _labelled(key: str, value: str) -> ColumnElement[bool]:
    return exists().where(job_labels.c.job_id == jobs.c.id, job_labels.c.key == key, job_labels.c.value == value)


def queue_positions(connection: Connection, job_ids: Sequence[str]) -> dict[str, int]:
    """Where queued jobs stand among those of their project, from 1; no further than `MOST_COUNTED` + 1."""
    count = select(func.count()).select_from(_ahead().limit(MOST_COUNTED).subquery()).scalar_subquery()
    return {row[0]: row[1] + 1 for row in connection.execute(select(jobs.c.id, count).where(jobs.c.id.in_(job_ids)))}


def _ahead() -> Select[Any]:
    """Queued jobs that are claimed before the one of the query around it."""
    # The first condition follows from the second, and bounds the range of the index that is read.
    sooner = (ahead.c.turn <= jobs.c.turn) & or_(ahead.c.turn < jobs.c.turn, ahead.c.id < jobs.c.id)
    return select(ahead.c.id).where(ahead.c.project == jobs.c.project, ahead.c.status == QUEUED, sooner).correlate(jobs)


def ahead_of(connection: Connection, job: Row[Any], limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """The first jobs of the queue before this one: `id`, `name`, `priority`, `devices`, `queued_at`."""
    sooner = (ahead.c.turn <= job.turn) & or_(ahead.c.turn < job.turn, ahead.c.id < job.id)
    columns: list[ColumnElement[Any]] = [ahead.c[name] for name in ("id", "name", "priority", "devices", "queued_at")]
    query = select(*columns).where(ahead.c.project == job.project, ahead.c.status == QUEUED, sooner)
    return connection.execute(query.order_by(ahead.c.turn, ahead.c.id).limit(limit)).all()


def needs_of(connection: Connection, job_ids: Sequence[str]) -> dict[str, set[str]]:
    """What each job needs of a worker."""
    found: dict[str, set[str]] = {job_id: set() for job_id in job_ids}
    for job_id, need in connection.execute(select(job_needs.c.job_id, job_needs.c.need).where(job_needs.c.job_id.in_(job_ids))):
        found[job_id].add(need)
    return found


def live_reader_of(connection: Connection, job_id: str) -> str | None:
    """A job, not ended, that starts from a checkpoint of this one; None if there is none."""
    ended = [status.value for status in TERMINAL]
    query = select(jobs.c.id).where(jobs.c.init_from_job == job_id, jobs.c.status.not_in(ended), jobs.c.id != job_id)
    return connection.execute(query.limit(1)).scalar_one_or_none()
