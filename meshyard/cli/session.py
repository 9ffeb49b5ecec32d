"""One run of the command line: where results and messages go, and how the service is reached."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from meshyard.cli.answer import Answer

if TYPE_CHECKING:
    from rich.console import Console

    from meshyard.client import Client


class Output(StrEnum):
    """How a result is shown."""

    TABLE = "table"
    JSON = "json"
    ID = "id"


@dataclass
class Session:
    """What every command is given.

    Results go to standard output, and nothing else does, so that `-o json` always parses. Messages and progress go to standard
    error.

    Attributes:
        spec_text: the spec file as it was read, for pointing at what is wrong in it.
        attached: the job a command is following, for saying how to come back to it.
    """

    output: Output = Output.TABLE
    server: str | None = None
    api_key: str | None = None
    quiet: bool = False
    spec_text: str | None = None
    spec_name: str = ""
    attached: str | None = None

    @cached_property
    def client(self) -> Client:
        """The client, made at first use."""
        from meshyard.client import Client

        return Client(self.server, self.api_key)

    def close(self) -> None:
        """Close the client, if one was made."""
        if "client" in vars(self):
            self.client.close()

    @cached_property
    def out(self) -> Console:
        """Standard output."""
        return _console(stderr=False)

    @cached_property
    def err(self) -> Console:
        """Standard error."""
        return _console(stderr=True)

    @property
    def live(self) -> bool:
        """Whether a person watches standard error, so that lines may be drawn anew in place."""
        return self.err.is_terminal and not self.quiet and self.err.is_interactive

    def say(self, message: str) -> None:
        """Tell a person something."""
        if not self.quiet:
            self.err.print(message, soft_wrap=True)

    def show(self, answer: Answer) -> None:
        """Put a result on standard output."""
        if self.output is Output.JSON:
            write_json(answer.document)
        elif self.output is Output.ID:
            sys.stdout.write("".join(f"{item}\n" for item in answer.ids))
        elif answer.show is not None:
            self._show_to_person(answer.show())
        sys.stdout.flush()
        if answer.hint and self.output is Output.TABLE and self.err.is_terminal:
            self.say(answer.hint)

    def _show_to_person(self, content: Any) -> None:
        if isinstance(content, str):
            sys.stdout.write(content if content.endswith("\n") or not content else f"{content}\n")
        else:
            self.out.print(content)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    # No markup: names are the users' and may hold brackets.
    console = Console(stderr=stderr, highlight=False, markup=False)
    # A pipe gets lines as wide as they are, never folded to a width that nobody sees.
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, markup=False, width=10_000)


def write_json(document: Any) -> None:
    """Put the one JSON document of a run on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
