"""`code`: bundles of a user's own modules and losses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meshyard.cli.answer import Answer
from meshyard.cli.command import ListByDefault, command, new_app
from meshyard.cli.files import ToOption
from meshyard.cli.session import Session

CodeArgument = Annotated[str, typer.Argument(metavar="CODE", help="Id of a bundle.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    code = new_app("Your own models and losses: upload, list, get, download.", cls=ListByDefault)
    command(code, "ls", "meshyard code", "meshyard code ls -o id")(list_code)
    command(code, "upload", "meshyard code upload my_model/", "meshyard code upload my_model.py --name net")(upload)
    command(code, "get", "meshyard code get code_0192…", "meshyard code get code_0192… -o json")(get_code)
    command(code, "download", "meshyard code download code_0192…", "meshyard code download code_0192… --to net.zip")(download)
    app.add_typer(code, name="code", rich_help_panel="Files")


def upload(
    session: Session,
    path: Annotated[Path, typer.Argument(metavar="PATH", exists=True, readable=True, help="A folder, a .py, a zip or a tar.gz.")],
    name: Annotated[str | None, typer.Option("--name", help="By default the file's or folder's name.")] = None,
) -> Answer:
    """Upload a bundle of Python files; a folder is packed. The same bytes keep one id."""
    found = session.client.code.upload(path, name=name)
    return Answer(found.to_dict(), [found.id], lambda: "\n".join([found.id, *map(_told, found.warnings)]))


def list_code(session: Session, limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most so many.")] = 20) -> Answer:
    """List bundles, newest first."""
    from meshyard.cli.views.tables import code_table

    found = list(session.client.code.list(limit=limit))
    document = {"object": "list", "data": [item.to_dict() for item in found]}
    return Answer(document, [item.id for item in found], lambda: code_table(found))


def get_code(session: Session, code: CodeArgument) -> Answer:
    """Show what is known of a bundle: its modules, what they define, and warnings."""
    from meshyard.cli.views.tables import fields

    found = session.client.code.get(code)
    return Answer(found.to_dict(), [found.id], lambda: fields(found.to_dict()))


def download(session: Session, code: CodeArgument, to: ToOption = None) -> Answer:
    """Bring a bundle home as it was uploaded."""
    path = session.client.code.download(code, to)
    return Answer({"object": "code", "id": code, "path": str(path)}, [str(path)], lambda: str(path))


def _told(warning: dict[str, object]) -> str:
    return f"warning: {warning['file']}, line {warning['line']}: {warning['detail']}"
