"""How a function becomes a command: the options that all share, and the way its answer or its error leaves the process."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperGroup

from meshyard.cli.answer import Answer
from meshyard.cli.report import report
from meshyard.cli.session import Output, Session

OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to show the result.", show_default=True)]
ServerOption = Annotated[
    str | None,
    typer.Option("--server", envvar="MESHYARD_SERVER", help="Address of the service.", show_default="http://127.0.0.1:8642"),
]
KeyOption = Annotated[
    str | None, typer.Option("--api-key", envvar="MESHYARD_API_KEY", help="Key for the service.", show_default=False)
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No messages, no progress: results and errors only.")]

JobArgument = Annotated[
    str,
    typer.Argument(metavar="JOB", help="Id, unique prefix of one, name (of several, the newest), or @last.", show_default=False),
]

SHARED: tuple[tuple[str, Any, Any], ...] = (
    ("output", OutputOption, Output.TABLE),
    ("server", ServerOption, None),
    ("api_key", KeyOption, None),
    ("quiet", QuietOption, False),
)

Body: TypeAlias = Callable[..., Answer]


class ListByDefault(TyperGroup):
    """A group of commands whose `ls` may be left unsaid: `meshyard workers` is `meshyard workers ls`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `ls` in front of anything that is not a command of the group."""
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h")):
            args = ["ls", *args]
        return super().parse_args(ctx, args)


def new_app(help: str, **options: Any) -> typer.Typer:  # noqa: A002 - Typer's own word
    """A Typer application, or a group of one, as all of ours are."""
    settings = {"help_option_names": ["-h", "--help"]}
    return typer.Typer(help=help, context_settings=settings, pretty_exceptions_enable=False, no_args_is_help=True, **options)


def command(app: typer.Typer, name: str, *examples: str, panel: str | None = None) -> Callable[[Body], Body]:
    """Add a function to an application as a command.

    Its first parameter is the `Session`; the options that make it up are added to the command's own.

    Args:
        app: where it goes.
        name: what is typed.
        examples: lines for the end of its help.
        panel: heading under which the application lists it.
    """
    epilog = "\n\n".join(["Examples:", *(f"  {example}" for example in examples)])

    def register(body: Body) -> Body:
        app.command(name, epilog=epilog, rich_help_panel=panel)(_as_command(body))
        return body

    return register


def _as_command(body: Body) -> Callable[..., int]:
    own = list(inspect.signature(body, eval_str=True).parameters.values())[1:]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, annotation, default in SHARED
    ]

    def run(**values: Any) -> int:
        session = Session(**{name: values.pop(name) for name, _, _ in SHARED})
        return carry_out(session, lambda: body(session, **values))

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + shared
    run.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__, run.__doc__ = body.__name__, body.__doc__
    return run


def carry_out(session: Session, body: Callable[[], Answer]) -> int:
    """Run a command and show what came of it; give the exit code."""
    try:
        answer = body()
        session.show(answer)
    except BaseException as error:  # noqa: BLE001 - the edge of the process: every end gets its message, its code and its JSON
        return report(session, error)
    finally:
        session.close()
    return answer.exit_code
