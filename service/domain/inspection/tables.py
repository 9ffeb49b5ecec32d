"""Tables in CSV and Parquet, read with pyarrow block by block, so that memory does not grow with the file.

A worker reads the same file whole, also with pyarrow; what is told here of a column's type is what the worker will find.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from csv import reader as csv_reader
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from jobs.spec.dataset import ColumnFacts
from service.domain.inspection.arrow import BROKEN, arrow, compute, csv, parquet, types
from service.domain.inspection.columns import Facts, Kind, Span, brief, check_names, check_rows, joined, refuse, shown

BATCH_ROWS = 65_536
MAX_UNPACKED = 2**62
FEW = 8
MOST_LOOKED_AT = 1_000_000
NUMERIC = (Kind.BOOLEAN, Kind.INTEGER, Kind.NUMBER)
Understand = Callable[[Any], tuple[Kind, Any]]
MISCOUNTED = re.compile(r"CSV parse error: (?:Row #\d+: )?Expected (\d+) columns, got (\d+): (.*)", re.DOTALL)


class Gathered:
    """One column: the kind of its values so far, their span, how many are missing, and the rows that stand out."""

    def __init__(self, name: str, *, mixed: bool) -> None:
        self._name, self._mixed = name, mixed
        self._kind = Kind.NOTHING
        self._span = Span()
        self._shape: list[int] | None = None
        self._rows = self._missing = 0
        self._missing_row: int | None = None
        self._odd: tuple[int, str] | None = None

    def add(self, array: Any, understand: Understand) -> None:
        """Take in one block, a pyarrow array. `understand`: what its values that are there stand for."""
        places = _places(array, valid=True)
        rows = places + self._rows + 1
        try:
            flat = flatten(array.drop_null())
        except Ragged as found:
            self._note(int(rows[found.row]), found.detail)
            flat = None
        if flat is not None:
            self._add_flat(flat, rows, understand)
        self._skipped(_places(array, valid=False))
        self._rows += len(array)

    def _add_flat(self, flat: Flat, rows: np.ndarray[Any, Any], understand: Understand) -> None:
        kind, values = understand(flat.values)
        both = joined(self._kind, kind)
        if both is None and not self._mixed:
            raise refuse(f"Column {shown(self._name)} holds values of different types; make them all numbers or all text.")
        self._kind = both or Kind.TEXT
        if len(rows) and self._shape not in (None, flat.shape):
            self._note(int(rows[0]), f"an array of shape {flat.shape} where the rows before have {self._shape}")
        self._shape = self._shape or (flat.shape if len(rows) else None)
        if kind in NUMERIC and len(values):
            width = max(1, len(values) // len(rows))
            self._span.add(np.asarray(values.to_numpy(zero_copy_only=False)), lambda place: int(rows[place // width]))
        elif kind == Kind.TEXT and len(rows) and flat.shape == [] and self._odd is None:
            place = first_text(values)
            self._note(int(rows[place]), held(values[place]))

    def skip(self, rows: int) -> None:
        """Take in a block in which the column does not occur."""
        self._skipped(np.arange(rows))
        self._rows += rows

    def _skipped(self, places: np.ndarray[Any, Any]) -> None:
        self._missing += len(places)
        if self._missing_row is None and len(places):
            self._missing_row = self._rows + int(places[0]) + 1

    def _note(self, row: int, what: str) -> None:
        self._odd = self._odd or (row, what)

    def facts(self, rows: int, dtype: str | None = None) -> ColumnFacts:
        """The column after its last block. `dtype`: where the file itself says it."""
        shape = [rows, *(self._shape or [])]
        ragged = self._odd is not None and self._kind != Kind.TEXT
        odd_row, odd = self._odd or (None, None)
        if ragged or self._kind in (Kind.TEXT, Kind.NOTHING):
            told = "ragged" if ragged else dtype or "string"
            rows_told = (None, None, self._missing_row, odd_row, odd)
            return ColumnFacts(self._name, told, [rows], None, None, self._missing, *rows_told)
        span = self._span
        missing_row = min((row for row in (self._missing_row, span.nan_row) if row is not None), default=None)
        missing, told = self._missing + span.nans, dtype or self._kind.value
        places = (span.minimum_row, span.maximum_row, missing_row)
        return ColumnFacts(self._name, told, shape, span.minimum, span.maximum, missing, *places)


class Ragged(Exception):
    """Arrays of unequal shapes: the place of the first that differs, and how."""

    def __init__(self, row: int, detail: str) -> None:
        super().__init__(detail)
        self.row, self.detail = row, detail


class Flat(NamedTuple):
    """The values of a column without nulls, and the shape of what stands in a row."""

    values: Any
    shape: list[int]


def flatten(array: Any) -> Flat:
    """Take arrays of equal shape apart. Raises Ragged where they are not."""
    shape: list[int] = []
    rows = len(array)
    while is_list(array.type) and len(array):
        lengths = np.asarray(compute.list_value_length(array).fill_null(-1).to_numpy(zero_copy_only=False))
        different = np.flatnonzero(lengths != lengths[0])
        if len(different) or lengths[0] <= 0:
            place = int(different[0]) if len(different) else 0
            row = place // max(1, len(array) // rows)
            raise Ragged(row, f"an array of {max(0, int(lengths[place]))} where the ones before have {max(0, int(lengths[0]))}")
        shape.append(int(lengths[0]))
        array = array.flatten()
    if shape and array.null_count:
        raise Ragged(int(_places(array, valid=False)[0]) * rows // len(array), "an array with a missing value")
    return Flat(array, shape)


def is_list(declared: Any) -> bool:
    """Whether a pyarrow type is one of arrays."""
    return types.is_list(declared) or types.is_large_list(declared) or types.is_fixed_size_list(declared)


def is_bytes(declared: Any) -> bool:
    """Whether a pyarrow type is one of texts or bytes."""
    kinds = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(is_one(declared) for is_one in kinds)


def first_text(values: Any) -> int:
    """The place of the first value that is not the spelling of a number."""
    for place in range(min(len(values), MOST_LOOKED_AT)):
        try:
            float(values[place].as_py())
        except (TypeError, ValueError):
            return place
    return 0


def held(value: Any) -> str:
    """A value from a file, short and without what no database takes."""
    try:
        return str(value.as_py())[:60].replace("\x00", "\ufffd")
    except ValueError:
        return "what is not text"


def _places(array: Any, *, valid: bool) -> np.ndarray[Any, Any]:
    if not array.null_count:
        return np.arange(len(array) if valid else 0)
    chosen = array.is_valid() if valid else array.is_null()
    return np.flatnonzero(np.asarray(chosen.to_numpy(zero_copy_only=False)))


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
    texts = [field.name for field in parquet.read_schema(stream) if is_bytes(field.type)]
    stream.seek(0)
    return parquet.ParquetFile(stream, read_dictionary=texts, page_checksum_verification=True)


def as_typed(array: Any) -> tuple[Kind, Any]:
    """What a column of declared type holds: its kind, and its values."""
    return kind_of(array.type), array


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
    """NumPy's name of a pyarrow type of numbers, or of arrays of them; `string` for all others."""
    while is_list(declared):
        declared = declared.value_type
    if kind_of(declared) in (Kind.NOTHING, Kind.TEXT):
        return "string"
    return np.dtype(declared.to_pandas_dtype()).name


def _read_batches(
    batches: Iterable[Any],
    columns: list[Gathered],
    understand: Understand,
    unpacked_bytes: int = MAX_UNPACKED,
) -> int:
    rows = unpacked = 0
    for batch in batches:
        rows += batch.num_rows
        unpacked += sum(array.nbytes for array in batch.columns if is_list(array.type) or kind_of(array.type) != Kind.TEXT)
        if unpacked > unpacked_bytes:
            raise refuse(f"The file unpacks to more than {unpacked_bytes} bytes.")
        check_rows(rows)
        for column, array in zip(columns, batch.columns, strict=True):
            column.add(array, understand)
    check_rows(rows)
    return rows


def _spelled(array: Any) -> tuple[Kind, Any]:
    """What texts of a CSV stand for, with the readings that pyarrow tries, in its order of preference."""
    texts = compute.ascii_trim_whitespace(array)
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
