"""The page about the client says what there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from meshyard.cli.app import EXIT_CODES, app

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every command with the first line of its help."""
    for name, found in group.commands.items():
        if hasattr(found, "commands"):
            yield from commands(found, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", found.help.splitlines()[0]


def test_the_page_lists_every_command_with_its_help():
    assert dict(re.findall(r"^\| `meshyard ([^`]+)` \| (.+) \|$", PAGE, re.MULTILINE)) == dict(
        commands(typer.main.get_command(app))
    )


def test_the_page_tells_the_exit_codes():
    assert " ".join(EXIT_CODES.split()) in " ".join(PAGE.split())
