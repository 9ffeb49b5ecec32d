"""Metric points, packed as batches brought them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.engine import Connection, Row

from service.db.engine import now_us
from service.db.tables import attempts, jobs
from service.db.tables import metric_chunks as chunks
from service.db.tables import metric_series as series


def add(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert chunks: every column but `id`."""
    if rows:
        connection.execute(insert(chunks), list(rows))


def series_of(connection: Connection, job_id: str) -> set[str]:
    """Digests of the series that the job has."""
    return set(connection.scalars(select(series.c.digest).where(series.c.job_id == job_id)))


def add_series(connection: Connection, job_id: str, digests: Sequence[str]) -> None:
    """Note series that the job has from now on. The transaction must hold the job."""
    if digests:
        connection.execute(insert(series), [{"job_id": job_id, "digest": digest} for digest in digests])


def points_of(connection: Connection, job_id: str) -> int:
    """How many points the job's attempts have brought."""
    return int(
        connection.execute(select(func.coalesce(func.sum(attempts.c.points), 0)).where(attempts.c.job_id == job_id)).scalar_one()
    )


def replace(connection: Connection, ids: Sequence[int], rows: Sequence[Mapping[str, Any]]) -> None:
    """Put chunks in the place of others."""
    connection.execute(delete(chunks).where(chunks.c.id.in_(ids)))
    add(connection, rows)


def of_job(connection: Connection, job_id: str, names: Sequence[str] | None, from_step: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """Chunks of these series (of all with None) that reach `from_step`, in the order they came, series by series."""
    query = select(chunks.c.id, chunks.c.name, chunks.c.labels, chunks.c.steps, chunks.c["values"], chunks.c.thinned_from)
    query = query.where(chunks.c.job_id == job_id)
    if names is not None:
        query = query.where(chunks.c.name.in_(names))
    if from_step > 0:
        query = query.where(chunks.c.last_step >= from_step)
    return connection.execute(query.order_by(chunks.c.name, chunks.c.id)).all()


def unrolled(connection: Connection, finished_before: int, limit: int) -> list[str]:
    """Jobs that ended before an instant and whose chunks have not been put together."""
    rolling = (jobs.c.finished_at.is_not(None), jobs.c.metrics_rolled_at.is_(None), jobs.c.finished_at < finished_before)
    return list(connection.scalars(select(jobs.c.id).where(*rolling).order_by(jobs.c.finished_at).limit(limit)))


def unthinned(connection: Connection, finished_before: int, limit: int) -> list[str]:
    """Jobs that ended before an instant and whose series have not been looked at for their length."""
    thinning = (jobs.c.finished_at.is_not(None), jobs.c.metrics_thinned_at.is_(None), jobs.c.finished_at < finished_before)
    return list(connection.scalars(select(jobs.c.id).where(*thinning).order_by(jobs.c.finished_at).limit(limit)))


def note_rolled(connection: Connection, job_id: str) -> None:
    """Note that a job's chunks have been put together."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(metrics_rolled_at=now_us()))


def note_thinned(connection: Connection, job_id: str) -> None:
    """Note that a job's series are as long as they will ever be."""
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(metrics_thinned_at=now_us()))


def since(connection: Connection, job_id: str, chunk_id: int, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """A job's chunks that came after the chunk `chunk_id`, in order."""
    query = select(chunks).where(chunks.c.job_id == job_id, chunks.c.id > chunk_id)
    return connection.execute(query.order_by(chunks.c.id).limit(limit)).all()
