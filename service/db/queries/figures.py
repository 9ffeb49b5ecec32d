"""Counts over the whole service, for its operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.engine import Connection, Row

from service.db.engine import now_us
from service.db.queries.jobs import QUEUED
from service.db.tables import checkpoints, code_bundles, datasets, jobs, workers


def jobs_by_status(connection: Connection) -> Sequence[Row[*tuple[Any, ...]]]:
    """`kind`, `status` and how many."""
    return connection.execute(select(jobs.c.kind, jobs.c.status, func.count()).group_by(jobs.c.kind, jobs.c.status)).all()


def longest_wait_us(connection: Connection) -> int:
    """How long the job that has been queued longest has waited, in microseconds; 0 with nobody in the queue."""
    waited: int | None = connection.execute(
        select(func.max(now_us() - jobs.c.queued_at)).where(jobs.c.status == QUEUED)
    ).scalar_one()
    return max(0, waited or 0)


def workers_seen_since(connection: Connection, instant: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """`status` and how many, of workers heard of since `instant`."""
    query = select(workers.c.status, func.count()).where(workers.c.seen_at >= instant).group_by(workers.c.status)
    return connection.execute(query).all()


def stored_bytes(connection: Connection) -> dict[str, int]:
    """Bytes held by kind: `checkpoints`, `datasets`, `code`."""
    tables = {"checkpoints": checkpoints, "datasets": datasets, "code": code_bundles}
    return {
        name: int(connection.execute(select(func.coalesce(func.sum(table.c.bytes), 0))).scalar_one())
        for name, table in tables.items()
    }
