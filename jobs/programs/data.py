"""Data for training: sources that can be read at any index, and the feed that turns them into batches.

A batch is a function of the spec and its index alone. Grain shuffles by a random-access permutation, so the order of samples
depends neither on devices nor on where a run was interrupted, and the position of a feed is one number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grain
import numpy as np
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
import pyarrow.types

from jobs.errors import UserFault
from jobs.spec import builtin

Batch = dict[str, np.ndarray]
READ_THREADS = 1
PREFETCH = 4


class Windows:
    """Every window of `length` tokens of a text, by its first token: `{"tokens": (length,) int32}`."""

    def __init__(self, tokens: np.ndarray, length: int) -> None:
        self._tokens, self._length = tokens, length

    def __len__(self) -> int:
        return len(self._tokens) - self._length + 1

    def __getitem__(self, index: int) -> Batch:
        return {"tokens": self._tokens[index : index + self._length].astype(np.int32)}


class Rows:
    """The rows of equally long arrays: `{name: row}`."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = dict(arrays)

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def __getitem__(self, index: int) -> Batch:
        return {name: array[index] for name, array in self._arrays.items()}


class Feed:
    """Batches of shuffled samples without end.

    Args:
        source: samples by index.
        batch_size: samples in a batch.
        seed: of the shuffle; each pass over the source has an order of its own.
        position: batches already consumed.
    """

    def __init__(self, source: Any, batch_size: int, seed: int, position: int = 0) -> None:
        samples = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
        options = grain.ReadOptions(num_threads=READ_THREADS, prefetch_buffer_size=PREFETCH)
        self._batches = iter(samples.batch(batch_size, drop_remainder=True).to_iter_dataset(options))
        self._batches.set_state({"next_index": position})

    def __next__(self) -> Batch:
        return next(self._batches)

    @property
    def position(self) -> int:
        """Batches consumed so far."""
        return int(self._batches.get_state()["next_index"])


def read_text(path: Path, tokenizer: str) -> np.ndarray:
    """The tokens of a text file.

    Returns: (tokens,) of unsigned integers: the bytes themselves, or the rank of each character among those that occur.
    """
    if tokenizer == "bytes":
        return np.memmap(path, np.uint8, mode="r")
    points = np.frombuffer(path.read_text("utf-8").encode("utf-32-le"), np.uint32)
    _, tokens = np.unique(points, return_inverse=True)
    return tokens.astype(np.uint32).reshape(-1)


def vocabulary(path: Path) -> list[str]:
    """The characters of a text, in the order of their tokens."""
    return sorted(set(path.read_text("utf-8")))


def read_columns(path: Path, form: str) -> dict[str, np.ndarray]:
    """The numeric columns of a table, or the arrays of an archive, by name."""
    if form == "npz":
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    table = _read_table(path, form)
    numeric = [name for name in table.column_names if _is_number(table.schema.field(name).type)]
    return {name: table[name].to_numpy() for name in numeric}


def _read_table(path: Path, form: str) -> Any:
    readers = {"csv": pyarrow.csv.read_csv, "jsonl": pyarrow.json.read_json, "parquet": pyarrow.parquet.read_table}
    return readers[form](str(path))


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
