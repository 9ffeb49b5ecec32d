"""The command line: `meshyard --help`."""

from __future__ import annotations

import sys

import typer

from meshyard.cli.report import report
from meshyard.cli.session import Output, Session


def main() -> None:
    """Entry point of the `meshyard` command."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")  # a terminal that knows no check mark is no reason to fail
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Carry out one command line and give its exit code."""
    from meshyard.cli.app import app

    session = Session(output=_asked_output(arguments))
    try:
        return int(app(arguments, prog_name="meshyard", standalone_mode=False) or 0)
    except (typer.TyperException, typer.Abort) as error:
        return report(session, error)


def _asked_output(arguments: list[str]) -> Output:
    """What a command line asks for, read by eye: a command line that cannot be parsed still gets its error as it wanted it."""
    text = " ".join(arguments)
    asked = any(form in text for form in ("-o json", "-ojson", "--output json", "--output=json"))
    return Output.JSON if asked else Output.TABLE
