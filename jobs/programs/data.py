"""Data for training: sources that can be read at any index, and the feed that turns them into batches.

A batch is a function of the spec and its index alone. Grain shuffles by a random-access permutation, so the order of samples
depends neither on devices nor on where a run was interrupted, and the position of a feed is one number.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grain
import numpy as np
import pyarrow as pa
import pyarrow.compute as pa_compute
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
import pyarrow.types

from jobs.errors import UserFault
from jobs.programs.records import read_examples, read_records
from jobs.spec import builtin

Batch = dict[str, np.ndarray]
compute: Any = pa_compute  # pyarrow ships no types
READ_THREADS = 1
PREFETCH = 4
SHUFFLE_ROUNDS = 4


@dataclass(frozen=True)
class DataFile:
    """A verified file."""

    path: Path
    form: str
    sha256: str


@dataclass(frozen=True)
class Beside:
    """What a job reads beside its data file.

    Attributes:
        sha256: of the data file itself.
        tokenizer: a `tokenizers` file.
        evaluation: data to evaluate on.
        encoded: folder in which texts are kept as tokens; None to keep none.
        draws: folder of outputs in which the draws of another job lie; None where there are none.
        fitted: the data that another job's model was fitted to.
    """

    sha256: str = ""
    tokenizer: DataFile | None = None
    evaluation: DataFile | None = None
    encoded: Path | None = None
    draws: Path | None = None
    fitted: DataFile | None = None


ALONE = Beside()


class Source(Protocol):
    """Samples by index."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def gather(self, indices: np.ndarray) -> Batch:
        """The samples of these indices, along a first axis."""
        ...


class Windows:
    """Every window of `length` tokens of a text, by its first token: `{"tokens": (n, length) int32}`."""

    def __init__(self, tokens: np.ndarray, length: int) -> None:
        self._tokens, self._length = tokens, length
        self._offsets = np.arange(length)

    def __len__(self) -> int:
        return max(0, len(self._tokens) - self._length + 1)

    def gather(self, indices: np.ndarray) -> Batch:
        """The windows that begin at these tokens."""
        return {"tokens": self._tokens[indices[:, None] + self._offsets].astype(np.int32)}


class Rows:
    """The rows of equally long arrays: `{name: rows}`."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = dict(arrays)

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def gather(self, indices: np.ndarray) -> Batch:
        """These rows."""
        return {name: array[indices] for name, array in self._arrays.items()}


class Shuffled:
    """Batches by their number: the order is Grain's own, `MapDataset.seed(seed).shuffle().repeat().batch(batch_size)`.

    Grain takes samples one by one through each of its stages. Here the permutation is asked for a batch's indices, and the source
    gathers them at once.

    Args:
        source: samples by index.
        batch_size: samples in a batch.
        seed: of the shuffle; each pass over the source has an order of its own.
        part: which of how many equal parts of each batch this process reads.
    """

    def __init__(self, source: Source, batch_size: int, seed: int, part: tuple[int, int] = (0, 1)) -> None:
        number, parts = part
        self._source, self._batch_size = source, batch_size
        self._mine = range(number * batch_size // parts, (number + 1) * batch_size // parts)
        # As Grain derives a stage's seed: the user's, and how far above the stage it was given.
        self._seed = int(np.random.SeedSequence([seed, 1]).generate_state(1, np.uint32)[0])
        self._length = len(source)

    def __len__(self) -> int:
        return sys.maxsize // self._batch_size

    def __getitem__(self, number: int) -> Batch:
        return self._source.gather(np.array(self.samples(number)))

    def samples(self, number: int) -> list[int]:
        """The indices of the samples in a batch."""
        first = number * self._batch_size
        return [self._sample(first + row) for row in self._mine]

    def _sample(self, position: int) -> int:
        epoch, index = divmod(position, self._length)
        seed = (self._seed + epoch) % 2**32
        return grain.experimental.index_shuffle(index, self._length - 1, seed, SHUFFLE_ROUNDS)


class Feed:
    """Batches of shuffled samples without end, read ahead by a thread.

    Args:
        source: samples by index.
        batch_size: samples in a batch.
        seed: of the shuffle; each pass over the source has an order of its own.
        position: batches already consumed.
        part: which of how many equal parts of each batch this process reads.
    """

    def __init__(self, source: Source, batch_size: int, seed: int, position: int = 0, part: tuple[int, int] = (0, 1)) -> None:
        options = grain.ReadOptions(num_threads=READ_THREADS, prefetch_buffer_size=PREFETCH)
        self.samples = Shuffled(source, batch_size, seed, part).samples
        shuffled: Any = Shuffled(source, batch_size, seed, part)
        batches = grain.MapDataset.source(shuffled)
        self._batches = iter(batches.to_iter_dataset(options))
        self._batches.set_state({"next_index": position})

    def __next__(self) -> Batch:
        return next(self._batches)

    @property
    def position(self) -> int:
        """Batches consumed so far."""
        return int(self._batches.get_state()["next_index"])


def read_columns(path: Path, form: str) -> dict[str, np.ndarray]:
    """The numeric columns of a table, or the arrays of an archive, by name."""
    if form == "npz":
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    if form == "arrayrecord":
        return {name: array for name, array in read_examples(path).items() if array.dtype.kind in "biuf"}
    table = _read_table(path, form)
    found = {name: _as_array(table[name]) for name in table.column_names}
    return {name: array for name, array in found.items() if array is not None}


def _as_array(column: Any) -> np.ndarray | None:
    """A column of numbers, or of arrays of numbers of one shape; None for any other."""
    values, shape = column.combine_chunks(), [len(column)]
    while pa.types.is_list(values.type) or pa.types.is_large_list(values.type) or pa.types.is_fixed_size_list(values.type):
        flat = values.flatten()
        width = len(flat) // max(1, len(values))
        if values.null_count or compute.any(compute.not_equal(compute.list_value_length(values), width)).as_py():
            return None
        values, shape = flat, [*shape, width]
    return values.to_numpy(zero_copy_only=False).reshape(shape) if _is_number(values.type) else None


def read_texts(path: Path, form: str, column: str) -> list[str]:
    """A column of texts.

    Raises:
        UserFault: there is no such column, or a text is missing.
    """
    if form == "arrayrecord":
        return [record.decode() for record in read_records(path)]
    as_text = pyarrow.csv.ConvertOptions(include_columns=[column], column_types={column: pa.string()})
    try:
        table = pyarrow.csv.read_csv(str(path), convert_options=as_text) if form == "csv" else _read_table(path, form)
        texts: list[str | None] = table[column].cast(pa.string()).to_pylist()
    except (KeyError, pa.ArrowException) as error:
        raise UserFault("dataset_invalid", f"no column of texts {column!r} in the data", "/data/args/text") from error
    if None in texts:
        raise UserFault("dataset_invalid", f"row {texts.index(None) + 1} of column {column!r} is empty: drop it", "/data/args/text")
    return [text for text in texts if text is not None]


def _read_table(path: Path, form: str) -> Any:
    readers = {"csv": pyarrow.csv.read_csv, "jsonl": pyarrow.json.read_json, "parquet": pyarrow.parquet.read_table}
    try:
        return readers[form](str(path))
    except pa.ArrowException as error:
        detail = f"the {form} file cannot be read as one table: {error}; mend that row and upload it again"
        raise UserFault("dataset_invalid", detail, "/data/dataset") from error


def _is_number(kind: Any) -> bool:
    return pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind) or pyarrow.types.is_boolean(kind)


def columns_of(data: Mapping[str, Any], path: Path | None, form: str | None) -> dict[str, np.ndarray]:
    """All columns that a job's `data` section names: inline, builtin or from a file."""
    if data["inline"] is not None:
        return {name: np.asarray(values) for name, values in data["inline"].items()}
    if data["builtin"] is not None:
        return {name: np.asarray(values) for name, values in builtin.columns(data["builtin"]).items()}
    if path is None or form is None:
        raise UserFault("dataset_invalid", "the job names no data", "/data")
    return read_columns(path, form)


def bind(columns: Mapping[str, np.ndarray], args: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Columns by the argument they are bound to; several columns for one argument are stacked along a last axis.

    Raises:
        UserFault: a column is missing, or columns of one argument differ in length.
    """
    bound: dict[str, np.ndarray] = {}
    for argument, names in args.items():
        if names is None:
            continue
        missing = [name for name in ([names] if isinstance(names, str) else names) if name not in columns]
        if missing:
            raise UserFault("dataset_invalid", f"no numeric column {missing[0]!r} in the data", f"/data/args/{argument}")
        bound[argument] = columns[names] if isinstance(names, str) else np.stack([columns[name] for name in names], axis=-1)
    return bound


def split(length: int, eval_fraction: float) -> int:
    """Where the evaluation part begins: the last `eval_fraction` of `length`, in order."""
    return length - int(length * eval_fraction)


def in_order(source_length: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices of batches that cover `source_length` samples once; the last is filled up with index 0 and masked.

    Returns: pairs of (size,) integers and (size,) float32 weights, 1 for a sample and 0 for filling.
    """
    for start in range(0, source_length, size):
        indices = np.arange(start, start + size)
        weights = (indices < source_length).astype(np.float32)
        yield np.where(indices < source_length, indices, 0), weights
