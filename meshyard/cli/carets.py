"""Finds the place in a JSON text that a JSON Pointer names, and shows it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

SPACE = re.compile(r"[ \t\r\n]*")
DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Span:
    """Where a value stands: offsets of its first character and of the one behind its last."""

    start: int
    end: int


def find(text: str, pointer: str) -> Span | None:
    """Where the value of a pointer stands; of a missing one, the nearest that is there. None if the text is not JSON."""
    try:
        return _descend(text, _skip(text, 0), [_unescape(part) for part in pointer.split("/")[1:]])
    except (ValueError, IndexError, RecursionError):
        return None


def excerpt(text: str, name: str, pointer: str) -> list[str]:
    """The line of a text on which a pointer's value begins, with carets under the value."""
    span = find(text, pointer)
    if span is None:
        return []
    row = text.count("\n", 0, span.start) + 1
    begin = text.rfind("\n", 0, span.start) + 1
    line = text[begin:].split("\n", 1)[0].rstrip("\r")
    column = span.start - begin
    width = max(1, min(span.end, begin + len(line)) - span.start)
    line, column, width = _clip(line, column, width)
    margin = f"    {name}:{row} | "
    return [margin + line, " " * (len(margin) + column) + "^" * width]


def _clip(line: str, column: int, width: int, room: int = 100) -> tuple[str, int, int]:
    """Cut a long line down to the part around the value."""
    left = max(0, column - 30) if len(line) > room else 0
    return line[left : left + room].replace("\t", " "), column - left, min(width, room - (column - left))


def _unescape(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def _skip(text: str, at: int) -> int:
    match = SPACE.match(text, at)
    return match.end() if match else at


def _value_end(text: str, at: int) -> int:
    return DECODER.raw_decode(text, at)[1]


def _descend(text: str, at: int, parts: list[str]) -> Span:
    if not parts:
        return Span(at, _value_end(text, at))
    child = _child(text, at, parts[0])
    # Something is missing here: where the object begins that should hold it.
    return Span(at, at + 1) if child is None else _descend(text, child, parts[1:])


def _child(text: str, at: int, part: str) -> int | None:
    """Where a member or an element begins; None if there is none."""
    if text[at] == "{":
        return _member(text, at, part)
    return _element(text, at, part) if text[at] == "[" else None


def _member(text: str, at: int, part: str) -> int | None:
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, at = DECODER.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)  # behind the colon
        if key == part:
            return at
        at = _next(text, at)
    return None


def _element(text: str, at: int, part: str) -> int | None:
    index, at = 0, _skip(text, at + 1)
    while text[at] != "]":
        if str(index) == part:
            return at
        index, at = index + 1, _next(text, at)
    return None


def _next(text: str, at: int) -> int:
    """Behind a value and the comma that may follow it."""
    at = _skip(text, _value_end(text, at))
    return _skip(text, at + 1) if text[at] == "," else at
