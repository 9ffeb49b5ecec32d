"""Design matrices: what a formula makes of a table. What must be the same for new data is frozen in the resolved spec."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from jobs.spec.glm.coding import INTERCEPT, Column, Level, code
from jobs.spec.glm.expressions import FormulaFault, Moments, compute
from jobs.spec.glm.formula import Formula, Group
from jobs.spec.pointers import quoted

Table = Mapping[str, Sequence[Any]]
"""Columns by variable, of numbers or of texts."""
ColumnKind = Literal["bool", "number", "text"]
"""How a column of a file is read, wherever it is: numbers as double precision."""

MOST_LEVELS = 1_000
MOST_GROUPS = 20_000
MOST_COLUMNS = 2_000
MOST_OPERATIONS = 20_000_000
"""Of all rows and columns, when a model is settled: some seconds of plain Python."""


@dataclass
class Frame:
    """A table under a formula.

    Attributes:
        formula: what is made of it.
        table: the variables' columns, all of one length.
        levels: of the variables that are categorical, in order.
        moments: what stateful functions remember.
    """

    formula: Formula
    table: Table
    levels: dict[str, list[Level]] = field(default_factory=dict[str, list[Level]])
    moments: dict[str, Moments] = field(default_factory=dict[str, Moments])
    _numeric: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    @property
    def rows(self) -> int:
        """How many rows the table has."""
        return len(next(iter(self.table.values())))

    def learn_levels(self) -> None:
        """Take every categorical predictor's levels from the table, sorted.

        Raises:
            FormulaFault: one has a single level or too many, or lacks the level that it is compared with.
        """
        used = {name for group in self.formula.groups for term in group.terms for name in term}
        used |= {name for term in self.formula.terms for name in term}
        for name in sorted(used):
            factor = self.formula.factors[name]
            variable = next(iter(factor.variables), "")
            if factor.categorical or (factor.plain and is_text(self.table[variable])):
                levels = self.levels.setdefault(variable, levels_of(self.table[variable]))
                _check_levels(variable, levels, factor.variables[variable])
                if factor.reference is not None and factor.reference not in levels:
                    detail = f"{quoted(variable)} has no level {quoted(factor.reference)}; it has {_few(levels)}"
                    raise FormulaFault("unknown_level", detail, factor.column)

    def check_work(self) -> None:
        """Refuse what would keep the service busy for long. Raises FormulaFault."""
        every = [self.columns(), *map(self.columns_of, self.formula.groups)]
        each = sum(1 + len(column.numeric) + len(column.levels) for columns in every for column in columns)
        each += sum(factor.operations for factor in self.formula.factors.values())
        if each * self.rows > MOST_OPERATIONS:
            detail = f"makes {sum(map(len, every))} columns of {self.rows} rows, which is too much: use fewer rows or fewer terms"
            raise FormulaFault("too_large", detail, 0)

    def columns(self) -> list[Column]:
        """The population-level columns, the intercept first if there is one."""
        return self._limited(code(self.formula.terms, self.formula.factors, self.levels))

    def columns_of(self, group: Group) -> list[Column]:
        """The columns that vary by group."""
        return self._limited(code(group.terms, self.formula.factors, self.levels))

    def values(self, column: Column) -> array[float]:
        """A column's numbers.

        Raises:
            FormulaFault: one is not finite, or a categorical variable holds what is no level of it.
        """
        found = array("d", [1.0]) * self.rows
        for name in column.numeric:
            found = array("d", (value * other for value, other in zip(found, self.numeric(name), strict=True)))
        for variable, level in column.levels:
            found = array("d", (value if held == level else 0.0 for value, held in zip(found, self.table[variable], strict=True)))
        return found

    def numeric(self, name: str) -> list[float]:
        """A numeric factor's values."""
        if name not in self._numeric:
            factor = self.formula.factors[name]
            for variable, column in factor.variables.items():
                if is_text(self.table[variable]):
                    raise FormulaFault("not_numeric", f"{quoted(variable)} holds texts, and {name} computes with it", column)
            self._numeric[name] = compute(factor, self.table, self.moments)
        return self._numeric[name]

    def offset(self) -> array[float] | None:
        """The sum of all offsets; None where there is none."""
        if not self.formula.offsets:
            return None
        parts = [self.numeric(name) for name in self.formula.offsets]
        return array("d", map(sum, zip(*parts, strict=True)))

    def check_levels(self) -> None:
        """Refuse what is no level, in data that levels were not taken from. Raises FormulaFault."""
        for variable, levels in self.levels.items():
            known = set(levels)
            row = next((row for row, held in enumerate(self.table[variable]) if held not in known), None)
            if row is not None:
                held = quoted(self.table[variable][row])
                detail = (
                    f"{quoted(variable)} holds {held} in row {row + 1}, which it did not in the data that was fitted: leave it out"
                )
                raise FormulaFault("unknown_level", detail, self.formula.variables.get(variable, 0))

    def groups_of(self, group: Group) -> list[list[Level]]:
        """The combinations of values that make up a group term's groups, sorted.

        Raises:
            FormulaFault: there are too many.
        """
        keys = set(zip(*(self.table[variable] for variable in group.by), strict=True))
        if len(keys) > MOST_GROUPS:
            detail = f"has {len(keys)} groups, and at most {MOST_GROUPS} are taken: group by something coarser"
            raise FormulaFault("too_many", detail, group.column)
        return [[plain_level(value) for value in key] for key in sorted(keys)]

    def indices(self, group: Group, groups: Sequence[Sequence[Level]]) -> array[int]:
        """The group of each row, counted from zero.

        Raises:
            FormulaFault: a row is of none of them.
        """
        places = {tuple(key): at for at, key in enumerate(groups)}
        found = array("l")
        for row, key in enumerate(zip(*(self.table[variable] for variable in group.by), strict=True)):
            if key not in places:
                detail = f"row {row + 1} is of group {quoted(':'.join(map(str, key)))}, which was not in the data that was fitted"
                raise FormulaFault("unknown_level", f"{detail}: leave it out", group.column)
            found.append(places[key])
        return found

    def _limited(self, columns: list[Column]) -> list[Column]:
        if len(columns) > MOST_COLUMNS:
            raise FormulaFault("too_many", f"makes {len(columns)} columns, and at most {MOST_COLUMNS} are taken", 0)
        return columns


def is_text(values: Sequence[Any]) -> bool:
    """Whether a column holds texts."""
    return bool(values) and isinstance(values[0], str)


def levels_of(values: Iterable[Any]) -> list[Level]:
    """The different values of a column, sorted; whole numbers as integers, true and false as 1 and 0."""
    return sorted({plain_level(value) for value in values})


def plain_level(value: Any) -> Level:
    """A level as a resolved spec holds it, however its column was read."""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return value


def is_intercept(column: Column) -> bool:
    """Whether a column is the constant one."""
    return column == INTERCEPT


def _check_levels(variable: str, levels: Sequence[Level], column: int) -> None:
    if len(levels) < 2:
        detail = f"{quoted(variable)} has a single level, {quoted(levels[0])}, and compares nothing: leave it out"
        raise FormulaFault("constant", detail, column)
    if len(levels) > MOST_LEVELS:
        detail = (
            f"{quoted(variable)} has {len(levels)} levels, and at most {MOST_LEVELS} are taken: use it as a group, (1 | {variable})"
        )
        raise FormulaFault("too_many", detail, column)


def _few(levels: Sequence[Level]) -> str:
    return ", ".join(quoted(level) for level in levels[:6]) + (" …" if len(levels) > 6 else "")
