"""`keys`, `projects`, `usage`, `audit`: who may ask for what, what they have used, what they have changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.errors import MeshyardError
from meshyard.cli.answer import Answer
from meshyard.cli.command import ListByDefault, command, new_app
from meshyard.cli.session import Session

if TYPE_CHECKING:
    from meshyard.models import Document, Key

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Id of a key.")]
ProjectArgument = Annotated[str, typer.Argument(metavar="PROJECT", help="Id of a project.")]
ProjectOption = Annotated[str | None, typer.Option("--project", help="Id of a project; by default your own.", show_default=False)]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")]
WeightOption = Annotated[float | None, typer.Option("--weight", help="Its share beside the others'.", show_default="1")]
QuotaOption = Annotated[
    list[str] | None,
    typer.Option("--quota", metavar="NAME=VALUE", help="max_running_jobs=4, …; none takes a bound away. May be repeated."),
]
KEEP = "Keep the key: it is not shown again."


class QuotaInvalid(MeshyardError):
    """A quota that cannot be read."""


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    panel = "Service"
    keys = new_app("Keys: create, list, rotate, revoke.", cls=ListByDefault)
    command(keys, "ls", "meshyard keys", "meshyard keys ls -o json")(list_keys)
    shown = ("meshyard keys create jobs:write --name laptop", "meshyard keys create worker --project prj_0192… -o json")
    command(keys, "create", *shown)(create_key)
    command(keys, "rotate", "meshyard keys rotate key_0192…", "meshyard keys rotate key_0192… --overlap-seconds 0")(rotate_key)
    command(keys, "revoke", "meshyard keys revoke key_0192…", "meshyard keys revoke key_0192… -o id")(revoke_key)
    app.add_typer(keys, name="keys", rich_help_panel=panel)
    projects = new_app("Projects: create, list, change, delete.", cls=ListByDefault)
    command(projects, "ls", "meshyard projects", "meshyard projects ls -o json")(list_projects)
    shown = ("meshyard projects create vision", "meshyard projects create vision --weight 2 --quota max_running_jobs=4")
    command(projects, "create", *shown)(create_project)
    shown = ("meshyard projects update prj_0192… --weight 2", "meshyard projects update prj_0192… --quota max_devices=none")
    command(projects, "update", *shown)(update_project)
    command(projects, "rm", "meshyard projects rm prj_0192…", "meshyard projects rm prj_0192… -o id")(delete_project)
    app.add_typer(projects, name="projects", rich_help_panel=panel)
    command(app, "usage", "meshyard usage", "meshyard usage --project prj_0192… -o json", panel=panel)(usage)
    command(app, "audit", "meshyard audit", "meshyard audit --key key_0192… -o json", panel=panel)(audit)


def list_keys(session: Session, project: ProjectOption = None) -> Answer:
    """List keys; none with its secret."""
    from meshyard.cli.views.tables import key_table

    found = list(session.client.keys.list(project=project))
    document = {"object": "list", "data": [one.to_dict() for one in found]}
    return Answer(document, [one.id for one in found], lambda: key_table(found))


def create_key(
    session: Session,
    scopes: Annotated[list[str], typer.Argument(metavar="SCOPE…", help="jobs:read, jobs:write, code:write, worker, admin.")],
    name: Annotated[str | None, typer.Option("--name", help="For people.")] = None,
    project: ProjectOption = None,
    expires_at: Annotated[str | None, typer.Option("--expires-at", help="2030-01-31T12:00:00Z; by default never.")] = None,
    *,
    all_projects: Annotated[bool, typer.Option("--all-projects", help="What it may do, it may do in every project.")] = False,
) -> Answer:
    """Make a key, and show it: this once."""
    made = session.client.keys.create(scopes, name=name, project=project, all_projects=all_projects, expires_at=expires_at)
    return _told(made)


def rotate_key(
    session: Session,
    key: KeyArgument,
    overlap_seconds: Annotated[
        float | None, typer.Option("--overlap-seconds", help="How long the secret before stays good.", show_default="a day")
    ] = None,
) -> Answer:
    """Give a key a new secret, and show it: this once."""
    return _told(session.client.keys.rotate(key, overlap_seconds=overlap_seconds))


def _told(made: Key) -> Answer:
    return Answer(made.to_dict(), [made.id], lambda: f"{made.id}\nkey {made.key}", KEEP)


def revoke_key(session: Session, key: KeyArgument) -> Answer:
    """Take a key back for good."""
    session.client.keys.revoke(key)
    return Answer({"object": "key", "id": key, "status": "revoked"}, [key], lambda: f"{key} revoked")


def list_projects(session: Session) -> Answer:
    """List projects with their quotas."""
    from meshyard.cli.views.tables import project_table

    found = list(session.client.projects.list())
    document = {"object": "list", "data": [one.to_dict() for one in found]}
    return Answer(document, [one.id for one in found], lambda: project_table(found))


def create_project(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    weight: WeightOption = None,
    quota: QuotaOption = None,
) -> Answer:
    """Make a project."""
    made = session.client.projects.create(name, weight=weight, quotas=_quotas(quota))
    return Answer(made.to_dict(), [made.id], lambda: made.id, f"Next: meshyard keys create jobs:write --project {made.id}")


def update_project(
    session: Session,
    project: ProjectArgument,
    name: Annotated[str | None, typer.Option("--name", help="What to call it.")] = None,
    weight: WeightOption = None,
    quota: QuotaOption = None,
) -> Answer:
    """Change a project's name, weight or quotas; what is left out stays."""
    from meshyard.cli.views.tables import fields

    found = session.client.projects.update(project, name=name, weight=weight, quotas=_quotas(quota))
    return Answer(found.to_dict(), [found.id], lambda: fields(found.to_dict()))


def _quotas(given: list[str] | None) -> Document | None:
    return dict(map(_quota, given)) if given else None


def _quota(text: str) -> tuple[str, str | float | None]:
    name, separator, value = text.partition("=")
    if not separator:
        raise QuotaInvalid(f"{text!r} is no quota; write one as max_running_jobs=4, or max_running_jobs=none")
    if value == "none":
        return name, None
    try:
        return name, int(value) if value.isdigit() else float(value)
    except ValueError:
        return name, value


def delete_project(session: Session, project: ProjectArgument) -> Answer:
    """Delete a project in which nothing is left."""
    session.client.projects.delete(project)
    return Answer({"object": "project", "id": project, "deleted": True}, [project], lambda: f"{project} deleted")


def usage(
    session: Session,
    project: ProjectOption = None,
    since: Annotated[str | None, typer.Option("--since", help="2026-11-23; by default thirty days ago.")] = None,
) -> Answer:
    """Tell what a project used by day, and what it holds now."""
    from meshyard.cli.views.tables import usage_table

    days = list(session.client.usage.days(project=project, since=since))
    standing = session.client.usage.now(project=project)
    document = {"object": "list", "data": [day.to_dict() for day in days], **standing}
    return Answer(document, [day.day for day in days], lambda: usage_table(days, standing))


def audit(
    session: Session,
    project: ProjectOption = None,
    key: Annotated[str | None, typer.Option("--key", help="Only what was done under this key.")] = None,
    limit: LimitOption = 20,
) -> Answer:
    """List what people have changed, newest first."""
    from meshyard.cli.views.tables import audit_table

    found = list(session.client.usage.audit(limit=limit, project=project, key_id=key))
    document = {"object": "list", "data": [one.to_dict() for one in found]}
    return Answer(document, [one.id for one in found], lambda: audit_table(found))
