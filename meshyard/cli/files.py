"""`checkpoints` and `artifacts`: files that a job has made."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshyard.cli.answer import Answer
from meshyard.cli.command import JobArgument, ListByDefault, command, new_app
from meshyard.cli.jobref import resolve
from meshyard.cli.report import UsageFault
from meshyard.cli.session import Session

if TYPE_CHECKING:
    from meshyard.flows.checkpoints import Which
    from meshyard.flows.download import OnBytes

ToOption = Annotated[Path | None, typer.Option("--to", "-d", help="Where to put it.", show_default=False)]


class Form(StrEnum):
    """How a checkpoint is brought home."""

    FOLDER = "folder"
    TAR = "tar"
    SAFETENSORS = "safetensors"


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    checkpoints = new_app("Checkpoints of a job: list, get, pin, expire.", cls=ListByDefault)
    command(checkpoints, "ls", "meshyard checkpoints ls @last", "meshyard checkpoints char-lm -o json")(list_checkpoints)
    shown = (
        "meshyard checkpoints get char-lm --step best --to checkpoints",
        "meshyard checkpoints get @last --format safetensors --to model.safetensors",
    )
    command(checkpoints, "get", *shown)(get_checkpoint)
    command(checkpoints, "pin", "meshyard checkpoints pin char-lm 400", "meshyard checkpoints pin char-lm 400 --unpin")(pin)
    shown = ("meshyard checkpoints expire char-lm 400 --at 2027-01-31T12:00:00Z", "meshyard checkpoints expire char-lm 400 --never")
    command(checkpoints, "expire", *shown)(expire)
    app.add_typer(checkpoints, name="checkpoints", rich_help_panel="Files")
    artifacts = new_app("Artifacts of a job: list, get.", cls=ListByDefault)
    command(artifacts, "ls", "meshyard artifacts ls @last", "meshyard artifacts eight-schools -o json")(list_artifacts)
    shown = ("meshyard artifacts get eight-schools posterior.nc", "meshyard artifacts get @last posterior.nc --to draws/")
    command(artifacts, "get", *shown)(get_artifact)
    app.add_typer(artifacts, name="artifacts", rich_help_panel="Files")


def list_checkpoints(session: Session, job: JobArgument) -> Answer:
    """List a job's committed checkpoints."""
    from meshyard.cli.views.tables import checkpoint_table

    found = session.client.checkpoints.list(resolve(session.client, job))
    document = {"object": "list", "data": [item.to_dict() for item in found]}
    return Answer(document, [str(item.step) for item in found], lambda: checkpoint_table(found))


def get_checkpoint(
    session: Session,
    job: JobArgument,
    step: Annotated[str, typer.Option("--step", help="latest, best, or a number.")] = "latest",
    to: ToOption = None,
    form: Annotated[Form, typer.Option("--format", help="A folder that Orbax restores, or one file.")] = Form.FOLDER,
) -> Answer:
    """Bring a checkpoint home, every byte checked. An interrupted download goes on where it broke.

    A folder goes to TO/{step}; a tar or safetensors file to TO itself.
    """
    job_id = resolve(session.client, job)
    checkpoint = session.client.checkpoints.find(job_id, which(step))
    with bytes_bar(session, f"step {checkpoint.step}", checkpoint.bytes if form is Form.FOLDER else None) as on_bytes:
        if form is Form.FOLDER:
            path = session.client.checkpoints.download(job_id, checkpoint.step, to or Path(), on_bytes=on_bytes)
        else:
            path = session.client.checkpoints.download_archive(job_id, checkpoint.step, to, format=form.value, on_bytes=on_bytes)
    return _landed(path, {"object": "checkpoint", "job": job_id, "step": checkpoint.step, "path": str(path)})


def which(text: str) -> Which:
    """The checkpoint that `--step` names. Raises UsageFault."""
    if text == "latest" or text == "best":  # noqa: PLR1714 - so that the type narrows
        return text
    if not text.isdecimal():
        raise UsageFault(f"--step {text}: say latest, best, or a number")
    return int(text)


def pin(
    session: Session,
    job: JobArgument,
    step: Annotated[int, typer.Argument(metavar="STEP", min=0, help="Step of the checkpoint.")],
    unpin: Annotated[bool, typer.Option("--unpin", help="Let it go again.")] = False,
) -> Answer:
    """Keep a checkpoint, whatever the job's rules say."""
    found = session.client.checkpoints.pin(resolve(session.client, job), step, pinned=not unpin)
    return Answer(found.to_dict(), [str(found.step)], lambda: f"step {found.step} {'pinned' if found.pinned else 'not pinned'}")


def expire(
    session: Session,
    job: JobArgument,
    step: Annotated[int, typer.Argument(metavar="STEP", min=0, help="Step of the checkpoint.")],
    at: Annotated[str | None, typer.Option("--at", metavar="INSTANT", help="RFC 3339, such as 2027-01-31T12:00:00Z.")] = None,
    never: Annotated[bool, typer.Option("--never", help="Not by time.")] = False,
) -> Answer:
    """Keep a checkpoint until an instant and no longer."""
    if (at is None) is not never:
        raise UsageFault("say either --at INSTANT or --never")
    found = session.client.checkpoints.expire(resolve(session.client, job), step, at)
    return Answer(found.to_dict(), [str(found.step)], lambda: f"step {found.step} expires {found.expires_at or 'never'}")


def list_artifacts(session: Session, job: JobArgument) -> Answer:
    """List a job's artifacts."""
    from meshyard.cli.views.tables import file_table

    found = session.client.artifacts.list(resolve(session.client, job))
    document = {"object": "list", "data": [file.to_dict() for file in found]}
    return Answer(document, [file.path for file in found], lambda: file_table(found))


def get_artifact(
    session: Session,
    job: JobArgument,
    path: Annotated[str, typer.Argument(metavar="PATH", help="As `artifacts ls` shows it.")],
    to: ToOption = None,
) -> Answer:
    """Bring an artifact home, every byte checked."""
    job_id = resolve(session.client, job)
    with bytes_bar(session, path, None) as on_bytes:
        target = session.client.artifacts.download(job_id, path, to, on_bytes=on_bytes)
    return _landed(target, {"object": "artifact", "job": job_id, "artifact": path, "path": str(target)})


def _landed(path: Path, document: dict[str, object]) -> Answer:
    return Answer(document, [str(path)], lambda: str(path))


@contextmanager
def bytes_bar(session: Session, title: str, total: int | None) -> Generator[OnBytes]:
    """Show how bytes come or go, on a terminal; gives the function to tell it."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    if not session.live:
        yield lambda _count: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=session.err, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)
