"""Webhooks: who is told what. The telling itself is `deliveries`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from sqlalchemy.engine import Connection, Row

from jobs.errors import Issue
from jobs.ids import new_id
from jobs.spec.strict import Document, Name
from service.db.queries import clock, outbox
from service.db.queries import webhooks as rows
from service.domain import signing, targets
from service.domain.errors import Conflict, Invalid, NotFound
from service.domain.instants import Instant, microseconds, wire
from service.domain.lifecycle import Change

MOST_WEBHOOKS = 50
"""Of a project: each event is written once for every one of them."""

OVERLAP_SECONDS = 24 * 3600.0
TEST = "webhook.test"
DISABLED = "webhook.disabled"

Pattern = Annotated[
    str, StringConstraints(max_length=100, pattern=r"^(\*|[a-z0-9_]+(\.[a-z0-9_]+)*(\.\*)?)$", strip_whitespace=False)
]


def _usable(secret: str) -> str:
    signing.key_of(secret)
    return secret


Secret = Annotated[str, StringConstraints(max_length=200), AfterValidator(_usable)]
Events = Annotated[list[Pattern], Field(min_length=1, max_length=50)]


class NewWebhook(Document):
    """A webhook to be. `events` are types, or a type's first words and `.*`: `job.failed`, `job.*`, `*`."""

    url: str
    events: Events = Field(default_factory=lambda: ["*"])
    name: Name | None = None
    secret: Secret | None = Field(default=None, description="whsec_ and base64 of 24 to 64 bytes; made if left out.")


class WebhookPatch(Document):
    """What of a webhook can be changed. Enabling one that was disabled goes on with what still waits."""

    url: str | None = None
    events: Events | None = None
    name: Name | None = None
    enabled: bool | None = None


class Rotation(Document):
    """How a secret is replaced: both sign until `overlap_seconds` have passed."""

    secret: Secret | None = None
    overlap_seconds: Annotated[float, Field(ge=0, le=30 * 86400.0)] = OVERLAP_SECONDS


class Webhook(BaseModel):
    """A webhook. `secret` is shown once: when it has just been made."""

    object: Literal["webhook"] = "webhook"
    id: str
    project: str
    name: str | None
    url: str
    events: list[str]
    enabled: bool
    disabled_reason: Literal["asked", "gone", "failing"] | None
    secret: str | None
    previous_secret_until: Instant | None
    last_success_at: Instant | None
    created_at: Instant
    updated_at: Instant


class Delivery(BaseModel):
    """A message for a webhook and what came of it. `webhook-id` in its headers is `message_id`."""

    object: Literal["webhook_delivery"] = "webhook_delivery"
    id: str
    webhook_id: str
    message_id: str
    type: str
    status: Literal["pending", "delivered", "failed"]
    attempts: int
    next_attempt_at: Instant | None
    created_at: Instant
    settled_at: Instant | None
    last_status: int | None
    last_error: str | None
    payload: dict[str, Any]


def shown(row: Row[Any], events: Sequence[str], secret: str | None = None) -> Webhook:
    """A webhook as users see it."""
    return Webhook(
        id=row.id,
        project=row.project,
        name=row.name,
        url=row.url,
        events=list(events),
        enabled=row.status == "active",
        disabled_reason=row.reason,
        secret=secret,
        previous_secret_until=row.previous_until,
        last_success_at=row.succeeded_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def payload(row: Row[Any]) -> dict[str, Any]:
    """The document that a delivery carries."""
    return {"id": row.message_id, "type": row.type, "timestamp": wire(row.created_at), "data": row.data}


def shown_delivery(row: Row[Any]) -> Delivery:
    """A delivery as users see it."""
    return Delivery(
        id=row.id,
        webhook_id=row.webhook_id,
        message_id=row.message_id,
        type=row.type,
        status=row.status,
        attempts=row.attempts,
        next_attempt_at=row.next_at if row.status == outbox.PENDING else None,
        created_at=row.created_at,
        settled_at=row.settled_at,
        last_status=row.last_status,
        last_error=row.last_error,
        payload=payload(row),
    )


def found(connection: Connection, project: str, webhook_id: str) -> Row[Any]:
    """A webhook's row.

    Raises:
        NotFound: the project has no such webhook.
    """
    row = rows.get(connection, project, webhook_id)
    if row is None:
        raise NotFound("There is no such webhook.")
    return row


def described(connection: Connection, row: Row[Any], secret: str | None = None) -> Webhook:
    """A webhook with its filters."""
    return shown(row, rows.filters_of(connection, [row.id])[row.id], secret)


def _check_target(change: Change, url: str) -> None:
    try:
        targets.check(url, targets.Allowed.read(change.context.settings.webhook_targets))
    except targets.NotAllowed as error:
        raise Invalid("The webhook cannot point there; see errors.", [Issue("/url", "target_not_allowed", str(error))]) from None


def add(change: Change, project: str, wanted: NewWebhook) -> Webhook:
    """Add a webhook.

    Raises:
        Invalid: it points where messages must not go.
        Conflict: the project has too many.
    """
    _check_target(change, wanted.url)
    if rows.count(change.connection, project) >= MOST_WEBHOOKS:
        raise Conflict(f"A project may have {MOST_WEBHOOKS} webhooks; delete one first.")
    secret = wanted.secret or signing.new_secret()
    row = {"id": new_id("whk"), "project": project, "name": wanted.name, "url": wanted.url, "secret": secret, "status": "active"}
    return described(change.connection, rows.add(change.connection, row, wanted.events), secret)


def update(change: Change, project: str, webhook_id: str, wanted: WebhookPatch) -> Webhook:
    """Change a webhook.

    Raises:
        NotFound: the project has no such webhook.
        Invalid: it would point where messages must not go, or a field that cannot be null is.
    """
    row = found(change.connection, project, webhook_id)
    given = {name: getattr(wanted, name) for name in wanted.model_fields_set}
    nulls = [Issue(f"/{name}", "wrong_type", "This cannot be null.") for name in given if given[name] is None and name != "name"]
    if nulls:
        raise Invalid("The request cannot be read; see errors.", nulls)
    if wanted.url is not None:
        _check_target(change, wanted.url)
    if wanted.events is not None:
        rows.set_filters(change.connection, webhook_id, wanted.events)
    values = {name: given[name] for name in ("url", "name") if name in given}
    if wanted.enabled is not None and wanted.enabled != (row.status == "active"):
        values |= {"status": "active", "reason": None} if wanted.enabled else {"status": "disabled", "reason": "asked"}
    return described(change.connection, rows.change(change.connection, webhook_id, values) or row)


def rotate(change: Change, project: str, webhook_id: str, wanted: Rotation) -> Webhook:
    """Give a webhook a new secret; the one before signs too, for a while.

    Raises:
        NotFound: the project has no such webhook.
    """
    row = found(change.connection, project, webhook_id)
    secret = wanted.secret or signing.new_secret()
    kept = {"previous_secret": row.secret, "previous_until": change.now + microseconds(wanted.overlap_seconds)}
    gone = {"previous_secret": None, "previous_until": None}
    values = {"secret": secret, **(kept if wanted.overlap_seconds > 0 else gone)}
    return described(change.connection, rows.change(change.connection, webhook_id, values) or row, secret)


def send_test(change: Change, project: str, webhook_id: str) -> Delivery:
    """Put a message of type `webhook.test` into its outbox, whatever it wants to hear.

    Raises:
        NotFound: the project has no such webhook.
        Conflict: it is disabled.
    """
    row = _enabled(change, project, webhook_id)
    message = outbox.Message(new_id("evt"), TEST, change.now, {"project": project, "webhook_id": row.id})
    outbox.address(change.connection, [row.id], message)
    return shown_delivery(outbox.page(change.connection, webhook_id, None, 1)[0])


def redeliver(change: Change, project: str, webhook_id: str, delivery_id: str) -> Delivery:
    """Deliver a message again, whatever came of it before.

    Raises:
        NotFound: no such webhook, or no such message of it.
        Conflict: the webhook is disabled.
    """
    _enabled(change, project, webhook_id)
    row = outbox.again(change.connection, webhook_id, delivery_id)
    if row is None:
        raise NotFound("There is no such delivery.")
    return shown_delivery(row)


def _enabled(change: Change, project: str, webhook_id: str) -> Row[Any]:
    row = found(change.connection, project, webhook_id)
    if row.status != "active":
        raise Conflict('This webhook is disabled; enable it first: PATCH {"enabled": true}.')
    return row


def disable(connection: Connection, row: Row[Any], reason: Literal["gone", "failing"]) -> None:
    """Tell a webhook nothing any more, and the project's others that it is so."""
    if rows.disable(connection, row.id, reason):
        told = {"project": row.project, "webhook_id": row.id, "reason": reason}
        outbox.post(connection, row.project, outbox.Message(new_id("evt"), DISABLED, clock.now(connection), told))
