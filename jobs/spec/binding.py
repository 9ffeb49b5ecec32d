"""How columns of the data bind to the arguments of a model, and whether they are what the model needs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.errors import Issue
from jobs.spec import builtin
from jobs.spec.dataset import ColumnFacts, DatasetFacts
from jobs.spec.pointers import count_of, join, listed, nearest, quoted

Args = dict[str, str | list[str]]
"""The column of each argument, or the columns that are put side by side for it."""

POINTER = "/data/args"
WEIGHT = "weight"
"""An argument that every model of rows may have: how much each row counts in the loss."""


@dataclass(frozen=True)
class Argument:
    """The columns bound to one argument.

    Attributes:
        name: of the argument.
        pointer: to the binding.
        columns: one or more.
        width: numbers in a row, all columns together.
        axes: of the bound array, rows included.
    """

    name: str
    pointer: str
    columns: list[ColumnFacts]
    width: int
    axes: int

    @property
    def minimum(self) -> float:
        """The least value; infinite where none is known."""
        return min((column.minimum for column in self.columns if column.minimum is not None), default=math.inf)

    @property
    def maximum(self) -> float:
        """The greatest value; infinite where none is known."""
        return max((column.maximum for column in self.columns if column.maximum is not None), default=-math.inf)

    def row_of(self, value: float) -> str:
        """Words that tell in which row the least or the greatest value stands; none where it is not known."""
        places = [(column.minimum, column.minimum_row) for column in self.columns]
        places += [(column.maximum, column.maximum_row) for column in self.columns]
        row = next((row for held, row in places if held == value and row is not None), None)
        return "" if row is None else f" (row {row})"

    @property
    def is_integer(self) -> bool:
        """Whether all values are integers, or true and false."""
        return all(column.dtype.startswith(("int", "uint", "bool")) for column in self.columns)


@dataclass(frozen=True)
class Binding:
    """All arguments bound.

    Attributes:
        args: what `resolved_spec` holds.
        arguments: the columns by argument.
        rows: how many rows each has, or the longest.
    """

    args: Args
    arguments: dict[str, Argument]
    rows: int


def bind(
    names: Sequence[str], given: Mapping[str, Any] | None, source: str | None, facts: DatasetFacts, *, level: bool = True
) -> tuple[Binding | None, list[Issue]]:
    """Bind every argument.

    Args:
        names: the model's arguments.
        given: `data.args`; None where the job has none.
        source: the name of a built-in dataset, which knows how it is meant to be bound.
        facts: what the data holds.
        level: whether all columns must be of one length, as those of a table are.
    """
    columns = {column.name: column for column in facts.columns}
    unknown = [name for name in given or {} if name not in names]
    issues = [_no_argument(name, names, at) for at, name in enumerate(unknown)]
    args: Args = {}
    for name in names:
        bound, fault = _bound(name, given, source, columns)
        if fault is not None:
            issues.append(fault)
        elif bound is not None:
            args[name] = bound
    issues += [issue for name, bound in args.items() for issue in faults_of_columns(name, bound, columns)]
    if issues:
        return None, issues
    arguments = {name: argument_of(name, bound, columns) for name, bound in args.items()}
    lengths = {argument.columns[0].shape[0] for argument in arguments.values()}
    if level and len(lengths) > 1:
        return None, [Issue(POINTER, "mismatch", f"the bound columns differ in length: {listed(map(str, sorted(lengths)))} rows")]
    return Binding(args, arguments, max(lengths)), []


def _bound(
    name: str, given: Mapping[str, Any] | None, source: str | None, columns: Mapping[str, ColumnFacts]
) -> tuple[str | list[str] | None, Issue | None]:
    """The columns of an argument: as given, else as the built-in dataset has it, else the column of the same name."""
    if given is not None and given.get(name) is not None:
        return given[name], None
    usual = builtin.describe(source).args if source is not None else {}
    if given is None or name not in given:
        if name in usual:
            return usual[name], None
        if name in columns:
            return name, None
    hint = f"set data.args.{name} to {choice_of(columns)}"
    return None, Issue(POINTER, "unbound", f'argument "{name}" of the model is bound to no column: {hint}')


def choice_of(columns: Mapping[str, ColumnFacts]) -> str:
    """Words for the columns that an argument may be bound to."""
    numeric = [quoted(name) for name, column in columns.items() if column.dtype != "string"]
    return f"one of the columns {', '.join(numeric[:8])}{' …' if len(numeric) > 8 else ''}" if numeric else "a numeric column"


def _no_argument(name: str, legal: Sequence[str], at: int) -> Issue:
    pointer = join(POINTER, name)
    return Issue(pointer, "unknown_argument", f"the model has no argument {quoted(name)}; {nearest(name, legal, before=at)}")


def faults_of_columns(
    name: str, bound: str | list[str], columns: Mapping[str, ColumnFacts], *, scalars: bool = False
) -> Iterator[Issue]:
    """What is wrong with the columns of one argument, each by itself and side by side; `scalars`: may be single numbers."""
    pointer = join(POINTER, name)
    several = isinstance(bound, list)
    for at, column in enumerate(bound if isinstance(bound, list) else [bound]):
        where = join(pointer, at) if several else pointer
        if column not in columns:
            yield Issue(where, "unknown_column", f"the data has no column {quoted(column)}; {nearest(column, columns, before=at)}")
        elif several and len(columns[column].shape) != 1:
            yield Issue(where, "wrong_shape", f"{quoted(column)} has several axes, and only plain columns can be put side by side")
        else:
            yield from _faults_of_column(columns[column], where, scalars=scalars)
    if several and len({columns[column].shape[0] for column in bound if column in columns}) > 1:
        yield Issue(pointer, "mismatch", "these columns differ in length")


def _faults_of_column(column: ColumnFacts, pointer: str, *, scalars: bool) -> Iterator[Issue]:
    if not column.dtype.startswith(("int", "uint", "float", "bool")):
        yield Issue(pointer, "ragged" if column.dtype == "ragged" else "not_numeric", _oddity(column))
    elif column.missing:
        yield Issue(pointer, "missing_values", told_missing(column))
    elif not column.shape and not scalars:
        yield Issue(pointer, "wrong_shape", f"{quoted(column.name)} is a single number, and an argument needs rows")


def told_missing(column: ColumnFacts) -> str:
    """What to say of a column with gaps."""
    first = f"the first in row {column.missing_row}" if column.missing > 1 else f"in row {column.missing_row}"
    where = f", {first}" if column.missing_row is not None else ""
    return f"{quoted(column.name)} has {count_of(column.missing, 'missing value')}{where}: drop those rows, or fill them in"


def _oddity(column: ColumnFacts) -> str:
    name = quoted(column.name)
    where = (
        f"row {column.odd_row} holds {column.odd}"
        if column.dtype == "ragged"
        else f"row {column.odd_row} holds {quoted(column.odd)}"
    )
    if column.dtype == "ragged":
        return f"the arrays of {name} differ in shape: {where}; make them equally long"
    because = f": {where}" if column.odd_row is not None else ""
    return f"{name} does not hold numbers{because}; mend that row, name a numeric column, or encode this one"


def argument_of(name: str, bound: str | list[str], columns: Mapping[str, ColumnFacts]) -> Argument:
    """An argument with the columns that it is bound to."""
    found = [columns[column] for column in (bound if isinstance(bound, list) else [bound])]
    width = len(found) if isinstance(bound, list) else math.prod(found[0].shape[1:])
    axes = 2 if isinstance(bound, list) else len(found[0].shape)
    return Argument(name, join(POINTER, name), found, width, axes)
