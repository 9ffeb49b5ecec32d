"""Validations that wait for a worker: their rows, and the one statement by which a worker takes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, exists, insert, or_, select, update
from sqlalchemy.engine import Connection, Row

from service.db.engine import now_us
from service.db.queries.workers import serves
from service.db.tables import preflight_needs, preflights, worker_offers, workers

MOST_VIRTUAL_DEVICES = 1024
"""CPU devices that a child can make within a second or so."""

waiting = preflights.alias("waiting_preflights")


def add(connection: Connection, row: Mapping[str, Any], needs: Sequence[str]) -> None:
    """Insert a validation with what it needs of a worker."""
    connection.execute(insert(preflights).values(**row, status="waiting"))
    if needs:
        connection.execute(insert(preflight_needs), [{"preflight_id": row["id"], "need": need} for need in needs])


def _fits(worker: Row[Any], devices: int) -> ColumnElement[bool]:
    """Whether the worker has the devices; a CPU worker makes as many as it likes."""
    least = MOST_VIRTUAL_DEVICES if worker.platform == "cpu" else devices
    real = and_(or_(waiting.c.platform == "any", waiting.c.platform == worker.platform), waiting.c.devices <= least)
    return or_(waiting.c.level == "shapes", real)


def _best(worker: Row[Any], devices: int, levels: Sequence[str], since: int) -> Select[tuple[str]]:
    offered = exists().where(worker_offers.c.worker_id == worker.id, worker_offers.c.offer == preflight_needs.c.need)
    unmet = exists().where(preflight_needs.c.preflight_id == waiting.c.id, ~offered)
    asked = (waiting.c.status == "waiting", serves(worker, waiting.c.project), waiting.c.level.in_(levels))
    # Whoever asked has given up by then.
    fresh = waiting.c.waiting_since >= since
    return select(waiting.c.id).where(*asked, fresh, _fits(worker, devices), ~unmet).order_by(waiting.c.id).limit(1)


def suits(connection: Connection, worker: Row[Any], devices: int, levels: Sequence[str], since: int) -> bool:
    """Whether a validation waits that this worker can take."""
    return connection.execute(_best(worker, devices, levels, since)).first() is not None


def any_waiting(connection: Connection) -> bool:
    """Whether any validation waits for any worker."""
    return connection.execute(select(waiting.c.id).where(waiting.c.status == "waiting").limit(1)).first() is not None


def take(
    connection: Connection, worker: Row[Any], devices: int, levels: Sequence[str], since: int, lease_us: int
) -> Row[Any] | None:
    """Take the oldest validation that suits the worker; gives its row with its new fence, None if there is none."""
    best = _best(worker, devices, levels, since).with_for_update(of=waiting, skip_locked=True).scalar_subquery()
    values = {
        "status": "taken",
        "worker_id": worker.id,
        "fence": preflights.c.fence + 1,
        "expires_at": now_us() + lease_us,
    }
    statement = update(preflights).where(preflights.c.id == best, preflights.c.status == "waiting").values(**values)
    return connection.execute(statement.returning(*preflights.c)).one_or_none()


def key_of(connection: Connection, preflight_id: str) -> str | None:
    """The key of the worker that looks at it."""
    query = select(workers.c.key_id).join_from(preflights, workers, workers.c.id == preflights.c.worker_id)
    return connection.execute(query.where(preflights.c.id == preflight_id)).scalar_one_or_none()


def get(connection: Connection, preflight_id: str) -> Row[Any] | None:
    """A validation's row."""
    return connection.execute(select(preflights).where(preflights.c.id == preflight_id)).one_or_none()


def change(connection: Connection, preflight_id: str, fence: int, values: Mapping[str, Any]) -> Row[Any] | None:
    """Change a validation that is being tried under this fence; None if it is not any more."""
    held = (preflights.c.id == preflight_id, preflights.c.fence == fence, preflights.c.status == "taken")
    return connection.execute(update(preflights).where(*held).values(**values).returning(*preflights.c)).one_or_none()


def withdraw(connection: Connection, preflight_id: str) -> bool:
    """Delete a validation that no worker has taken; tells whether it was so."""
    statement = delete(preflights).where(preflights.c.id == preflight_id, preflights.c.status == "waiting")
    return bool(connection.execute(statement).rowcount)


def remove(connection: Connection, preflight_id: str) -> None:
    """Delete a validation, wherever it stands."""
    connection.execute(delete(preflights).where(preflights.c.id == preflight_id))


def expired(connection: Connection, limit: int) -> Sequence[Row[Any]]:
    """Validations whose worker has not been heard of in time."""
    over = (preflights.c.status == "taken", preflights.c.expires_at < now_us())
    return connection.execute(select(preflights).where(*over).limit(limit)).all()


def forget_before(connection: Connection, instant: int) -> int:
    """Delete validations asked for before `instant`: nobody can be waiting for them any more; gives how many."""
    return connection.execute(delete(preflights).where(preflights.c.created_at < instant)).rowcount
