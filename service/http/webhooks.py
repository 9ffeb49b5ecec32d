"""Webhooks: add, list, read, change, delete; test, rotate; what was delivered, and delivering it again."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import Response as Plain

from service.db.queries import outbox
from service.db.queries import webhooks as rows
from service.domain import webhooks
from service.domain.errors import NotFound
from service.domain.lifecycle import Change
from service.domain.webhooks import Delivery, NewWebhook, Rotation, Webhook, WebhookPatch
from service.http.auth import Project
from service.http.body import JsonRoute
from service.http.courier import WEBHOOKS
from service.http.openapi import CONFLICT
from service.http.paging import Limit, Listing, cut
from service.http.session import Reading, Shared, Writing

router = APIRouter(route_class=JsonRoute, tags=["webhooks"])


class WebhookList(Listing[Webhook]):
    """A page of webhooks, newest first."""


class DeliveryList(Listing[Delivery]):
    """A page of deliveries, newest first."""


async def _webhook_id(webhook_id: Annotated[str, Path(description="Id of a webhook.")]) -> str:
    return _checked("whk", webhook_id)


async def _delivery_id(delivery_id: Annotated[str, Path(description="Id of a delivery.")]) -> str:
    return _checked("whd", delivery_id)


def _checked(kind: str, value: str) -> str:
    if not re.fullmatch(kind + r"_[0-9a-f]{32}", value):
        raise NotFound("There is nothing by that id.")
    return value


WebhookId = Annotated[str, Depends(_webhook_id)]
DeliveryId = Annotated[str, Depends(_delivery_id)]
AfterWebhook = Annotated[str | None, Query(pattern=r"^whk_[0-9a-f]{32}$", description="Id of the webhook that the page follows.")]
AfterDelivery = Annotated[str | None, Query(pattern=r"^whd_[0-9a-f]{32}$", description="Id of the delivery that the page follows.")]


@router.post("/v1/webhooks", status_code=201, responses={409: CONFLICT})
def add_webhook(wanted: NewWebhook, response: Response, write: Writing, context: Shared, project: Project) -> Webhook:
    """Add a webhook. Its secret is in this answer and in no other."""
    added = webhooks.add(Change(write, context), project, wanted)
    response.headers["Location"] = f"/v1/webhooks/{added.id}"
    return added


@router.get("/v1/webhooks")
def list_webhooks(read: Reading, project: Project, limit: Limit = 20, after: AfterWebhook = None) -> WebhookList:
    """List webhooks, newest first."""
    page, rest = cut(rows.page(read.connection, project, after, limit + 1), limit, "id")
    events = rows.filters_of(read.connection, [row.id for row in page])
    return WebhookList(data=[webhooks.shown(row, events[row.id]) for row in page], **rest)


@router.get("/v1/webhooks/{webhook_id}")
def get_webhook(webhook_id: WebhookId, read: Reading, project: Project) -> Webhook:
    """Read a webhook."""
    return webhooks.described(read.connection, webhooks.found(read.connection, project, webhook_id))


@router.patch("/v1/webhooks/{webhook_id}")
def update_webhook(webhook_id: WebhookId, wanted: WebhookPatch, write: Writing, context: Shared, project: Project) -> Webhook:
    """Change where a webhook points, what it hears, or whether it is told anything."""
    changed = webhooks.update(Change(write, context), project, webhook_id, wanted)
    _hurry(write, context)
    return changed


@router.delete("/v1/webhooks/{webhook_id}", status_code=204, response_class=Plain)
def delete_webhook(webhook_id: WebhookId, write: Writing, project: Project) -> None:
    """Delete a webhook and what still waits for it."""
    if not rows.remove(write.connection, project, webhook_id):
        raise NotFound("There is no such webhook.")


@router.post("/v1/webhooks/{webhook_id}/rotate")
def rotate_webhook_secret(
    webhook_id: WebhookId, write: Writing, context: Shared, project: Project, wanted: Rotation | None = None
) -> Webhook:
    """Give a webhook a new secret. Until the overlap ends each message bears both signatures."""
    return webhooks.rotate(Change(write, context), project, webhook_id, wanted or Rotation())


@router.post("/v1/webhooks/{webhook_id}/test", status_code=202, responses={409: CONFLICT})
def send_webhook_test(webhook_id: WebhookId, write: Writing, context: Shared, project: Project) -> Delivery:
    """Send a message of type `webhook.test`."""
    sent = webhooks.send_test(Change(write, context), project, webhook_id)
    _hurry(write, context)
    return sent


@router.get("/v1/webhooks/{webhook_id}/deliveries")
def list_webhook_deliveries(
    webhook_id: WebhookId, read: Reading, project: Project, limit: Limit = 20, after: AfterDelivery = None
) -> DeliveryList:
    """List what a webhook was told and what came of it, newest first."""
    webhooks.found(read.connection, project, webhook_id)
    page, rest = cut(outbox.page(read.connection, webhook_id, after, limit + 1), limit, "id")
    return DeliveryList(data=[webhooks.shown_delivery(row) for row in page], **rest)


@router.post("/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver", status_code=202, responses={409: CONFLICT})
def redeliver_webhook_message(
    webhook_id: WebhookId, delivery_id: DeliveryId, write: Writing, context: Shared, project: Project
) -> Delivery:
    """Deliver a message again, whatever came of it before."""
    sent = webhooks.redeliver(Change(write, context), project, webhook_id, delivery_id)
    _hurry(write, context)
    return sent


def _hurry(write: Writing, context: Shared) -> None:
    write.after(lambda: context.signals.wake(WEBHOOKS))
