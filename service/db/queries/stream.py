"""Where a reader of a job's stream begins."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from service.db.tables import metric_chunks


def newest_chunk(connection: Connection, job_id: str) -> int:
    """Id of the job's last chunk of metrics, 0 if it has none."""
    query = select(func.coalesce(func.max(metric_chunks.c.id), 0)).where(metric_chunks.c.job_id == job_id)
    return connection.execute(query).scalar_one()
