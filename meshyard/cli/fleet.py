"""`workers` and `catalog`: what there is to run on, and what there is to run."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from jobs.errors import MeshyardError
from meshyard.cli.answer import Answer
from meshyard.cli.command import ListByDefault, command, new_app
from meshyard.cli.session import Session


class NoSuchEntry(MeshyardError):
    """The catalog has no such entry."""


class Section(StrEnum):
    """Sections of the catalog."""

    MODELS = "models"
    LAYERS = "layers"
    LOSSES = "losses"
    OPTIMIZERS = "optimizers"
    SCHEDULES = "schedules"
    KERNELS = "kernels"
    DISTRIBUTIONS = "distributions"
    DATASETS = "datasets"


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    panel = "Service"
    workers = new_app("Workers: list, drain.", cls=ListByDefault)
    command(workers, "ls", "meshyard workers", "meshyard workers ls -o json")(list_workers)
    command(workers, "drain", "meshyard workers drain wrk_0192…", "meshyard workers drain wrk_0192… -o json")(drain)
    app.add_typer(workers, name="workers", rich_help_panel=panel)
    command(app, "catalog", "meshyard catalog optimizers", "meshyard catalog optimizers adamw -o json", panel=panel)(catalog)


def list_workers(session: Session) -> Answer:
    """List workers: what each owns and runs."""
    from meshyard.cli.views.tables import worker_table

    found = session.client.workers.list()
    document = {"object": "list", "data": [worker.to_dict() for worker in found]}
    return Answer(document, [worker.id for worker in found], lambda: worker_table(found))


def drain(session: Session, worker: Annotated[str, typer.Argument(metavar="WORKER", help="Id of a worker.")]) -> Answer:
    """Have a worker save, hand its jobs back and take no more."""
    found = session.client.workers.drain(worker)
    return Answer(found.to_dict(), [found.id], lambda: f"{found.id} {found.status or 'draining'}")


def catalog(
    session: Session,
    section: Annotated[Section, typer.Argument(metavar="SECTION", help=", ".join(Section))],
    name: Annotated[str | None, typer.Argument(metavar="[TYPE]", help="Show only this one, in full.", show_default=False)] = None,
) -> Answer:
    """List what a spec may name, or show one entry with its arguments."""
    from meshyard.cli.views.tables import catalog_table, fields

    found = session.client.catalog.section(section.value)
    if name is None:
        document = {"object": "list", "data": [entry.to_dict() for entry in found]}
        return Answer(document, [entry.type for entry in found], lambda: catalog_table(found))
    entry = next((entry for entry in found if entry.type == name), None)
    if entry is None:
        raise NoSuchEntry(f"{section.value} has no {name!r}; see: meshyard catalog {section.value}")
    return Answer(entry.to_dict(), [entry.type], lambda: fields(entry.to_dict()))
