"""Metric points, packed as batches brought them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection, Row

from service.db.tables import metric_chunks as chunks


def add(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert chunks: every column but `id`."""
    if rows:
        connection.execute(insert(chunks), list(rows))


def of_job(connection: Connection, job_id: str, names: Sequence[str] | None, from_step: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """Chunks of these series (of all with None) that reach `from_step`, in the order they came, series by series."""
    query = select(chunks.c.name, chunks.c.labels, chunks.c.steps, chunks.c["values"]).where(chunks.c.job_id == job_id)
    if names is not None:
        query = query.where(chunks.c.name.in_(names))
    if from_step > 0:
        query = query.where(chunks.c.last_step >= from_step)
    return connection.execute(query.order_by(chunks.c.name, chunks.c.id)).all()


def since(connection: Connection, job_id: str, chunk_id: int, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """A job's chunks that came after the chunk `chunk_id`, in order."""
    query = select(chunks).where(chunks.c.job_id == job_id, chunks.c.id > chunk_id)
    return connection.execute(query.order_by(chunks.c.id).limit(limit)).all()
