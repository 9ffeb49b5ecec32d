"""Specs from files, standard input and `--set`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from meshyard.cli.report import UsageFault
from meshyard.cli.session import Session


def read_spec(session: Session, path: str, assignments: list[str], name: str | None) -> Any:
    """The spec that was asked for: bytes as they are in the file, or a document if anything is changed in it.

    Raises:
        UsageFault: there is no such file, it is not JSON, or an assignment fits nowhere.
    """
    raw = _read(path)
    session.spec_name = "standard input" if path == "-" else path
    text = session.spec_text = raw.decode(errors="replace")
    document = _parse(text, session.spec_name)
    if not assignments and name is None:
        return raw
    for assignment in assignments:
        assign(document, assignment)
    if name is not None:
        assign(document, f"name={json.dumps(name)}")
    return document


def _read(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageFault(f"cannot read the spec {path}: {error.strerror or error}") from error


def _parse(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        lines = text.splitlines() or [""]
        line = lines[min(error.lineno, len(lines)) - 1]
        shown = f"    {line[:120]}\n    {' ' * min(error.colno - 1, 120)}^"
        raise UsageFault(f"{name} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}\n{shown}") from error
    except (ValueError, RecursionError) as error:
        raise UsageFault(f"{name} cannot be read: {error}") from error


def assign(document: Any, assignment: str) -> None:
    """Carry out one `--set a.b.0.c=value` on a spec. What is not JSON is taken as text; objects on the way are made.

    Raises:
        UsageFault: there is no `=`, or the path goes through something that has no parts.
    """
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise UsageFault(f"--set {assignment!r}: write it as path.to.field=value")
    *way, last = path.split(".")
    target = document
    for part in way:
        target = _step(target, part, assignment)
    _put(target, last, _value(text), assignment)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _step(target: Any, part: str, assignment: str) -> Any:
    if isinstance(target, dict):
        return target.setdefault(part, {})  # type: ignore[reportUnknownMemberType]
    return _list_of(target, part, assignment)[int(part)]


def _put(target: Any, part: str, value: Any, assignment: str) -> None:
    if isinstance(target, dict):
        target[part] = value
    else:
        _list_of(target, part, assignment)[int(part)] = value


def _list_of(target: Any, part: str, assignment: str) -> list[Any]:
    if isinstance(target, list) and part.isdecimal() and int(part) < len(target):  # type: ignore[reportUnknownArgumentType]
        return target  # type: ignore[reportUnknownVariableType]
    raise UsageFault(f"--set {assignment}: the spec has no place {part!r} there")
