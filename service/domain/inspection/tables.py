"""Tables in CSV and Parquet, read with pyarrow block by block, so that memory does not grow with the file.

A worker reads the same file whole, also with pyarrow; what is told here of a column's type is what the worker will find.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from csv import reader as csv_reader
from typing import Any, BinaryIO

import numpy as np

from jobs.spec.dataset import ColumnFacts
from service.domain.inspection.arrow import BROKEN, arrow, compute, csv, parquet, types
from service.domain.inspection.columns import Facts, Kind, Span, brief, check_names, check_rows, joined, refuse, shown

BATCH_ROWS = 65_536
MAX_UNPACKED = 2**62
FEW = 8
MISCOUNTED = re.compile(r"CSV parse error: (?:Row #\d+: )?Expected (\d+) columns, got (\d+): (.*)", re.DOTALL)


class Gathered:
    """One column: the kind of its values so far, their span, and how many are missing."""

    def __init__(self, name: str, *, mixed: bool) -> None:
        self._name, self._mixed = name, mixed
        self._kind = Kind.NOTHING
        self._span = Span()
        self._missing = 0

    def add(self, kind: Kind, values: Any, missing: int) -> None:
        """Take in one block.

        Args:
            kind: of the block's values.
            values: the ones that are there, a pyarrow array; read only where they are numbers or booleans.
            missing: how many are not.
        """
        both = joined(self._kind, kind)
        if both is None and not self._mixed:
            raise refuse(f"Column {shown(self._name)} holds values of different types; make them all numbers or all text.")
        self._kind = both or Kind.TEXT
        self._missing += missing
        if self._kind in (Kind.BOOLEAN, Kind.INTEGER, Kind.NUMBER) and len(values):
            self._span.add(np.asarray(values.to_numpy(zero_copy_only=False)))

    def skip(self, rows: int) -> None:
        """Take in a block in which the column does not occur."""
        self._missing += rows

    def facts(self, rows: int, dtype: str | None = None) -> ColumnFacts:
        """The column after its last block. `dtype`: where the file itself says it."""
        if self._kind in (Kind.TEXT, Kind.NOTHING):
            return ColumnFacts(self._name, dtype or "string", [rows], missing=self._missing)
        span = self._span
        return ColumnFacts(self._name, dtype or self._kind.value, [rows], span.minimum, span.maximum, self._missing + span.nans)


def inspect_csv(stream: BinaryIO) -> Facts:
    """Read a CSV through. Raises DatasetInvalid with the line where a row has too few or too many fields."""
    try:
        names: list[str] = list(csv.open_csv(stream).schema.names)
        check_names(names)
        stream.seek(0)
        # As text first: types inferred from the first block alone would refuse a whole file for a later `1.5`.
        as_text = csv.ConvertOptions(column_types=dict.fromkeys(names, arrow.string()), strings_can_be_null=True)
        columns = [Gathered(name, mixed=True) for name in names]
        rows = _read_batches(csv.open_csv(stream, convert_options=as_text), columns, _spelled)
    except BROKEN as error:
        raise refuse(f"The file is not a sound CSV: {_miscounted(stream, str(error)) or brief(error)}.") from error
    return Facts(rows, [column.facts(rows) for column in columns])


def inspect_parquet(stream: BinaryIO, unpacked_bytes: int) -> Facts:
    """Read every page of a Parquet file through, checksums included.

    Args:
        stream: the file, seekable.
        unpacked_bytes: the most that its columns of numbers may hold together.

    Raises:
        DatasetInvalid: damaged, truncated, too large or empty.
    """
    try:
        source = _open_parquet(stream)
        check_rows(source.metadata.num_rows)
        fields: list[Any] = list(source.schema_arrow)
        check_names([field.name for field in fields])
        columns = [Gathered(field.name, mixed=False) for field in fields]
        batches = source.iter_batches(batch_size=BATCH_ROWS, use_threads=False)
        rows = _read_batches(batches, columns, as_typed, unpacked_bytes)
    except BROKEN as error:
        raise refuse(f"The file is not a sound Parquet file: {brief(error)}.") from error
    return Facts(rows, [column.facts(rows, dtype_of(field.type)) for column, field in zip(columns, fields, strict=True)])


def _open_parquet(stream: BinaryIO) -> Any:
    # Texts stay as the dictionary they are stored as: one long text, repeated, would unpack to any size.
    texts = [field.name for field in parquet.read_schema(stream) if kind_of(field.type) == Kind.TEXT]
    stream.seek(0)
    return parquet.ParquetFile(stream, read_dictionary=texts, page_checksum_verification=True)


def as_typed(array: Any) -> tuple[Kind, Any]:
    """What a column of declared type holds: its kind, and the values that are there."""
    return kind_of(array.type), array.drop_null()


def kind_of(declared: Any) -> Kind:
    """The kind of a pyarrow type."""
    if types.is_null(declared):
        return Kind.NOTHING
    if types.is_boolean(declared):
        return Kind.BOOLEAN
    if types.is_integer(declared):
        return Kind.INTEGER
    return Kind.NUMBER if types.is_floating(declared) else Kind.TEXT


def dtype_of(declared: Any) -> str:
    """NumPy's name of a pyarrow type of numbers, `string` for all others."""
    if kind_of(declared) in (Kind.NOTHING, Kind.TEXT):
        return "string"
    return np.dtype(declared.to_pandas_dtype()).name


def _read_batches(
    batches: Iterable[Any],
    columns: list[Gathered],
    understand: Callable[[Any], tuple[Kind, Any]],
    unpacked_bytes: int = MAX_UNPACKED,
) -> int:
    rows = unpacked = 0
    for batch in batches:
        rows += batch.num_rows
        unpacked += sum(array.nbytes for array in batch.columns if kind_of(array.type) != Kind.TEXT)
        if unpacked > unpacked_bytes:
            raise refuse(f"The file unpacks to more than {unpacked_bytes} bytes.")
        check_rows(rows)
        for column, array in zip(columns, batch.columns, strict=True):
            kind, values = understand(array)
            column.add(kind, values, array.null_count)
    check_rows(rows)
    return rows


def _spelled(array: Any) -> tuple[Kind, Any]:
    """What texts of a CSV stand for, with the readings that pyarrow tries, in its order of preference."""
    texts = compute.ascii_trim_whitespace(array.drop_null())
    if not len(texts):
        return Kind.NOTHING, texts
    for kind, declared in ((Kind.INTEGER, arrow.int64()), (Kind.BOOLEAN, arrow.bool_()), (Kind.NUMBER, arrow.float64())):
        # A few first: a cast that fails does so once for every value, which takes a hundred times as long.
        if _cast(texts[:FEW], declared) is not None and (values := _cast(texts, declared)) is not None:
            return kind, values
    return Kind.TEXT, texts


def _cast(texts: Any, declared: Any) -> Any:
    try:
        return compute.cast(texts, declared)
    except arrow.ArrowInvalid:
        return None


def _miscounted(stream: BinaryIO, complaint: str) -> str | None:
    """What is wrong with a row, and in which line it stands: pyarrow does not say where when it reads in blocks."""
    match = MISCOUNTED.match(complaint)
    if match is None:
        return None
    expected, found, text = match.groups()
    # The text of a long row is cut, and what is not UTF-8 is replaced.
    start = text.removesuffix(" ...").partition("\ufffd")[0].encode()
    stream.seek(0)
    for number, line in enumerate(stream, start=1):
        if line.startswith(start) and _fields(line) == int(found):
            return f"line {number} has {found} fields where the header has {expected}"
    return f"a line has {found} fields where the header has {expected}"


def _fields(line: bytes) -> int:
    return len(next(csv_reader([line.decode("utf-8", "replace")])))
