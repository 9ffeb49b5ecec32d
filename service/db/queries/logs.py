"""What jobs wrote to their standard output and error, as batches brought it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.engine import Connection, Row

from service.db.tables import log_chunks as chunks


def add(connection: Connection, job_id: str, attempt_id: str, body: str) -> int:
    """Append a piece of log; gives the characters that the job has written so far, those no longer here included."""
    so_far = select(chunks.c.total).where(chunks.c.job_id == job_id).order_by(chunks.c.id.desc()).limit(1)
    total: int = (connection.execute(so_far).scalar_one_or_none() or 0) + len(body)
    connection.execute(insert(chunks).values(job_id=job_id, attempt_id=attempt_id, body=body, total=total))
    return total


def cut(connection: Connection, job_id: str, total: int) -> int:
    """Delete the pieces that end before the character `total` of the job's log; gives how many."""
    return connection.execute(delete(chunks).where(chunks.c.job_id == job_id, chunks.c.total <= total)).rowcount


def missing(connection: Connection, job_id: str) -> int:
    """How many characters of the log's beginning are no longer here."""
    first = select(chunks.c.total, func.length(chunks.c.body)).where(chunks.c.job_id == job_id).order_by(chunks.c.id).limit(1)
    row = connection.execute(first).one_or_none()
    return max(0, row[0] - row[1]) if row is not None else 0


def after(connection: Connection, job_id: str, chunk_id: int, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """`id` and `body` of the pieces that follow the piece `chunk_id`, in order."""
    query = select(chunks.c.id, chunks.c.body).where(chunks.c.job_id == job_id, chunks.c.id > chunk_id)
    return connection.execute(query.order_by(chunks.c.id).limit(limit)).all()


def before(connection: Connection, job_id: str, chunk_id: int | None, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """`id` and `body` of the last pieces before the piece `chunk_id` (of the very last with None), the latest first."""
    query = select(chunks.c.id, chunks.c.body).where(chunks.c.job_id == job_id).order_by(chunks.c.id.desc()).limit(limit)
    return connection.execute(query if chunk_id is None else query.where(chunks.c.id < chunk_id)).all()
