"""Webhooks: who is told what happens, and what was told."""

from __future__ import annotations

from collections.abc import Sequence

from meshyard.effects import Flow, Items, Request, send
from meshyard.flows.requests import fetch, get, paged, part, with_json
from meshyard.models import Webhook, WebhookDelivery


def add(url: str, events: Sequence[str] | None = None, *, name: str | None = None, secret: str | None = None) -> Flow[Webhook]:
    """Have events told to a URL. The answer alone holds the secret that messages are signed with.

    Args:
        url: where messages are sent.
        events: types to tell, or their first words and `.*`; all by default.
        name: for people.
        secret: `whsec_` and base64; made by the service by default.
    """
    given = {"url": url, "events": list(events) if events else None, "name": name, "secret": secret}
    document = {key: value for key, value in given.items() if value is not None}
    return (yield from fetch(Webhook, with_json("POST", "/v1/webhooks", document)))


def list_webhooks(*, limit: int | None = None) -> Items[Webhook]:
    """Webhooks, newest first."""
    return paged(Webhook, "/v1/webhooks", limit)


def get_webhook(webhook: str | Webhook) -> Flow[Webhook]:
    """A webhook as it stands."""
    return (yield from fetch(Webhook, get(_path(webhook))))


def update(
    webhook: str | Webhook,
    *,
    url: str | None = None,
    events: Sequence[str] | None = None,
    name: str | None = None,
    enabled: bool | None = None,
) -> Flow[Webhook]:
    """Change where a webhook points, what it hears, or whether it is told anything."""
    given = {"url": url, "events": list(events) if events is not None else None, "name": name, "enabled": enabled}
    document = {key: value for key, value in given.items() if value is not None}
    return (yield from fetch(Webhook, with_json("PATCH", _path(webhook), document)))


def delete(webhook: str | Webhook) -> Flow[None]:
    """Delete a webhook and what still waits for it."""
    yield from send(Request("DELETE", _path(webhook)))


def rotate(webhook: str | Webhook, *, secret: str | None = None, overlap_seconds: float | None = None) -> Flow[Webhook]:
    """Give a webhook a new secret; the one before signs too until the overlap ends (a day by default)."""
    given = {"secret": secret, "overlap_seconds": overlap_seconds}
    document = {key: value for key, value in given.items() if value is not None}
    return (yield from fetch(Webhook, with_json("POST", f"{_path(webhook)}/rotate", document)))


def send_test(webhook: str | Webhook) -> Flow[WebhookDelivery]:
    """Send a message of type `webhook.test`."""
    return (yield from fetch(WebhookDelivery, Request("POST", f"{_path(webhook)}/test")))


def deliveries(webhook: str | Webhook, *, limit: int | None = None) -> Items[WebhookDelivery]:
    """What a webhook was told and what came of it, newest first."""
    return paged(WebhookDelivery, f"{_path(webhook)}/deliveries", limit)


def redeliver(webhook: str | Webhook, delivery: str | WebhookDelivery) -> Flow[WebhookDelivery]:
    """Deliver a message again, whatever came of it before."""
    name = delivery.id if isinstance(delivery, WebhookDelivery) else delivery
    return (yield from fetch(WebhookDelivery, Request("POST", f"{_path(webhook)}/deliveries/{part(name)}/redeliver")))


def _path(webhook: str | Webhook) -> str:
    return f"/v1/webhooks/{part(webhook.id if isinstance(webhook, Webhook) else webhook)}"
