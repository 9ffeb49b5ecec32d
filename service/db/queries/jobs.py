"""Jobs: their rows, their place in the queue, and who still needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.engine import Connection, Row

from jobs.states import TERMINAL
from service.db.tables import INDEXED, job_labels, job_needs, jobs

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
    if len(wanted.statuses) < 2:
        return list(connection.execute(_newest(select(jobs), wanted, wanted.statuses, after, limit)))
    # Each status has its part of an index in order, several of them together have not.
    each = (_newest(select(jobs.c.id), wanted, [status], after, limit).subquery() for status in wanted.statuses)
    ids = union_all(*(select(part.c.id) for part in each))
    return list(connection.execute(select(jobs).where(jobs.c.id.in_(ids)).order_by(jobs.c.id.desc()).limit(limit)))


def _newest(query: Select[Any], wanted: Filter, statuses: Sequence[str], after: str | None, limit: int) -> Select[Any]:
    """The first of the jobs that a filter lets through; `statuses`: at most one."""
    equal = ((jobs.c.kind, wanted.kind), (jobs.c.name, wanted.name), (jobs.c.group_id, wanted.group))
    conditions = [jobs.c.project == wanted.project, *(column == value for column, value in equal if value is not None)]
    conditions.extend(jobs.c.status == status for status in statuses)
    newest: ColumnElement[str] = jobs.c.id
    for key, value in wanted.metadata.items():
        label = job_labels.alias()
        labelled = (label.c.job_id == jobs.c.id) & (label.c.key == key) & _is(label.c.value, value)
        if newest is jobs.c.id:  # ordered by the first label, so that its index is read, in its order
            query, newest = query.join_from(jobs, label, labelled), label.c.job_id
        else:
            conditions.append(exists().where(labelled))
    if after is not None:
        conditions.append(newest < after)
    return query.where(*conditions).order_by(newest.desc()).limit(limit)


def _is(column: ColumnElement[str], value: str) -> ColumnElement[bool]:
    """Whether a label has a value, asked as its index has it: by the beginning, which is all there is of most."""
    begins = func.substr(column, literal_column("1"), literal_column(str(INDEXED))) == value[:INDEXED]
    return begins if len(value) < INDEXED else begins & (column == value)


def _positions() -> Select[Any, Any]:
    """Which of the jobs `ids` stand at the head of their project's queue, and where, from 1.

    The head is numbered once for all of them: to count before each would read it as often as there are jobs on a page.
    """
    ids: BindParameter[Sequence[str]] = bindparam("ids", expanding=True)
    project: BindParameter[str] = bindparam("project")
    last = select(func.max(jobs.c.turn)).where(jobs.c.id.in_(ids)).scalar_subquery()
    number = func.row_number().over(order_by=(ahead.c.turn, ahead.c.id)).label("number")
    queued = select(ahead.c.id, number).where(ahead.c.project == project, ahead.c.status == QUEUED, ahead.c.turn <= last)
    head = queued.order_by(ahead.c.turn, ahead.c.id).limit(MOST_COUNTED).subquery()
    return select(head.c.id, head.c.number).where(head.c.id.in_(ids))


POSITIONS = _positions()
"""Made once: a page asks for it each time, and making it takes as long as running it."""


def queue_positions(connection: Connection, project: str, job_ids: Sequence[str]) -> dict[str, int]:
    """Where queued jobs of a project stand in its queue, from 1; no further than `MOST_COUNTED` + 1."""
    rows = connection.execute(POSITIONS, {"ids": list(job_ids), "project": project})
    found = {row[0]: row[1] for row in rows}
    return {job_id: found.get(job_id, MOST_COUNTED + 1) for job_id in job_ids}


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
