"""`get`, `ps`, and the words that steer a job."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.states import TERMINAL, Status
from meshyard.cli.answer import Answer
from meshyard.cli.command import JobArgument, command
from meshyard.cli.jobref import resolve, resolve_one
from meshyard.cli.report import Declined, UsageFault
from meshyard.cli.session import Session

if TYPE_CHECKING:
    from meshyard.models import Job

NoCheckpointOption = Annotated[bool, typer.Option("--no-checkpoint", help="Stop at once, without saving a last checkpoint.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    look, steer = "Jobs", "Steering"
    command(app, "get", "meshyard get @last", "meshyard get char-lm -o json", panel=look)(get)
    command(app, "ps", "meshyard ps", "meshyard ps -a --kind mcmc --limit 50", "meshyard ps --status failed -o id", panel=look)(ps)
    command(app, "cancel", "meshyard cancel @last", "meshyard cancel char-lm --no-checkpoint", panel=steer)(cancel)
    command(app, "pause", "meshyard pause char-lm", "meshyard pause @last -o json", panel=steer)(pause)
    command(app, "resume", "meshyard resume char-lm", "meshyard resume @last -o json", panel=steer)(resume)
    command(app, "profile", "meshyard profile @last", "meshyard profile char-lm --steps 20", panel=steer)(profile)
    command(app, "checkpoint", "meshyard checkpoint char-lm", "meshyard checkpoint @last -o json", panel=steer)(checkpoint)
    command(
        app, "patch", "meshyard patch char-lm --priority 5", "meshyard patch @last --name best --metadata team=nlp", panel=steer
    )(patch)
    command(app, "clone", "meshyard clone char-lm", "meshyard watch $(meshyard clone char-lm -o id)", panel=steer)(clone)
    command(app, "retry", "meshyard retry char-lm", "meshyard watch $(meshyard retry char-lm -o id)", panel=steer)(retry)
    command(app, "extend", "meshyard extend schools --num-samples 1000", "meshyard extend char-lm --steps 500 -o id", panel=steer)(
        extend
    )
    command(app, "rm", "meshyard rm char-lm", "meshyard rm @last --yes", panel=steer)(rm)


def get(session: Session, job: JobArgument) -> Answer:
    """Show a job in full."""
    from meshyard.cli.views.tables import job_details

    found = session.client.jobs.get(resolve(session.client, job))
    return Answer(found.to_dict(), [found.id], lambda: job_details(found))


def ps(
    session: Session,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Finished jobs too.")] = False,
    status: Annotated[Status | None, typer.Option("--status", help="Only jobs in this status.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only train, or only mcmc.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Only jobs of this name.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most so many.")] = 20,
) -> Answer:
    """List jobs, newest first: those that have not ended, or all with -a."""
    from meshyard.cli.views.tables import job_table

    wanted = [status] if status else None if everything else [live for live in Status if live not in TERMINAL]
    rows = list(session.client.jobs.list(status=wanted, kind=kind, name=name, limit=limit))
    document = {"object": "list", "data": [job.to_dict() for job in rows]}
    return Answer(document, [job.id for job in rows], lambda: job_table(rows))


def cancel(session: Session, job: JobArgument, no_checkpoint: NoCheckpointOption = False) -> Answer:
    """Cancel a job, for good. It saves a last checkpoint first."""
    return _steered(session.client.jobs.cancel(resolve_one(session.client, job), checkpoint=not no_checkpoint))


def pause(session: Session, job: JobArgument, no_checkpoint: NoCheckpointOption = False) -> Answer:
    """Pause a job: it saves a checkpoint and gives its devices back."""
    return _steered(session.client.jobs.pause(resolve_one(session.client, job), checkpoint=not no_checkpoint))


def resume(session: Session, job: JobArgument) -> Answer:
    """Queue a paused job again; it goes on from its newest checkpoint."""
    return _steered(session.client.jobs.resume(resolve_one(session.client, job)))


def profile(
    session: Session,
    job: JobArgument,
    steps: Annotated[int, typer.Option("--steps", min=1, max=1000, help="Steps to trace, or draws of each chain.")] = 5,
    no_memory: Annotated[bool, typer.Option("--no-memory", help="Without a profile of the devices' memory.")] = False,
) -> Answer:
    """Trace the next steps of a running job; `meshyard artifacts` lists the traces."""
    return _steered(session.client.jobs.profile(resolve_one(session.client, job), num_steps=steps, memory=not no_memory))


def retry(session: Session, job: JobArgument) -> Answer:
    """Make a new job that goes on where one that failed or was cancelled left off."""
    return _steered(session.client.jobs.retry(resolve_one(session.client, job)))


def clone(session: Session, job: JobArgument) -> Answer:
    """Make a new job with the same spec, from the start."""
    return _steered(session.client.jobs.clone(resolve(session.client, job)))


def extend(
    session: Session,
    job: JobArgument,
    num_samples: Annotated[int | None, typer.Option("--num-samples", min=1, help="So many draws more of each chain.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="So many steps more.")] = None,
) -> Answer:
    """Make a new job that goes on from the end of a finished one, as if that had been longer."""
    if (num_samples is None) == (steps is None):
        raise UsageFault("say how much longer: --num-samples for a sampler, or --steps for training")
    return _steered(session.client.jobs.extend(resolve_one(session.client, job), num_samples=num_samples, steps=steps))


def checkpoint(session: Session, job: JobArgument) -> Answer:
    """Have a running job save a checkpoint now; it goes on."""
    return _steered(session.client.jobs.checkpoint(resolve_one(session.client, job)))


def patch(
    session: Session,
    job: JobArgument,
    name: Annotated[str | None, typer.Option("--name", help="Another name.", show_default=False)] = None,
    priority: Annotated[int | None, typer.Option("--priority", help="Higher goes first.", show_default=False)] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", metavar="KEY=VALUE", help="All of its metadata anew; repeatable.")
    ] = None,
) -> Answer:
    """Change a job's name, priority or metadata; what is left out stays."""
    pairs = [text.partition("=") for text in metadata or []]
    if any(not key or not equals for key, equals, _ in pairs):
        raise UsageFault("--metadata: write it as key=value")
    if name is None and priority is None and metadata is None:
        raise UsageFault("say what to change: --name, --priority or --metadata")
    given = None if metadata is None else {key: value for key, _, value in pairs}
    return _steered(session.client.jobs.update(resolve_one(session.client, job), name=name, priority=priority, metadata=given))


def rm(
    session: Session,
    job: JobArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> Answer:
    """Delete a finished job with its checkpoints and artifacts."""
    found = resolve_one(session.client, job)
    if not yes and sys.stdin.isatty() and not typer.confirm(f"delete {found} and all it holds?", err=True):
        raise Declined("nothing was deleted")
    session.client.jobs.delete(found)
    return Answer({"object": "job", "id": found, "deleted": True}, [found], lambda: f"{found} deleted")


def _steered(job: Job) -> Answer:
    return Answer(job.to_dict(), [job.id], lambda: f"{job.id} {job.status}")
