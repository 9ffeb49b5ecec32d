"""What the catalog's posteriors ask of the columns that they are bound to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jobs.errors import Issue
from jobs.spec.binding import Argument, Binding
from jobs.spec.imports import is_own
from jobs.spec.pointers import count_of

Model = Mapping[str, Any]
MOST_POINTS = 5000
"""Rows of a Gaussian process: each transition factors a matrix of rows by rows."""
LEAST_SERIES = 3

SEVERAL = "x"
"""The one argument that may hold several numbers for each row."""
BINARY: Mapping[str, tuple[str, ...]] = {"logistic_regression": ("y",), "item_response": ("y",)}
COUNTS: Mapping[str, tuple[str, ...]] = {"poisson_regression": ("y",)}
POSITIVE: Mapping[str, tuple[str, ...]] = {"eight_schools": ("sigma",), "eight_schools_centered": ("sigma",)}
INDICES: Mapping[str, dict[str, str]] = {
    "hierarchical_regression": {"group": "groups"},
    "item_response": {"subject": "subjects", "item": "items"},
}
"""By model and argument of indices, counted from zero: the field of the model that says how many there are."""


def settle(model: Model, binding: Binding) -> dict[str, Any]:
    """The same model with the numbers of groups that follow from its data."""
    settled = dict(model)
    for argument, field in INDICES.get(model["type"], {}).items():
        most = binding.arguments[argument].maximum
        if settled[field] is None and 0 <= most < 2**31:
            settled[field] = int(most) + 1
    return settled


def check_columns(model: Model, binding: Binding) -> Iterator[Issue]:
    """Columns that a posterior of the catalog cannot be computed for."""
    if is_own(model) or model["type"] in ("glm", "program"):
        return
    kind = model["type"]
    for name, argument in binding.arguments.items():
        if argument.axes > (2 if name == SEVERAL else 1):
            yield Issue(argument.pointer, "wrong_shape", "must be one plain column")
    for wanted, check in ((BINARY, _binary), (COUNTS, _counts), (POSITIVE, _positive)):
        for name in wanted.get(kind, ()):
            yield from check(binding.arguments[name])
    for name, field in INDICES.get(kind, {}).items():
        yield from _indices(binding.arguments[name], model[field])
    yield from _rows(kind, binding)


def _binary(argument: Argument) -> Iterator[Issue]:
    if not argument.is_integer or argument.minimum < 0 or argument.maximum > 1:
        yield Issue(
            argument.pointer, "out_of_range", f"must be 0 or 1 (integers, or true and false){_range(argument)}: encode it so"
        )


def _counts(argument: Argument) -> Iterator[Issue]:
    if not argument.is_integer or argument.minimum < 0:
        yield Issue(argument.pointer, "out_of_range", f"must be counts: integers of at least 0{_range(argument)}")


def _positive(argument: Argument) -> Iterator[Issue]:
    if argument.minimum <= 0:
        detail = "standard errors must be positive, and the least of these is not: leave those rows out"
        yield Issue(argument.pointer, "out_of_range", detail)


def _indices(argument: Argument, number: int | None) -> Iterator[Issue]:
    if not argument.is_integer or argument.minimum < 0:
        yield Issue(
            argument.pointer, "out_of_range", f"must be integers that count from 0{_range(argument)}: number the groups from 0"
        )
    elif number is not None and argument.maximum >= number:
        detail = f"must be below {number}, and the largest is {argument.maximum:g}{argument.row_of(argument.maximum)}"
        yield Issue(argument.pointer, "out_of_range", f"{detail}: leave the number out of the model, and it is counted")


def _rows(kind: str, binding: Binding) -> Iterator[Issue]:
    pointer = binding.arguments["y"].pointer
    if kind == "gaussian_process_regression" and binding.rows > MOST_POINTS:
        detail = f"has {binding.rows} rows, and a Gaussian process here takes at most {MOST_POINTS}: use fewer"
        yield Issue(pointer, "too_large", detail)
    if kind == "stochastic_volatility" and binding.rows < LEAST_SERIES:
        detail = f"has {count_of(binding.rows, 'row')}, and a series must have at least {LEAST_SERIES}: use a longer one"
        yield Issue(pointer, "too_small", detail)


def _range(argument: Argument) -> str:
    least, most = argument.minimum, argument.maximum
    return f", and these go from {least:g}{argument.row_of(least)} to {most:g}{argument.row_of(most)}"
