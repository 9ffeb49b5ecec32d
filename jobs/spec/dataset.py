"""What is known of a dataset before a job reads it: enough to check a spec against it without opening the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Format = Literal["text", "npz", "csv", "parquet", "jsonl", "arrayrecord", "tokenizer"]


@dataclass(frozen=True)
class ColumnFacts:
    """One column of a table, or one array of an archive.

    Attributes:
        name: as in the file.
        dtype: NumPy's name of it (`float32`, `int64`, `bool`), `ragged` for arrays of unequal
            shapes, or `string` for anything else.
        shape: whole shape, rows first: `[434]` for a column of a table of 434 rows.
        minimum, maximum: over all finite values of a numeric column; None otherwise.
        missing: how many values are null or NaN.
        minimum_row, maximum_row, missing_row: the first row in which each of these stands, counted from 1 without a header.
        odd_row, odd: the first row that keeps the column from being numbers, and what it holds.
    """

    name: str
    dtype: str
    shape: list[int]
    minimum: float | None = None
    maximum: float | None = None
    missing: int = 0
    minimum_row: int | None = None
    maximum_row: int | None = None
    missing_row: int | None = None
    odd_row: int | None = None
    odd: str | None = None


@dataclass(frozen=True)
class TextFacts:
    """What a text holds: lengths in bytes and characters, how many characters differ, and the largest byte."""

    bytes: int
    characters: int
    distinct_characters: int
    max_byte: int


@dataclass(frozen=True)
class TokenizerFacts:
    """What a tokenizer holds: its kind (`BPE`, `Unigram`, …), and one more than its largest token."""

    model: str
    vocab_size: int


@dataclass(frozen=True)
class DatasetFacts:
    """A dataset as the service describes it. `rows`: of a table; None for a text and for arrays of unequal length."""

    id: str
    format: Format
    bytes: int
    rows: int | None
    columns: list[ColumnFacts] = field(default_factory=list[ColumnFacts])
    text: TextFacts | None = None
    tokenizer: TokenizerFacts | None = None
