"""Columns given in the document itself: their faults, and what is known of them once they have none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.errors import Issue
from jobs.spec.dataset import ColumnFacts, DatasetFacts
from jobs.spec.pointers import join
from jobs.spec.strict import as_list

MOST_AXES = 6
LONGEST_LEVEL = 200


def facts_of_columns(name: str, columns: Mapping[str, Sequence[Any]]) -> DatasetFacts:
    """What a service knows of these columns, which must be regular (see `faults_of_columns`)."""
    facts = [_facts_of_column(key, values) for key, values in columns.items()]
    lengths = {column.shape[0] for column in facts if column.shape}
    rows = lengths.pop() if len(lengths) == 1 else None
    return DatasetFacts(id=name, format="jsonl", bytes=0, rows=rows, columns=facts)


def faults_of_columns(columns: Mapping[str, Any], pointer: str) -> list[Issue]:
    """Every column's first fault: not an array, empty, ragged, too deep, or holding something that is not a number."""
    if not columns:
        return [Issue(pointer, "missing", 'must hold at least one column, as {"x": [1, 2, 3]}')]
    faults = (_fault(values, join(pointer, name)) for name, values in columns.items())
    return [fault for fault in faults if fault is not None]


def _fault(values: Any, pointer: str) -> Issue | None:
    """The first fault of one column. Follows the first element down to learn the shape, then holds all others to it."""
    shape: list[int] = []
    level = as_list(values)
    if level is None:
        return _not_a_number(values, pointer)
    if level and all(isinstance(value, str) for value in level):
        return _fault_of_texts(level, pointer)
    while level is not None:
        if not level or len(shape) == MOST_AXES:
            detail = "must not be empty" if not level else f"must have at most {MOST_AXES} axes"
            return Issue(pointer, "out_of_range", detail)
        shape.append(len(level))
        level = as_list(level[0])
    return _misfit(values, shape, pointer)


def _fault_of_texts(values: list[str], pointer: str) -> Issue | None:
    """A column of texts holds levels of a formula: short ones."""
    long = next((row for row, value in enumerate(values) if len(value) > LONGEST_LEVEL), None)
    if long is None:
        return None
    detail = f"has more than {LONGEST_LEVEL} characters: texts in inline columns are levels; upload longer ones as a dataset"
    return Issue(join(pointer, long), "out_of_range", detail)


def _misfit(values: Any, shape: list[int], pointer: str) -> Issue | None:
    if not shape:
        return _not_a_number(values, pointer)
    items = as_list(values)
    if items is None or len(items) != shape[0]:
        return Issue(pointer, "ragged", f"must be an array of {shape[0]} like its neighbours: rows of one column have one shape")
    found = (_misfit(item, shape[1:], join(pointer, index)) for index, item in enumerate(items))
    return next((issue for issue in found if issue is not None), None)


def _not_a_number(value: Any, pointer: str) -> Issue | None:
    if value is None:
        return Issue(pointer, "missing", "is a missing value; leave its row out, or fill it in")
    if isinstance(value, bool) or not isinstance(value, int | float):
        detail = "rows of one column have one shape" if isinstance(value, list) else "columns hold numbers only"
        return Issue(pointer, "wrong_type", f"must be a number: {detail}")
    if not _fits(value):
        return Issue(pointer, "out_of_range", "must be a finite number below 3.4e38 in size, and below 2^53 where it is an integer")
    return None


def _fits(value: float) -> bool:
    if isinstance(value, int):
        return abs(value) < 2**53
    return math.isfinite(value) and abs(value) < 3.4e38


def _facts_of_column(name: str, values: Sequence[Any]) -> ColumnFacts:
    if isinstance(values, list) and isinstance(values[0], str):
        return ColumnFacts(name, "string", [len(values)], odd_row=1, odd=values[0][:LONGEST_LEVEL])
    shape: list[int] = []
    level = as_list(values)
    while level is not None:
        shape.append(len(level))
        level = as_list(level[0])
    flat: list[float] = _flat(values, len(shape))
    dtype = "int64" if all(isinstance(value, int) for value in flat) else "float64"
    return ColumnFacts(name, dtype, shape, float(min(flat)), float(max(flat)))


def _flat(values: Any, axes: int) -> list[float]:
    if axes == 0:
        return [values]
    if axes == 1:
        return values
    return [number for item in values for number in _flat(item, axes - 1)]
