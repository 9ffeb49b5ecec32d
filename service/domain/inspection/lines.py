"""JSON Lines: one object a line, read with pyarrow in blocks of whole lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, cast

import orjson

from service.domain.inspection.arrow import BROKEN, arrow, json
from service.domain.inspection.columns import MAX_ROWS, Facts, brief, check_names, check_rows, refuse
from service.domain.inspection.tables import Gathered, as_typed

BLOCK_BYTES = 8 * 1024 * 1024
LINE_BYTES = 1024 * 1024
"""pyarrow's own block size: a worker could not read a longer line."""

MAX_DEPTH = 32


class Table:
    """The columns met so far and the rows they span. A column that a line leaves out is missing there."""

    def __init__(self) -> None:
        self.rows = 0
        self._columns: dict[str, Gathered] = {}

    def add(self, block: Any) -> None:
        """Take in one block, a pyarrow table."""
        names: list[str] = list(block.column_names)
        for name in names:
            if name not in self._columns:
                self._columns[name] = Gathered(name, mixed=False)
                self._columns[name].skip(self.rows)
        check_names(list(self._columns))
        for name, column in self._columns.items():
            if name in names:
                column.add(block[name].combine_chunks(), as_typed)
            else:
                column.skip(block.num_rows)
        self.rows += block.num_rows

    def facts(self) -> Facts:
        """All of it, after the last block."""
        check_rows(self.rows)
        if not self._columns:
            raise refuse("The objects of the file have no fields.")
        return Facts(self.rows, [column.facts(self.rows) for column in self._columns.values()])


def inspect_lines(stream: BinaryIO) -> Facts:
    """Read a file of JSON objects through. Raises DatasetInvalid with the line that is wrong."""
    table = Table()
    before = 0
    for block in _blocks(stream):
        _check_text(block)
        _check_lines(block, before)
        if block.strip():
            table.add(_parsed(block, before))
        before += block.count(b"\n")
        if table.rows > MAX_ROWS:
            break
    return table.facts()


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read(BLOCK_BYTES):
        whole, newline, tail = chunk.rpartition(b"\n")
        if newline:
            yield rest + whole + newline
            rest = tail
        else:
            rest += tail
        if len(rest) > LINE_BYTES:
            raise refuse(f"A line is longer than {LINE_BYTES} bytes.")
    if rest:
        yield rest


def _parsed(block: bytes, before: int) -> Any:
    options = json.ReadOptions(block_size=len(block) + 1, use_threads=False)
    try:
        return json.read_json(arrow.BufferReader(block), read_options=options)
    except BROKEN as error:
        raise refuse(f"The file is not sound JSON Lines: {_fault(block, before) or _type_fault(block, before, error)}.") from error


def _check_text(block: bytes) -> None:
    # pyarrow takes any bytes between quotes.
    try:
        block.decode()
    except UnicodeDecodeError as error:
        raise refuse(f"The file is not UTF-8: {error.reason}. Save it as UTF-8 and upload it again.") from error


def _check_lines(block: bytes, before: int) -> None:
    """Refuse what pyarrow would not: objects over several lines, and deep nesting, which would end the process.

    Its parser calls itself for each level; 100 000 of them are more than a stack has room for.
    """
    for number, line in enumerate(block.split(b"\n"), start=before + 1):
        if len(line) > LINE_BYTES:
            raise refuse(f"Line {number} is longer than {LINE_BYTES} bytes.")
        stripped = line.strip()
        if stripped and not (stripped.startswith(b"{") and stripped.endswith(b"}")):
            raise refuse(f"Line {number} is not a whole JSON object; write one object a line.")
        if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _depth(line) > MAX_DEPTH:
            raise refuse(f"Line {number} is not JSON, or nested more than {MAX_DEPTH} levels deep.")


def _depth(line: bytes) -> int:
    try:
        level: list[Any] = [orjson.loads(line)]
    except orjson.JSONDecodeError:
        return MAX_DEPTH + 1
    depth = 0
    while level and depth <= MAX_DEPTH:
        depth += 1
        level = [child for value in level for child in _children(value)]
    return depth


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value).values()
    return cast("list[Any]", value) if isinstance(value, list) else ()


def _fault(block: bytes, before: int) -> str | None:
    for number, line in enumerate(block.split(b"\n"), start=before + 1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            return f"line {number}: {error.msg}"
        if not isinstance(value, dict):
            return f"line {number} is not an object"
    return None


def _type_fault(block: bytes, before: int, error: Exception) -> str:
    # pyarrow counts rows from the start of what it was given, and no blank lines.
    complaint, _, row = brief(error).rpartition(" in row ")
    numbers = [number for number, line in enumerate(block.split(b"\n"), start=before + 1) if line.strip()]
    if row.isdecimal() and int(row) < len(numbers):
        return f"line {numbers[int(row)]}: {complaint}"
    return f"lines {numbers[0]} to {numbers[-1]}: {complaint or row}"
