"""Columns of the data for the names of a program: their sizes, and whether they are what it declares."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.errors import Issue
from jobs.spec import builtin
from jobs.spec.binding import POINTER, Args, Argument, Binding, argument_of, choice_of, faults_of_columns
from jobs.spec.data import Data
from jobs.spec.dataset import DatasetFacts
from jobs.spec.pointers import join, nearest, quoted
from jobs.spec.program.checking import check_shapes
from jobs.spec.program.document import Program
from jobs.spec.program.expressions import ExpressionFault, names_of, parse
from jobs.spec.program.shapes import follow
from jobs.spec.program.values import Value, integer, told

DATA = "/model/data"


def bind_program(program: Program, data: Data, facts: DatasetFacts) -> tuple[Binding | None, list[Issue]]:
    """Bind every name that a program takes from its data, and follow shapes through it.

    Args:
        program: as it was read.
        data: what the job reads.
        facts: what that holds.
    """
    binder = _Binder(program, data, facts)
    binding = binder.bind()
    return (None, binder.issues) if binder.issues or binding is None else (binding, [])


class _Binder:
    def __init__(self, program: Program, data: Data, facts: DatasetFacts) -> None:
        self.program, self.data = program, data
        self.declared: Mapping[str, Any] | None = program.model["data"]
        self.columns = {column.name: column for column in facts.columns}
        self.issues: list[Issue] = []
        self.sizes: dict[str, int] = {}
        self.usual = builtin.describe(data.builtin).args if data.builtin is not None else {}

    def bind(self) -> Binding | None:
        given = self.data.args or {}
        names = list(self.program.implied if self.declared is None else self.declared)
        for at, name in enumerate(name for name in given if name not in names):
            detail = f"the program has no data {quoted(name)}; {nearest(name, names, before=at)}"
            self.issues.append(Issue(join(POINTER, name), "unknown_argument", detail))
        args: Args = {}
        for name in names:
            bound = self._bound(name)
            if bound is not None:
                args[name] = bound
                self.issues += faults_of_columns(name, bound, self.columns, scalars=True)
        if self.issues:
            return None
        arguments = {name: argument_of(name, bound, self.columns) for name, bound in args.items()}
        self._settle_sizes(arguments)
        for name, argument in arguments.items():
            self.issues += self._misfits(name, argument)
        if not self.issues:
            self.issues += check_shapes(self.program.model, self._scope(arguments))
        return Binding(args, arguments, 0)

    def _bound(self, name: str) -> str | list[str] | None:
        """The columns of a name: as given, else as a built-in dataset has it, else the column of the same name."""
        given = self.data.args or {}
        bound = given.get(name) or self.usual.get(name) or (name if name in self.columns else None)
        if bound is None and self.declared is None:
            pointer, column = self.program.implied[name]
            detail = f"column {column + 1}: unknown name {quoted(name)}, for it is neither defined above nor a column of the data"
            self.issues.append(Issue(pointer, "unknown_name", f"{detail}; {nearest(name, self.columns)}"))
        elif bound is None and not self._is_size(name):
            hint = f"set data.args.{name} to {choice_of(self.columns)}"
            self.issues.append(Issue(POINTER, "unbound", f'the program\'s data "{name}" is bound to no column: {hint}'))
        return bound

    def _is_size(self, name: str) -> bool:
        """Whether a declared integer is known from the shape of other data."""
        own = (self.declared or {})[name]
        shapes = [item["shape"] for other, item in (self.declared or {}).items() if other != name]
        return own["type"] == "int" and own["shape"] == [] and any(name in shape for shape in shapes)

    # -- sizes ---------------------------------------------------------------------------------------------------------------

    def _settle_sizes(self, arguments: Mapping[str, Argument]) -> None:
        """Names of sizes get their values: from integers of the data, then from shapes."""
        for name, argument in arguments.items():
            if shape_of(argument) == [] and argument.is_integer and argument.minimum == argument.maximum:
                self.sizes[name] = int(argument.minimum)
        for name, item in (self.declared or {}).items():
            if name in arguments:
                actual = shape_of(arguments[name])
                for axis, size in enumerate(item["shape"] if len(item["shape"]) == len(actual) else []):
                    if isinstance(size, str) and _is_name(size):
                        self.sizes.setdefault(size, actual[axis])

    def _misfits(self, name: str, argument: Argument) -> Iterator[Issue]:
        item = (self.declared or {}).get(name)
        if item is None:
            return
        actual, wanted = shape_of(argument), item["shape"]
        if len(actual) != len(wanted):
            detail = f"has {len(actual)} axes, shape {told(tuple(actual))}, and {join(DATA, name)} declares {len(wanted)}"
            yield Issue(argument.pointer, "wrong_shape", f"{detail}: {_hint(actual, wanted)}")
            return
        for axis, size in enumerate(wanted):
            yield from self._misfit(name, argument, axis, size)
        yield from _wrong_kind(name, item, argument)
        for bound in ("lower", "upper"):
            yield from self._beyond(name, bound, item[bound], argument)

    def _beyond(self, name: str, bound: str, limit: float | str | None, argument: Argument) -> Iterator[Issue]:
        """A value of the data that is below or above what its declaration sets."""
        known = self._integer(limit) if isinstance(limit, str) else limit
        if isinstance(known, Issue):
            yield Issue(join(DATA, name, bound), known.code, known.detail)
            return
        value, word, least = (argument.minimum, "below", "least") if bound == "lower" else (argument.maximum, "above", "greatest")
        if known is not None and (value < known if bound == "lower" else value > known):
            said = f"{known}{argument.row_of(value)}, the {bound} bound that {join(DATA, name)} sets"
            yield Issue(argument.pointer, "out_of_range", f"its {least} value is {word} {said}")

    def _integer(self, text: str) -> int | Issue:
        """An expression of sizes; an issue without its place where it is not known from the data."""
        try:
            known = follow(parse(text), {each: integer(value) for each, value in self.sizes.items()}).const
        except ExpressionFault as fault:
            return Issue("", fault.code, fault.detail)
        return (
            known
            if known is not None
            else Issue("", "unknown_size", f"{quoted(text)} is not known: give its names as integers of the data")
        )

    def _misfit(self, name: str, argument: Argument, axis: int, size: int | str) -> Iterator[Issue]:
        pointer, actual = join(DATA, name, "shape", axis), shape_of(argument)[axis]
        if isinstance(size, int):
            known = size
        else:
            found = self._integer(size)
            if isinstance(found, Issue):
                yield Issue(pointer, found.code, found.detail)
                return
            known = found
        if known != actual:
            said = f"{quoted(size)}, which is {known}" if isinstance(size, str) else str(size)
            yield Issue(argument.pointer, "wrong_shape", f"has {actual} along axis {axis}, and {pointer} declares {said}")

    def _scope(self, arguments: Mapping[str, Argument]) -> dict[str, Value]:
        """What is known of each name of the data."""
        scope = {name: integer(size) for name, size in self.sizes.items()}
        for name, argument in arguments.items():
            item = (self.declared or {}).get(name)
            kind = item["type"] if item is not None else "int" if argument.is_integer else "real"
            if name not in self.sizes:
                low, high = (argument.minimum, argument.maximum) if kind == "int" else (-math.inf, math.inf)
                scope[name] = Value(tuple(shape_of(argument)), kind, None, low, high)
        return scope


def shape_of(argument: Argument) -> list[int]:
    """The shape of a bound array."""
    first = argument.columns[0].shape
    return [*first, len(argument.columns)] if argument.axes > len(first) else list(first)


def _hint(actual: list[int], wanted: list[Any]) -> str:
    if not wanted:
        return "a declaration without shape is of a single number"
    return 'several columns make a matrix: {"args": {"x": ["a", "b"]}}' if len(wanted) > len(actual) else "declare every axis"


def _wrong_kind(name: str, item: Mapping[str, Any], argument: Argument) -> Iterator[Issue]:
    if item["type"] == "int" and not argument.is_integer:
        detail = f"is declared as int at {join(DATA, name, 'type')}, and holds real numbers: round them, or declare it as real"
        yield Issue(argument.pointer, "wrong_type", detail)


def _is_name(size: str) -> bool:
    try:
        return [name for name, _ in names_of(parse(size))] == [size]
    except ExpressionFault:
        return False
