"""What jobs wrote to their standard output and error, as batches brought it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection, Row

from service.db.tables import log_chunks as chunks


def add(connection: Connection, job_id: str, attempt_id: str, body: str) -> None:
    """Append a piece of log."""
    connection.execute(insert(chunks).values(job_id=job_id, attempt_id=attempt_id, body=body))


def after(connection: Connection, job_id: str, chunk_id: int, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """`id` and `body` of the pieces that follow the piece `chunk_id`, in order."""
    query = select(chunks.c.id, chunks.c.body).where(chunks.c.job_id == job_id, chunks.c.id > chunk_id)
    return connection.execute(query.order_by(chunks.c.id).limit(limit)).all()


def before(connection: Connection, job_id: str, chunk_id: int | None, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """`id` and `body` of the last pieces before the piece `chunk_id` (of the very last with None), the latest first."""
    query = select(chunks.c.id, chunks.c.body).where(chunks.c.job_id == job_id).order_by(chunks.c.id.desc()).limit(limit)
    return connection.execute(query if chunk_id is None else query.where(chunks.c.id < chunk_id)).all()
