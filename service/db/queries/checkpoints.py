"""Checkpoints that are whole. A row is written only after its files have been seen, so there is no state to ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, delete, exists, func, select, update
from sqlalchemy.engine import Connection, Row

from jobs.states import TERMINAL
from service.db.engine import insert_once, now_us
from service.db.tables import checkpoints, jobs

BRIEF: list[Column[Any]] = [column for column in checkpoints.c if column.name != "manifest"]
"""A checkpoint without its list of files, which can be long."""


def save(connection: Connection, row: Mapping[str, Any], lifetime: int | None) -> str | None:
    """Insert a checkpoint, or put it in the place of the one its step has, whose pin and expiry it inherits.

    Args:
        connection: a write transaction that holds the job.
        row: every column but `pinned` and the instants.
        lifetime: microseconds from now after which it lapses; None if it never does.

    Returns:
        The prefix of the checkpoint it replaced, if there was one.
    """
    here = (checkpoints.c.job_id == row["job_id"], checkpoints.c.step == row["step"])
    instants = {"created_at": now_us(), "lapses_at": None if lifetime is None else now_us() + lifetime}
    statement = insert_once(connection, checkpoints).values(**row, **instants).returning(checkpoints.c.step)
    if connection.execute(statement).one_or_none() is not None:
        return None
    replaced: str = connection.execute(select(checkpoints.c.prefix).where(*here)).scalar_one()
    connection.execute(update(checkpoints).where(*here).values(**row, **instants))
    return replaced


def page(connection: Connection, job_id: str, after: int, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """A job's checkpoints (`BRIEF` of them), ascending, those beyond the step `after`."""
    query = select(*BRIEF).where(checkpoints.c.job_id == job_id, checkpoints.c.step > after)
    return connection.execute(query.order_by(checkpoints.c.step).limit(limit)).all()


def all_of(connection: Connection, job_id: str) -> Sequence[Row[*tuple[Any, ...]]]:
    """All of a job's checkpoints (`BRIEF` of them), ascending."""
    return connection.execute(select(*BRIEF).where(checkpoints.c.job_id == job_id).order_by(checkpoints.c.step)).all()


def get(connection: Connection, job_id: str, step: int) -> Row[Any] | None:
    """A checkpoint with its manifest."""
    return connection.execute(select(checkpoints).where(checkpoints.c.job_id == job_id, checkpoints.c.step == step)).one_or_none()


def newest(connection: Connection, job_id: str) -> Row[Any] | None:
    """The checkpoint of the highest step, with its manifest."""
    query = select(checkpoints).where(checkpoints.c.job_id == job_id).order_by(checkpoints.c.step.desc()).limit(1)
    return connection.execute(query).one_or_none()


def change(connection: Connection, job_id: str, step: int, values: Mapping[str, Any]) -> Row[Any] | None:
    """Set columns of a checkpoint; gives the row (`BRIEF` of it) as it is then, None if there is none."""
    statement = update(checkpoints).where(checkpoints.c.job_id == job_id, checkpoints.c.step == step)
    return connection.execute(statement.values(**values).returning(*BRIEF)).one_or_none()


def remove(connection: Connection, job_id: str, steps: Sequence[int]) -> Sequence[Row[*tuple[Any, ...]]]:
    """Delete checkpoints; gives the rows (`BRIEF` of them) that were there."""
    statement = delete(checkpoints).where(checkpoints.c.job_id == job_id, checkpoints.c.step.in_(steps))
    return connection.execute(statement.returning(*BRIEF)).all()


def policy(connection: Connection, job_id: str) -> dict[str, Any]:
    """The `checkpoint` section of the job's resolved spec."""
    found: dict[str, Any] | None = connection.execute(
        select(jobs.c.resolved_spec["checkpoint"]).where(jobs.c.id == job_id)
    ).scalar_one_or_none()
    return found or {}


def read_by_live_jobs(connection: Connection, job_id: str) -> set[int]:
    """Steps of this job that jobs which have not ended start from."""
    ended = [status.value for status in TERMINAL]
    query = select(jobs.c.init_from_step).where(jobs.c.init_from_job == job_id, jobs.c.status.not_in(ended))
    return {step for step in connection.execute(query).scalars() if step is not None}


def jobs_with_expired(connection: Connection, limit: int) -> Sequence[str]:
    """Jobs that have a checkpoint whose time is over, neither pinned nor their newest nor the start of a live job."""
    newer = checkpoints.alias("newer")
    replaced = exists().where(newer.c.job_id == checkpoints.c.job_id, newer.c.step > checkpoints.c.step)
    here = (jobs.c.init_from_job == checkpoints.c.job_id, jobs.c.init_from_step == checkpoints.c.step)
    read = exists().where(*here, jobs.c.status.not_in([status.value for status in TERMINAL]))
    over = func.coalesce(checkpoints.c.expires_at, checkpoints.c.lapses_at) < now_us()
    query = select(checkpoints.c.job_id).where(over, checkpoints.c.pinned.is_(False), replaced, ~read)
    return connection.execute(query.distinct().limit(limit)).scalars().all()


def written_by(connection: Connection, job_id: str, step: int) -> str | None:
    """The attempt whose checkpoint of this step is listed."""
    query = select(checkpoints.c.attempt_id).where(checkpoints.c.job_id == job_id, checkpoints.c.step == step)
    return connection.execute(query).scalar_one_or_none()
