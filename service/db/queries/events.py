"""Events of a job: appended in the transaction of the change they tell, numbered without gaps."""

from __future__ import annotations

from typing import Any

from sqlalchemy import exists, insert, select, update
from sqlalchemy.engine import Connection, Row

from jobs.ids import new_id
from service.db.engine import now_us
from service.db.queries import outbox
from service.db.tables import events, jobs, webhooks

has_listeners = exists().where(webhooks.c.project == jobs.c.project, webhooks.c.status == "active")
"""Whether anybody is told of a job's events at all: asked along with the count, so that it costs no statement of its own."""


def append(connection: Connection, job_id: str, kind: str, data: dict[str, Any]) -> int:
    """Add an event and give its `seq`.

    The counter lies in the job's row: its lock puts writers in order, and a rollback takes the number back, so there are no gaps.
    """
    counting = update(jobs).where(jobs.c.id == job_id).values(event_seq=jobs.c.event_seq + 1)
    job = connection.execute(counting.returning(jobs.c.event_seq, jobs.c.project, has_listeners.label("heard"))).one()
    event_id = new_id("evt")
    row = {"job_id": job_id, "seq": job.event_seq, "id": event_id, "type": kind, "data": data}
    created_at: int = connection.execute(
        insert(events).values(**row, created_at=now_us()).returning(events.c.created_at)
    ).scalar_one()
    if job.heard:
        told = {"job_id": job_id, "seq": job.event_seq, "project": job.project, "details": data}
        outbox.post(connection, job.project, outbox.Message(event_id, kind, created_at, told))
    seq: int = job.event_seq
    return seq


def after(connection: Connection, job_id: str, seq: int, limit: int) -> list[Row[Any]]:
    """Events that follow `seq`, in order, at most `limit`."""
    query = select(events).where(events.c.job_id == job_id, events.c.seq > seq).order_by(events.c.seq).limit(limit)
    return list(connection.execute(query))


def has(connection: Connection, job_id: str, kind: str) -> bool:
    """Whether such an event ever happened to the job."""
    query = select(events.c.seq).where(events.c.job_id == job_id, events.c.type == kind).limit(1)
    return connection.execute(query).first() is not None
