"""`upload` and `datasets`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from meshyard.cli.answer import Answer
from meshyard.cli.command import ListByDefault, command, new_app
from meshyard.cli.files import ToOption, bytes_bar
from meshyard.cli.session import Session

DatasetArgument = Annotated[str, typer.Argument(metavar="DATASET", help="Id of a dataset.")]


class Format(StrEnum):
    """What an uploaded file is."""

    TEXT = "text"
    NPZ = "npz"
    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"
    ARRAYRECORD = "arrayrecord"
    TOKENIZER = "tokenizer"


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    panel = "Files"
    command(app, "upload", "meshyard upload corpus.txt", "meshyard upload table.dat --format csv --name earnings", panel=panel)(
        upload
    )
    datasets = new_app("Uploaded datasets: list, get, download.", cls=ListByDefault)
    command(datasets, "ls", "meshyard datasets", "meshyard datasets ls -o id")(list_datasets)
    command(datasets, "get", "meshyard datasets get ds_0192…", "meshyard datasets get ds_0192… -o json")(get_dataset)
    command(datasets, "download", "meshyard datasets download ds_0192…", "meshyard datasets download ds_0192… --to corpus.txt")(
        download
    )
    app.add_typer(datasets, name="datasets", rich_help_panel=panel)


def upload(
    session: Session,
    path: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True, help="The file to send.")],
    form: Annotated[
        Format | None, typer.Option("--format", help="What it is; by default what its name ends in says, else text.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="By default the file's name.")] = None,
) -> Answer:
    """Upload a dataset. The same bytes are stored once and keep one id."""
    with bytes_bar(session, path.name, path.stat().st_size) as on_bytes:
        found = session.client.datasets.upload(path, format=form.value if form else None, name=name, on_bytes=on_bytes)
    return Answer(found.to_dict(), [found.id], lambda: found.id)


def list_datasets(
    session: Session, limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most so many.")] = 20
) -> Answer:
    """List datasets, newest first."""
    from meshyard.cli.views.tables import dataset_table

    found = list(session.client.datasets.list(limit=limit))
    document = {"object": "list", "data": [item.to_dict() for item in found]}
    return Answer(document, [item.id for item in found], lambda: dataset_table(found))


def get_dataset(session: Session, dataset: DatasetArgument) -> Answer:
    """Show what is known of a dataset: its columns, types and rows."""
    from meshyard.cli.views.tables import fields

    found = session.client.datasets.get(dataset)
    return Answer(found.to_dict(), [found.id], lambda: fields(found.to_dict()))


def download(session: Session, dataset: DatasetArgument, to: ToOption = None) -> Answer:
    """Bring a dataset home, every byte checked."""
    found = session.client.datasets.get(dataset)
    with bytes_bar(session, found.name or found.id, found.bytes) as on_bytes:
        path = session.client.datasets.download(found, to, on_bytes=on_bytes)
    return Answer({"object": "dataset", "id": found.id, "path": str(path)}, [str(path)], lambda: str(path))
