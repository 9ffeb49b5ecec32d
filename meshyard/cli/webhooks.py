"""`webhooks`: who is told what happens."""

from __future__ import annotations

from typing import Annotated

import typer

from meshyard.cli.answer import Answer
from meshyard.cli.command import ListByDefault, command, new_app
from meshyard.cli.session import Session

WebhookArgument = Annotated[str, typer.Argument(metavar="WEBHOOK", help="Id of a webhook.")]
EventsOption = Annotated[
    str | None, typer.Option("--events", help="Types to tell, parted by commas: job.failed, job.*, * (all).", show_default="*")
]


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    webhooks = new_app("Webhooks: tell a URL what happens.", cls=ListByDefault)
    command(webhooks, "ls", "meshyard webhooks", "meshyard webhooks ls -o json")(list_webhooks)
    shown = ("meshyard webhooks add https://example.com/hook", "meshyard webhooks add https://example.com/hook --events 'job.*'")
    command(webhooks, "add", *shown)(add)
    command(webhooks, "test", "meshyard webhooks test whk_0192…", "meshyard webhooks test whk_0192… -o json")(send_test)
    shown = ("meshyard webhooks deliveries whk_0192…", "meshyard webhooks deliveries whk_0192… -o json")
    command(webhooks, "deliveries", *shown)(deliveries)
    shown = ("meshyard webhooks redeliver whk_0192… whd_0192…", "meshyard webhooks redeliver whk_0192… whd_0192… -o json")
    command(webhooks, "redeliver", *shown)(redeliver)
    command(webhooks, "rotate", "meshyard webhooks rotate whk_0192…", "meshyard webhooks rotate whk_0192… -o json")(rotate)
    command(webhooks, "enable", "meshyard webhooks enable whk_0192…", "meshyard webhooks enable whk_0192… -o id")(enable)
    command(webhooks, "disable", "meshyard webhooks disable whk_0192…", "meshyard webhooks disable whk_0192… -o id")(disable)
    command(webhooks, "rm", "meshyard webhooks rm whk_0192…", "meshyard webhooks rm whk_0192… -o id")(remove)
    app.add_typer(webhooks, name="webhooks", rich_help_panel="Service")


def list_webhooks(session: Session) -> Answer:
    """List webhooks: where they point and what they hear."""
    from meshyard.cli.views.tables import webhook_table

    found = list(session.client.webhooks.list())
    document = {"object": "list", "data": [one.to_dict() for one in found]}
    return Answer(document, [one.id for one in found], lambda: webhook_table(found))


def add(
    session: Session,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where messages are sent.")],
    events: EventsOption = None,
    name: Annotated[str | None, typer.Option("--name", help="For people.")] = None,
) -> Answer:
    """Add a webhook, and show its secret: this once."""
    made = session.client.webhooks.add(url, events.split(",") if events else None, name=name)
    return Answer(made.to_dict(), [made.id], lambda: f"{made.id}\nsecret {made.secret}", "Keep the secret: it is not shown again.")


def send_test(session: Session, webhook: WebhookArgument) -> Answer:
    """Send a message of type webhook.test."""
    sent = session.client.webhooks.test(webhook)
    return Answer(sent.to_dict(), [sent.id], lambda: f"{sent.id} {sent.status}", f"See: meshyard webhooks deliveries {webhook}")


def deliveries(
    session: Session,
    webhook: WebhookArgument,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
) -> Answer:
    """List what a webhook was told and what came of it."""
    from meshyard.cli.views.tables import delivery_table

    found = list(session.client.webhooks.deliveries(webhook, limit=limit))
    document = {"object": "list", "data": [one.to_dict() for one in found]}
    return Answer(document, [one.id for one in found], lambda: delivery_table(found))


def redeliver(
    session: Session,
    webhook: WebhookArgument,
    delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="Id of a delivery.")],
) -> Answer:
    """Deliver a message again."""
    sent = session.client.webhooks.redeliver(webhook, delivery)
    return Answer(sent.to_dict(), [sent.id], lambda: f"{sent.id} {sent.status}")


def rotate(session: Session, webhook: WebhookArgument) -> Answer:
    """Replace a webhook's secret; for a day messages bear both signatures."""
    made = session.client.webhooks.rotate(webhook)
    return Answer(made.to_dict(), [made.id], lambda: f"{made.id}\nsecret {made.secret}", "Keep the secret: it is not shown again.")


def enable(session: Session, webhook: WebhookArgument) -> Answer:
    """Tell a webhook again what happens, and what still waits."""
    return _switched(session, webhook, enabled=True)


def disable(session: Session, webhook: WebhookArgument) -> Answer:
    """Tell a webhook nothing until it is enabled."""
    return _switched(session, webhook, enabled=False)


def _switched(session: Session, webhook: str, *, enabled: bool) -> Answer:
    found = session.client.webhooks.update(webhook, enabled=enabled)
    return Answer(found.to_dict(), [found.id], lambda: f"{found.id} {'enabled' if enabled else 'disabled'}")


def remove(session: Session, webhook: WebhookArgument) -> Answer:
    """Delete a webhook and what still waits for it."""
    session.client.webhooks.delete(webhook)
    return Answer({"id": webhook, "deleted": True}, [webhook], lambda: f"{webhook} deleted")
