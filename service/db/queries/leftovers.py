"""What is over and may go: old events, old jobs, datasets that nobody names, what ended attempts have left behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, delete, exists, or_, select, update
from sqlalchemy.engine import Connection, Row

from jobs.states import TERMINAL
from service.db.engine import now_us
from service.db.tables import artifacts, attempts, checkpoints, datasets, events, jobs, preflights, uploads

ENDED = [status.value for status in TERMINAL]


def ended_jobs(connection: Connection, before: int, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """`id` and `project` of jobs that ended before an instant and that no live job starts from."""
    reader = jobs.alias("reader")
    read = exists().where(reader.c.init_from_job == jobs.c.id, reader.c.status.not_in(ENDED))
    query = select(jobs.c.id, jobs.c.project).where(jobs.c.finished_at < before, jobs.c.status.in_(ENDED), ~read)
    return connection.execute(query.order_by(jobs.c.finished_at).limit(limit)).all()


def forget_events(connection: Connection, before: int, jobs_at_once: int) -> int:
    """Forget the events of jobs that ended before an instant, but for the last of each; gives how many."""
    earlier = exists().where(events.c.job_id == jobs.c.id, events.c.seq < jobs.c.event_seq)
    old = select(jobs.c.id, jobs.c.event_seq).where(jobs.c.finished_at < before, earlier).limit(jobs_at_once)
    gone = 0
    for job_id, seq in connection.execute(old).all():
        gone += connection.execute(delete(events).where(events.c.job_id == job_id, events.c.seq < seq)).rowcount
    return gone


def _unused(before: int) -> Select[Any]:
    # Tokenizers are named inside specs, where no index looks: they stay.
    named = or_(
        exists().where(jobs.c.dataset_id == datasets.c.id),
        exists().where(preflights.c.dataset_id == datasets.c.id),
    )
    return select(datasets).where(datasets.c.created_at < before, datasets.c.format != "tokenizer", ~named)


def unused_datasets(connection: Connection, before: int, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """Datasets uploaded before an instant that no job names; their rows are held."""
    return connection.execute(_unused(before).order_by(datasets.c.id).limit(limit).with_for_update(skip_locked=True)).all()


def remove_dataset(connection: Connection, dataset_id: str) -> None:
    """Delete a dataset's row."""
    connection.execute(delete(datasets).where(datasets.c.id == dataset_id))


def uncollected(connection: Connection, before: int, limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """`id` and `job_id` of attempts that ended before an instant and whose folders have not been looked through."""
    query = select(attempts.c.id, attempts.c.job_id).where(attempts.c.ended_at < before, attempts.c.collected_at.is_(None))
    return connection.execute(query.order_by(attempts.c.ended_at).limit(limit)).all()


def note_collected(connection: Connection, attempt_id: str) -> None:
    """Note that an attempt's folder has been looked through."""
    connection.execute(update(attempts).where(attempts.c.id == attempt_id).values(collected_at=now_us()))


def steps_listed(connection: Connection, job_id: str, attempt_id: str) -> set[int]:
    """Steps of the checkpoints that lie in an attempt's folder."""
    query = select(checkpoints.c.step).where(checkpoints.c.job_id == job_id, checkpoints.c.attempt_id == attempt_id)
    return set(connection.scalars(query))


def has_outputs(connection: Connection, job_id: str, attempt_id: str) -> bool:
    """Whether anything that the job lists lies among an attempt's outputs."""
    below = artifacts.c.key.startswith(f"jobs/{job_id}/{attempt_id}/", autoescape=True)
    return connection.execute(select(artifacts.c.path).where(artifacts.c.job_id == job_id, below).limit(1)).first() is not None


def forget_uploads(connection: Connection, keys: Sequence[str]) -> None:
    """Forget files that have come whole and belong to nothing."""
    for key in keys:
        connection.execute(delete(uploads).where(uploads.c.key.startswith(f"{key}/", autoescape=True)))
