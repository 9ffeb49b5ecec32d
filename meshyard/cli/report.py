"""Errors for people, for programs, and as exit codes."""

from __future__ import annotations

import re
import sys
import traceback
from typing import Any

import typer

from jobs.errors import MeshyardError
from meshyard.cli.answer import ExitCode
from meshyard.cli.carets import excerpt
from meshyard.cli.session import Output, Session, write_json

BETWEEN_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class UsageFault(MeshyardError):
    """What was typed, or a file it names, cannot be used."""


class Declined(MeshyardError):
    """A person answered no."""


def report(session: Session, error: BaseException) -> int:
    """Tell of an error, on standard error for people and, with `-o json`, on standard output for programs; give the exit code.

    Re-raises what only ends the process (SystemExit, typer.Exit).
    """
    if isinstance(error, (SystemExit, typer.Exit, GeneratorExit)):
        raise error
    if isinstance(error, BrokenPipeError):
        return _reader_gone()
    code = exit_code(error)
    _tell(session, error)
    if session.output is Output.JSON:
        write_json({"object": "error", "exit_code": code, **document(error)})
    return code


def exit_code(error: BaseException) -> int:
    """The exit code that an error stands for."""
    from meshyard import errors

    table: tuple[tuple[Any, int], ...] = (
        (KeyboardInterrupt, ExitCode.INTERRUPTED),
        ((UsageFault, errors.ConfigurationInvalid), ExitCode.USAGE),
        ((Declined, typer.Abort, errors.WaitTimedOut), ExitCode.CANCELLED),
        ((errors.AuthenticationError, errors.PermissionDeniedError), ExitCode.AUTHENTICATION),
        (errors.JobFailed, ExitCode.JOB_FAILED),
        (errors.ConflictError, ExitCode.CONFLICT),
        (errors.APIConnectionError, ExitCode.UNREACHABLE),
    )
    if isinstance(error, typer.TyperException):
        return error.exit_code
    return next((code for kinds, code in table if isinstance(error, kinds)), ExitCode.ERROR)


def document(error: BaseException) -> dict[str, Any]:
    """An error as an RFC 9457 problem; of what no server sent, only the parts that apply."""
    from meshyard import errors

    if isinstance(error, errors.APIStatusError) and error.problem is not None:
        return error.problem.to_dict() | {"status": error.status_code, "request_id": error.request_id}
    found: dict[str, Any] = {"title": _title(error), "detail": _sentence(error), "code": _code(error), "errors": []}
    return found


def _code(error: BaseException) -> str:
    return BETWEEN_WORDS.sub("_", type(error).__name__).lower()


def _title(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted"
    return "Error" if isinstance(error, (MeshyardError, OSError, typer.TyperException)) else "Internal error"


def _sentence(error: BaseException) -> str:
    if isinstance(error, typer.TyperException):
        return error.format_message()
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _tell(session: Session, error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt):
        _tell_detached(session)
    elif isinstance(error, (Declined, typer.Abort)):
        session.err.print("cancelled")
    elif isinstance(error, typer.TyperException) and not error.format_message():
        return  # Typer has shown the help
    elif _title(error) == "Internal error":
        session.err.print("internal error: please report this")
        session.err.print("".join(traceback.format_exception(error)), soft_wrap=True)
    else:
        for line in _lines(session, error):
            session.err.print(line, soft_wrap=True)


def _tell_detached(session: Session) -> None:
    if session.attached:
        job = session.attached
        line = f"detached; the job goes on.  Follow: meshyard watch {job}   Stop: meshyard cancel {job}"
        session.err.print(line, soft_wrap=True)


def _lines(session: Session, error: BaseException) -> list[str]:
    from meshyard import errors

    problem = error.problem if isinstance(error, errors.APIStatusError) else None
    if problem is None:
        return [f"error: {_sentence(error)}", *_advice(error)]
    title = problem.title if problem.detail and problem.title not in problem.detail else ""
    lines = [f"error: {': '.join(part for part in (title, problem.detail or problem.title) if part)}"]
    lines += fault_lines(session, problem.errors)
    request_id = getattr(error, "request_id", None)
    return [*lines, *_advice(error), *([f"  request id: {request_id}"] if request_id else [])]


def fault_lines(session: Session, faults: list[Any]) -> list[str]:
    """Each fault of a spec with its pointer, its sentence, and where it stands in the file."""
    lines: list[str] = []
    for fault in faults:
        lines.append(f"  {fault.pointer or '/'}: {fault.detail} ({fault.code})")
        if session.spec_text is not None:
            lines += excerpt(session.spec_text, session.spec_name, fault.pointer)
    return lines


def _advice(error: BaseException) -> list[str]:
    from meshyard import errors

    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        return [f"  see: {context.command_path} --help"] if context is not None else []
    if isinstance(error, errors.AuthenticationError):
        return ["  give the service's key with --api-key or MESHYARD_API_KEY"]
    if isinstance(error, errors.APIConnectionError):
        return ["  is the service running?  Start one with: meshyard serve   Name another with --server or MESHYARD_SERVER"]
    return []


def _reader_gone() -> int:
    # `meshyard ps | head` is no error. Standard output is closed here, lest Python complain about it once more at exit.
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
