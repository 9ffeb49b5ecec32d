"""Attempts and their leases. Every write on behalf of a worker is guarded by the fence it sent."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, case, delete, func, insert, or_, select, update
from sqlalchemy.engine import Connection, Row

from service.db.engine import now_us
from service.db.tables import attempt_workers, attempts, jobs, leases

HELD = [column for column in jobs.c if column.name not in {"spec", "resolved_spec", "result"}]
"""A job without its documents, which can be a megabyte each: a beat has no use for them."""


def hold(connection: Connection, attempt_id: str, fence: int) -> Row[Any] | None:
    """The row of the job that this attempt holds (`HELD` of it), locked; None if the fence is stale or the attempt has ended."""
    job_id = select(attempts.c.job_id).where(attempts.c.id == attempt_id).scalar_subquery()
    query = select(*HELD).where(jobs.c.id == job_id, jobs.c.attempt_id == attempt_id, jobs.c.fence == fence)
    return connection.execute(query.with_for_update(of=jobs)).one_or_none()


def get(connection: Connection, attempt_id: str) -> Row[Any] | None:
    """An attempt's row."""
    return connection.execute(select(attempts).where(attempts.c.id == attempt_id)).one_or_none()


def key_of(connection: Connection, attempt_id: str) -> str | None:
    """The key of the worker that has or had an attempt."""
    return connection.execute(select(attempts.c.key_id).where(attempts.c.id == attempt_id)).scalar_one_or_none()


def of_job(connection: Connection, job_id: str, after: int, limit: int) -> list[Row[Any]]:
    """A job's attempts in order of their numbers, those that follow the number `after`."""
    query = select(attempts).where(attempts.c.job_id == job_id, attempts.c.number > after)
    return list(connection.execute(query.order_by(attempts.c.number).limit(limit)))


def numbered(connection: Connection, job_id: str, number: int) -> Row[Any] | None:
    """The job's attempt of this number."""
    return connection.execute(select(attempts).where(attempts.c.job_id == job_id, attempts.c.number == number)).one_or_none()


def workers_of(connection: Connection, attempt_ids: Sequence[str]) -> dict[str, list[str]]:
    """Who ran which attempt, by rank."""
    found: dict[str, list[str]] = {attempt_id: [] for attempt_id in attempt_ids}
    query = select(attempt_workers.c.attempt_id, attempt_workers.c.worker_id).where(attempt_workers.c.attempt_id.in_(attempt_ids))
    for attempt_id, worker_id in connection.execute(query.order_by(attempt_workers.c.rank)):
        found[attempt_id].append(worker_id)
    return found


def start(connection: Connection, row: Mapping[str, Any], project: str, worker_id: str, devices: int, lease_us: int) -> None:
    """Insert an attempt that begins now, the lease on it, and who has it."""
    connection.execute(insert(attempts).values(**row))
    connection.execute(insert(attempt_workers).values(attempt_id=row["id"], rank=0, worker_id=worker_id))
    whose = {"job_id": row["job_id"], "project": project, "worker_id": worker_id}
    held = {"attempt_id": row["id"], "rank": 0, "devices": devices, **whose}
    connection.execute(insert(leases).values(**held, beat_at=now_us(), moved_at=now_us(), expires_at=now_us() + lease_us))


def renew(connection: Connection, attempt_id: str, fence: int, progress: Mapping[str, Any], lease_us: int) -> Row[Any] | None:
    """Note where an attempt stands and give its lease a new term.

    Args:
        connection: a write transaction.
        attempt_id: the attempt.
        fence: its fence; a stale one changes nothing.
        progress: `step` and `phase`.
        lease_us: the term from now.

    Returns:
        The job's row after it (`HELD` of it); None if the fence is stale.
    """
    job_id = select(attempts.c.job_id).where(attempts.c.id == attempt_id).scalar_subquery()
    held = (jobs.c.id == job_id, jobs.c.attempt_id == attempt_id, jobs.c.fence == fence)
    job = connection.execute(update(jobs).where(*held).values(**progress).returning(*HELD)).one_or_none()
    if job is not None:
        same = (attempts.c.id == attempt_id, attempts.c.step == progress["step"], attempts.c.phase == progress["phase"])
        still = select(attempts.c.id).where(*same).exists()
        moved_at = case((still, leases.c.moved_at), else_=now_us())
        term = {"beat_at": now_us(), "moved_at": moved_at, "expires_at": now_us() + lease_us}
        connection.execute(update(leases).where(leases.c.attempt_id == attempt_id).values(**term))
    return job


def change(connection: Connection, attempt_id: str, values: Mapping[str, Any]) -> Row[Any]:
    """Set columns of an attempt whose job this transaction holds; gives the row as it is then."""
    return connection.execute(update(attempts).where(attempts.c.id == attempt_id).values(**values).returning(*attempts.c)).one()


def release(connection: Connection, attempt_id: str) -> None:
    """Give up an attempt's lease."""
    connection.execute(delete(leases).where(leases.c.attempt_id == attempt_id))


def leased_by(connection: Connection, worker_id: str) -> list[str]:
    """Ids of the jobs that a worker is running."""
    return list(connection.execute(select(leases.c.job_id).where(leases.c.worker_id == worker_id)).scalars())


def expired(connection: Connection, limit: int) -> list[Row[Any]]:
    """Leases whose term is over, longest first; only looked at, not locked."""
    query = select(leases).where(leases.c.expires_at < now_us()).order_by(leases.c.expires_at).limit(limit)
    return list(connection.execute(query))


def hold_expired(connection: Connection, job_id: str, attempt_id: str) -> Row[Any] | None:
    """The row of a job whose attempt's lease is over, locked; None if it was renewed or ended, or another is at it already."""
    over = select(leases.c.attempt_id).where(leases.c.attempt_id == attempt_id, leases.c.expires_at < now_us()).exists()
    query = select(*HELD).where(jobs.c.id == job_id, jobs.c.attempt_id == attempt_id)
    job = connection.execute(query.with_for_update(of=jobs, skip_locked=True)).one_or_none()
    # A second look, under the lock: a beat may have come between the list of expired leases and here.
    return job if job is not None and connection.execute(select(over)).scalar_one() else None


def standing_still(
    connection: Connection, stepping: Collection[str], step_us: int, other_us: int, limit: int
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Attempts (`id`, `fence`) that have not moved for too long although they beat; only looked at, not locked.

    Args:
        connection: a transaction.
        stepping: phases in which steps are done.
        step_us: how long one may stand still in these.
        other_us: and in all others.
        limit: how many at most.
    """
    steps = attempts.c.phase.in_(stepping)
    over = or_(and_(steps, leases.c.moved_at < now_us() - step_us), and_(~steps, leases.c.moved_at < now_us() - other_us))
    query = select(attempts.c.id, attempts.c.fence).join(leases, attempts.c.id == leases.c.attempt_id).where(over)
    return connection.execute(query.order_by(leases.c.moved_at).limit(limit)).all()


def extend_all(connection: Connection, lease_us: int) -> None:
    """Give every lease at least a full term from now, and every attempt the benefit of having moved."""
    until = now_us() + lease_us
    connection.execute(update(leases).where(leases.c.expires_at < until).values(expires_at=until))
    connection.execute(update(leases).values(moved_at=now_us()))


def seconds_since_start(connection: Connection, attempt_id: str) -> float:
    """How long an attempt has been running."""
    age = select(func.max(now_us() - attempts.c.started_at)).where(attempts.c.id == attempt_id)
    return (connection.execute(age).scalar_one() or 0) / 1_000_000
