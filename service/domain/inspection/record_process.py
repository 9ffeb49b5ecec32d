"""The process that looks an ArrayRecord file through: `python -m … path unpacked_bytes`, its findings as JSON on its output."""
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import io
import json
import resource
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import array_record.python.array_record_module as array_record

from jobs.spec.dataset import ColumnFacts
from service.domain.errors import DatasetInvalid
from service.domain.inspection.arrays import inspect_arrays
from service.domain.inspection.columns import Facts, brief, check_rows, refuse

module: Any = array_record
reader_of: Any = module.ArrayRecordReader
GROUP = 64
ZIP = b"PK\x03\x04"
ROOM_BYTES = 4 * 2**30
"""Address space for the interpreter and its libraries, beside what the file unpacks to."""


def inspect(path: str, unpacked_bytes: int) -> Facts:
    """Read every record. Raises DatasetInvalid."""
    records = _records(path)
    try:
        first = next(records, None)
        if first is None:
            raise refuse("The file has no records.")
        merge = _Examples(unpacked_bytes) if first.startswith(ZIP) else _Texts(unpacked_bytes)
        merge.add(first)
        for record in records:
            merge.add(record)
    except RuntimeError as error:
        raise refuse(f"The file is not a sound ArrayRecord file: {brief(error)}.") from error
    return merge.facts()


def _records(path: str) -> Iterator[bytes]:
    reader = reader_of(path)
    count: int = reader.num_records()
    if not reader.ok():
        reader.close()  # raises what is wrong
    check_rows(count)
    for start in range(0, count, GROUP):
        yield from reader.read(start, min(start + GROUP, count))


class _Texts:
    """Records that are texts."""

    def __init__(self, unpacked_bytes: int) -> None:
        self._left, self._rows = unpacked_bytes, 0
        self._first = ""

    def add(self, record: bytes) -> None:
        self._rows += 1
        self._left -= len(record)
        if self._left < 0:
            raise refuse("The records unpack to more than is allowed.")
        try:
            text = record.decode()
        except UnicodeDecodeError as error:
            expected = "an example (.npz) nor" if self._rows == 1 else ""
            raise refuse(f"Record {self._rows} is not {expected} text in UTF-8: {error.reason}.".replace("  ", " ")) from error
        self._first = self._first or text[:60].replace("\x00", "\ufffd")

    def facts(self) -> Facts:
        return Facts(self._rows, [ColumnFacts("text", "string", [self._rows], odd_row=1, odd=self._first)])


class _Examples:
    """Records that are examples: `.npz` archives with arrays of the same names, dtypes and shapes."""

    def __init__(self, unpacked_bytes: int) -> None:
        self._left, self._rows = unpacked_bytes, 0
        self._columns: dict[str, ColumnFacts] = {}

    def add(self, record: bytes) -> None:
        self._rows += 1
        try:
            found = inspect_arrays(io.BytesIO(record), max(0, self._left)).columns
        except DatasetInvalid as error:
            raise refuse(f"Record {self._rows}: {error}") from error
        self._left -= len(record)
        columns = {column.name: column for column in found}
        self._columns = self._columns or {name: self._placed(column) for name, column in columns.items()}
        if columns.keys() != self._columns.keys():
            raise refuse(f"Record {self._rows} holds arrays {sorted(columns)} where the first holds {sorted(self._columns)}.")
        if self._rows > 1:
            self._columns = {name: _joined(column, self._placed(columns[name])) for name, column in self._columns.items()}

    def _placed(self, column: ColumnFacts) -> ColumnFacts:
        row = self._rows
        return replace(
            column,
            minimum_row=row if column.minimum is not None else None,
            maximum_row=row if column.maximum is not None else None,
            missing_row=row if column.missing else None,
        )

    def facts(self) -> Facts:
        return Facts(self._rows, [replace(column, shape=[self._rows, *column.shape]) for column in self._columns.values()])


def _joined(one: ColumnFacts, other: ColumnFacts) -> ColumnFacts:
    """What is known of a column after one more record."""
    row = other.minimum_row or other.missing_row
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        held = f"{other.dtype} of shape {other.shape} where the first record has {one.dtype} of shape {one.shape}"
        return one if one.odd_row else replace(one, dtype="ragged", odd_row=row, odd=held)
    low, high = one, one
    if other.minimum is not None and (one.minimum is None or other.minimum < one.minimum):
        low = other
    if other.maximum is not None and (one.maximum is None or other.maximum > one.maximum):
        high = other
    return replace(
        one,
        minimum=low.minimum,
        minimum_row=low.minimum_row,
        maximum=high.maximum,
        maximum_row=high.maximum_row,
        missing=one.missing + other.missing,
        missing_row=one.missing_row or other.missing_row,
    )


def _confine(space: int) -> None:
    """No more memory than this, and nothing written when it ends badly."""
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def main(path: str, unpacked_bytes: str) -> None:
    """Print what was found, or why the file is refused."""
    _confine(int(unpacked_bytes) + ROOM_BYTES)
    try:
        facts = inspect(path, int(unpacked_bytes))
        answer: dict[str, Any] = {"rows": facts.rows, "columns": [asdict(column) for column in facts.columns]}
    except DatasetInvalid as error:
        answer = {"refused": str(error)}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
