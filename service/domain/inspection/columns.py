"""What is gathered of one column while a file is read once, block by block."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from jobs.spec.dataset import ColumnFacts, TextFacts, TokenizerFacts
from service.domain.errors import DatasetInvalid

MAX_COLUMNS = 10_000
MAX_ROWS = 1_000_000_000
NAME_LENGTH = 200


@dataclass(frozen=True)
class Facts:
    """What a file holds, before it has an id. `rows`: of a table; None for a text and for arrays of unequal length."""

    rows: int | None = None
    columns: list[ColumnFacts] = field(default_factory=list[ColumnFacts])
    text: TextFacts | None = None
    tokenizer: TokenizerFacts | None = None


class Kind(StrEnum):
    """What the values of a column have turned out to be so far. `NOTHING`: all were missing."""

    NOTHING = "nothing"
    BOOLEAN = "bool"
    INTEGER = "int64"
    NUMBER = "float64"
    TEXT = "string"


def joined(one: Kind, other: Kind) -> Kind | None:
    """The kind that holds both; None where there is none."""
    if other in (one, Kind.NOTHING):
        return one
    if one == Kind.NOTHING:
        return other
    return Kind.NUMBER if {one, other} == {Kind.INTEGER, Kind.NUMBER} else None


class Span:
    """Least and greatest finite value seen, how many were NaN, and in which row each stands first."""

    def __init__(self) -> None:
        self._least, self._greatest = math.inf, -math.inf
        self.minimum_row: int | None = None
        self.maximum_row: int | None = None
        self.nan_row: int | None = None
        self.nans = 0

    def add(self, values: np.ndarray[Any, Any], row_of: Callable[[int], int]) -> None:
        """Take in numbers or booleans.

        Args:
            values: of any shape.
            row_of: the row in which a value stands, by its place among them.
        """
        values = values.reshape(-1)
        if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
            self._add_nans(np.flatnonzero(np.isnan(values)), row_of)
            places = np.flatnonzero(finite)
            self._add_finite(values[places], lambda place: row_of(int(places[place])))
        else:
            self._add_finite(values, row_of)

    def _add_nans(self, places: np.ndarray[Any, Any], row_of: Callable[[int], int]) -> None:
        self.nans += len(places)
        if self.nan_row is None and len(places):
            self.nan_row = row_of(int(places[0]))

    def _add_finite(self, values: np.ndarray[Any, Any], row_of: Callable[[int], int]) -> None:
        if not values.size:
            return
        if (least := float(values.min())) < self._least:
            self._least, self.minimum_row = least, row_of(int(values.argmin()))
        if (greatest := float(values.max())) > self._greatest:
            self._greatest, self.maximum_row = greatest, row_of(int(values.argmax()))

    @property
    def minimum(self) -> float | None:
        """The least finite value, None if there was none."""
        return self._least if math.isfinite(self._least) else None

    @property
    def maximum(self) -> float | None:
        """The greatest finite value, None if there was none."""
        return self._greatest if math.isfinite(self._greatest) else None


def refuse(detail: str) -> DatasetInvalid:
    """The error that keeps a file out. The detail says where it is wrong and what to do."""
    return DatasetInvalid(detail)


def brief(error: BaseException) -> str:
    """A library's complaint, short enough for a message."""
    words = str(error).split("\n", 1)[0] or type(error).__name__
    return words[:200].rstrip(". ").encode("utf-8", "replace").decode()


def check_names(names: list[str]) -> None:
    """Raise DatasetInvalid unless the columns' names can be told apart and shown."""
    if len(names) > MAX_COLUMNS:
        raise refuse(f"The file has {len(names)} columns; at most {MAX_COLUMNS} are allowed.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise refuse(f"Two columns are named {shown(twice)}; give each its own name.")
    for name in names:
        # An empty name is what pandas gives its index in a CSV: harmless, no job can ask for it.
        if len(name) > NAME_LENGTH or "\x00" in name:
            raise refuse(f"Column names must have at most {NAME_LENGTH} characters and no NUL; {shown(name)} does not fit.")


def check_rows(rows: int) -> None:
    """Raise DatasetInvalid where a table is empty or too long."""
    if rows == 0:
        raise refuse("The file has no rows.")
    if rows > MAX_ROWS:
        raise refuse(f"The file has more than {MAX_ROWS} rows.")


def shown(name: str) -> str:
    """A name from a file, short and quoted, for a message."""
    return repr(name if len(name) <= 60 else name[:60] + "…")
