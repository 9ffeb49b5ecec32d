"""The whole command line, put together."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from meshyard.cli import (
    access,
    code,
    data,
    doctor,
    files,
    fleet,
    following,
    processes,
    records,
    steering,
    submitting,
    using,
    webhooks,
)
from meshyard.cli.command import new_app

EXIT_CODES = """Exit codes: 0 done, 1 error, 2 usage, 3 declined or timed out, 4 no key or a wrong one, 5 the job failed or was
cancelled, 6 conflict, 7 service unreachable, 130 interrupted (which never stops a job)."""

app = new_app("Submit training and sampling jobs, follow them, bring their results home.", epilog=" ".join(EXIT_CODES.split()))

PARTS = (submitting, following, steering, records, files, using, data, code, fleet, webhooks, access, processes, doctor)
for part in PARTS:
    part.add_to(app)


def _show_version(asked: bool) -> None:
    if asked:
        try:
            typer.echo(f"meshyard {version('meshyard')}")
        except PackageNotFoundError:
            typer.echo("meshyard (not installed)")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Hold the options that belong to no command."""
