"""Messages for webhooks: written with the event they tell, taken under a lease, settled once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.engine import Connection, Row

from jobs.ids import new_id
from service.db.engine import now_us
from service.db.tables import webhook_deliveries as deliveries
from service.db.tables import webhook_filters as filters
from service.db.tables import webhooks

PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"


@dataclass(frozen=True)
class Message:
    """What happened, as webhooks are told. `at`: when, in microseconds."""

    id: str
    type: str
    at: int
    data: Mapping[str, Any]


def patterns_of(kind: str) -> list[str]:
    """The filters that a type of event passes: `job.failed` passes `job.failed`, `job.*` and `*`."""
    parts = kind.split(".")
    return ["*", kind, *(".".join([*parts[:length], "*"]) for length in range(1, len(parts)))]


def post(connection: Connection, project: str, message: Message) -> int:
    """Put a message into the outbox of every webhook of the project that wants it; gives how many."""
    wanting = (
        select(webhooks.c.id)
        .join(filters, filters.c.webhook_id == webhooks.c.id)
        .where(webhooks.c.project == project, webhooks.c.status == "active", filters.c.pattern.in_(patterns_of(message.type)))
        .distinct()
    )
    return address(connection, list(connection.scalars(wanting)), message)


def address(connection: Connection, webhook_ids: Sequence[str], message: Message) -> int:
    """Put a message into the outbox of these webhooks; gives how many."""
    common = {"message_id": message.id, "type": message.type, "created_at": message.at, "data": dict(message.data)}
    state = {"status": PENDING, "attempts": 0, "next_at": message.at}
    rows = [{"id": new_id("whd"), "webhook_id": one, **common, **state} for one in sorted(webhook_ids)]
    if rows:
        connection.execute(insert(deliveries), rows)
    return len(rows)


def due(connection: Connection, busy: Collection[str], limit: int) -> list[str]:
    """Active webhooks, but for those that are busy, that have a message due; the one waiting longest first."""
    query = (
        select(deliveries.c.webhook_id)
        .join(webhooks, webhooks.c.id == deliveries.c.webhook_id)
        .where(deliveries.c.status == PENDING, deliveries.c.next_at <= now_us(), webhooks.c.status == "active")
        .where(deliveries.c.webhook_id.not_in(busy))
        .group_by(deliveries.c.webhook_id)
        .order_by(func.min(deliveries.c.next_at))
        .limit(limit)
    )
    return list(connection.scalars(query))


def take(connection: Connection, webhook_id: str, limit: int, lease_us: int) -> list[Row[Any]]:
    """Take a webhook's oldest messages that are due, each for a lease: whoever falls silent is followed by another."""
    chosen = (
        select(deliveries.c.id)
        .where(deliveries.c.webhook_id == webhook_id, deliveries.c.status == PENDING, deliveries.c.next_at <= now_us())
        .order_by(deliveries.c.next_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        # Chosen once: joined as a plain subquery it may be run for every row, each time passing over what it has locked so far.
        .cte("chosen")
        .prefix_with("MATERIALIZED")
    )
    statement = update(deliveries).where(deliveries.c.id.in_(select(chosen.c.id)), deliveries.c.status == PENDING)
    statement = statement.values(next_at=now_us() + lease_us, attempts=deliveries.c.attempts + 1)
    return list(connection.execute(statement.returning(*deliveries.c)).all())


def settle(connection: Connection, delivery_id: str, attempts: int, values: Mapping[str, Any]) -> Row[Any] | None:
    """Note what came of a try; None where another has taken the message since."""
    statement = update(deliveries).where(
        deliveries.c.id == delivery_id, deliveries.c.attempts == attempts, deliveries.c.status == PENDING
    )
    return connection.execute(statement.values(**values).returning(*deliveries.c)).one_or_none()


def again(connection: Connection, webhook_id: str, delivery_id: str) -> Row[Any] | None:
    """Have a message delivered once more, from now on and with every try; None if there is none."""
    statement = update(deliveries).where(deliveries.c.id == delivery_id, deliveries.c.webhook_id == webhook_id)
    values = {"status": PENDING, "attempts": 0, "next_at": now_us(), "settled_at": None}
    return connection.execute(statement.values(**values).returning(*deliveries.c)).one_or_none()


def page(connection: Connection, webhook_id: str, after: str | None, limit: int) -> list[Row[Any]]:
    """A webhook's messages, newest first, that come after the one named."""
    query = select(deliveries).where(deliveries.c.webhook_id == webhook_id).order_by(deliveries.c.id.desc()).limit(limit)
    return list(connection.execute(query if after is None else query.where(deliveries.c.id < after)))


def pending_by_age(connection: Connection) -> tuple[int, int]:
    """How many messages wait, and for how many microseconds the oldest of those due has been due."""
    query = select(func.count(), func.min(deliveries.c.next_at), now_us()).where(deliveries.c.status == PENDING)
    count, oldest, now = connection.execute(query).one()
    return count, max(0, now - oldest) if oldest is not None else 0


def forget_before(connection: Connection, instant: int, limit: int) -> int:
    """Forget messages written before `instant`, at most `limit`; gives how many."""
    old = select(deliveries.c.id).where(deliveries.c.created_at < instant).order_by(deliveries.c.created_at).limit(limit)
    return connection.execute(delete(deliveries).where(deliveries.c.id.in_(old))).rowcount
