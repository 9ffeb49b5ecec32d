"""`submit` and `validate`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from meshyard.cli.answer import Answer, ExitCode
from meshyard.cli.command import command
from meshyard.cli.following import finish, follow
from meshyard.cli.report import fault_lines
from meshyard.cli.session import Session
from meshyard.cli.specfile import read_spec

if TYPE_CHECKING:
    from rich.console import RenderableType

    from meshyard.models import Job, Validation

SpecArgument = Annotated[str, typer.Argument(metavar="SPEC", help="JSON file with the job's spec, or - for standard input.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a field: steps=500, optimizer.learning_rate=1e-3. Repeatable."),
]
NameOption = Annotated[str | None, typer.Option("--name", help="Name of the job, in place of the spec's.")]


class Level(StrEnum):
    """How deep a spec is looked at."""

    SCHEMA = "schema"
    SHAPES = "shapes"
    COMPILE = "compile"


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    panel = "Jobs"
    shown = (
        "meshyard submit lm.json --follow",
        "meshyard submit lm.json --set steps=500 --name quick",
        "meshyard submit - < lm.json",
    )
    command(app, "submit", *shown, panel=panel)(submit)
    checked = ("meshyard validate lm.json", "meshyard validate lm.json --level compile", "meshyard validate lm.json -o json")
    command(app, "validate", *checked, panel=panel)(validate)


def submit(
    session: Session,
    spec: SpecArgument,
    assignments: SetOption = None,
    name: NameOption = None,
    follow_it: Annotated[bool, typer.Option("--follow", "-f", help="Stay and watch; exit with 5 unless the job succeeds.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key and spec never make a second job.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check the spec, as validate does.")] = False,
) -> Answer:
    """Submit a job."""
    document = read_spec(session, spec, assignments or [], name)
    if dry_run:
        return _validated(session, session.client.jobs.validate(document))
    job = session.client.jobs.submit(document, idempotency_key)
    if not follow_it:
        return Answer(job.to_dict(), [job.id], lambda: _told(job), hint=f"follow it: meshyard watch {job.id}")
    session.attached = job.id
    session.say(_told(job))
    return finish(session, follow(session, job), exit_status=True)


def validate(
    session: Session,
    spec: SpecArgument,
    assignments: SetOption = None,
    level: Annotated[
        Level, typer.Option("--level", help="How deep: shapes has a worker trace it, compile has it compiled as well.")
    ] = Level.SCHEMA,
) -> Answer:
    """Check a spec without queueing anything; exit with 1 if it would be refused or cannot run."""
    return _validated(session, session.client.jobs.validate(read_spec(session, spec, assignments or [], None), level.value))


def _validated(session: Session, found: Validation) -> Answer:
    if not found.valid:
        session.err.print(f"error: {session.spec_name} would be refused")
        for line in fault_lines(session, found.errors):
            session.err.print(line, soft_wrap=True)
    code = 0 if found.valid else ExitCode.ERROR
    for warning in found.warnings:
        session.say(f"warning: {warning.pointer or '/'}: {warning.detail}")
    return Answer(found.to_dict(), show=lambda: _shown(found), exit_code=code)


def _shown(found: Validation) -> RenderableType:
    word = "valid" if found.valid else "not valid"
    if not (found.report or {}).get("examined"):
        return word
    from meshyard.cli.views.preflight import report_view

    return report_view(found.report or {}, word)


def _told(job: Job) -> str:
    place = f" (position {job.queue_position})" if job.queue_position else ""
    why = f": {job.reason}" if job.reason else ""
    return f"{job.id} {job.status}{place}{why}"
