"""Delivering: a message is taken under a lease, sent by somebody else, and settled by what came of it.

At least once: a sender that dies leaves its messages to the next, and the receiver knows them by their id. Each try is fenced by
its number, so that a sender that was given up settles nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy.engine import Row

from service.context import Context
from service.db.queries import clock, outbox
from service.db.queries import webhooks as rows
from service.db.transaction import Read, Write
from service.domain import signing, webhooks
from service.domain.instants import MICROSECONDS, microseconds

GROWTH = (1, 6, 24, 120, 360, 720, 1440, 2880, 4320, 7200)
"""Waits between tries, in units of `webhook_backoff_seconds`: with 5 s they are 5 s … 10 h and make a day."""

AT_ONCE_EACH = 4
"""Messages of one webhook under way at a time: a target that hangs holds up nobody else's."""
LEASE_SPARE_SECONDS = 30.0
GONE = 410
LONGEST_ERROR = 500


@dataclass(frozen=True)
class Parcel:
    """A message ready to send."""

    delivery_id: str
    webhook_id: str
    attempt: int
    url: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Outcome:
    """What came of a try: the answer's status, or why there was none. `wait_seconds`: what the answer asked to wait."""

    status: int | None = None
    error: str | None = None
    wait_seconds: float = 0.0

    @property
    def is_success(self) -> bool:
        """Whether the message has arrived."""
        return self.status is not None and 200 <= self.status < 300


def take(context: Context, most: int, under_way: Mapping[str, int]) -> list[Parcel]:
    """Take messages that are due; begins no write where there are none.

    Args:
        context: what the service shares.
        most: how many.
        under_way: how many of each webhook the caller is sending already.
    """
    busy = [one for one, count in under_way.items() if count >= AT_ONCE_EACH]
    with Read(context.database) as read:
        waiting = outbox.due(read.connection, busy, most)
    if not waiting:
        return []
    lease_us = microseconds(context.settings.webhook_timeout_seconds + LEASE_SPARE_SECONDS)
    with Write(context.database) as write:
        targets = rows.some(write.connection, waiting)
        share = max(1, most // len(waiting))
        rooms = {one: min(share, AT_ONCE_EACH - under_way.get(one, 0)) for one in waiting}
        taken = [row for one, room in rooms.items() for row in outbox.take(write.connection, one, room, lease_us)]
        now = clock.now(write.connection)
    return [_parcel(row, targets[row.webhook_id], now) for row in taken if row.webhook_id in targets]


def _parcel(row: Row[Any], webhook: Row[Any], now: int) -> Parcel:
    body = orjson.dumps(webhooks.payload(row))
    signers = [webhook.secret]
    if webhook.previous_secret is not None and webhook.previous_until > now:
        signers.append(webhook.previous_secret)
    signed = signing.headers(row.message_id, now // MICROSECONDS, body, signers)
    return Parcel(row.id, row.webhook_id, row.attempts, webhook.url, signed, body)


def settle(context: Context, parcel: Parcel, outcome: Outcome) -> str:
    """Note what came of a try; gives `delivered`, `pending` (there will be another), `failed`, or `superseded`."""
    with Write(context.database) as write:
        now = clock.now(write.connection)
        values = _settled(parcel, outcome, now, context.settings.webhook_backoff_seconds)
        row = outbox.settle(write.connection, parcel.delivery_id, parcel.attempt, values)
        if row is None:
            return "superseded"
        if outcome.is_success:
            rows.note_success(write.connection, parcel.webhook_id)
        else:
            _give_up(write, row, outcome)
        status: str = row.status
        return status


def _settled(parcel: Parcel, outcome: Outcome, now: int, unit_seconds: float) -> dict[str, Any]:
    told = {"last_status": outcome.status, "last_error": outcome.error and outcome.error[:LONGEST_ERROR]}
    if outcome.is_success:
        return {"status": outbox.DELIVERED, "settled_at": now, **told}
    if parcel.attempt > len(GROWTH) or outcome.status == GONE:
        return {"status": outbox.FAILED, "settled_at": now, **told}
    growth = GROWTH[parcel.attempt - 1] * random.uniform(0.9, 1.1)  # noqa: S311  (spreads load, keeps no secret)
    return {"next_at": now + microseconds(max(growth * unit_seconds, outcome.wait_seconds)), **told}


def _give_up(write: Write, row: Row[Any], outcome: Outcome) -> None:
    """Disable a webhook whose target says that it is gone, or that has taken nothing since a message that failed for good."""
    webhook = rows.some(write.connection, [row.webhook_id])[row.webhook_id]
    if outcome.status == GONE:
        webhooks.disable(write.connection, webhook, "gone")
    elif row.status == outbox.FAILED and (webhook.succeeded_at or 0) < row.created_at:
        webhooks.disable(write.connection, webhook, "failing")
