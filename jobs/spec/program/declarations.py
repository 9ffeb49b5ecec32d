"""What a program declares of its data: names, kinds of numbers, shapes and bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.spec.pointers import join, nearest, quoted
from jobs.spec.program.expressions import ExpressionFault, names_of, parse
from jobs.spec.program.reading import Reading
from jobs.spec.strict import as_list, as_object

MOST_DATA = 1_000
DATA_FIELDS: Mapping[str, Any] = {"type": "real", "shape": [], "lower": None, "upper": None}


class Declarations:
    """The declarations of a program's data, taken into scope."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    def read(self, value: Any, pointer: str) -> dict[str, Any] | None:
        """Every declaration with every field present; None where a program has none."""
        if value is None:
            return None
        declared = as_object(value)
        if declared is None or len(declared) > MOST_DATA:
            detail = f'must be an object of at most {MOST_DATA} declarations, such as {{"x": {{"shape": ["N"]}}}}'
            self.reading.fault(pointer, "wrong_type", detail)
            return None
        for name in declared:
            self.reading.define(name, join(pointer, name))
        return {name: self._declaration(item, join(pointer, name)) for name, item in declared.items()}

    def _declaration(self, value: Any, pointer: str) -> dict[str, Any]:
        found = as_object(value)
        if found is None:
            self.reading.fault(pointer, "wrong_type", 'must be an object, such as {"type": "int", "shape": ["N"]}')
            return dict(DATA_FIELDS)
        for at, name in enumerate(name for name in found if name not in DATA_FIELDS):
            detail = f"unknown field {quoted(name)}; {nearest(name, DATA_FIELDS, before=at)}"
            self.reading.fault(join(pointer, name), "unknown_field", detail)
        result = {**DATA_FIELDS, **{name: item for name, item in found.items() if name in DATA_FIELDS}}
        if result["type"] not in ("real", "int"):
            self.reading.fault(join(pointer, "type"), "unknown_value", 'must be "real" or "int"')
        for bound in ("lower", "upper"):
            self._bound(result[bound], join(pointer, bound))
        return {**result, "shape": self._shape(result["shape"], join(pointer, "shape"))}

    def _bound(self, limit: Any, pointer: str) -> None:
        """A number, or an expression of the data's integers as a size is."""
        if isinstance(limit, str):
            self._axis(limit, pointer)
        elif limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or abs(limit) > 3.4e38):
            self.reading.fault(
                pointer, "wrong_type", 'must be a number, an expression of integers of the data such as "K", or null'
            )

    def _shape(self, value: Any, pointer: str) -> list[int | str]:
        items = as_list(value)
        if items is None or len(items) > 6:
            self.reading.fault(pointer, "wrong_type", 'must be an array of at most 6 sizes, such as ["N", 3]')
            return []
        return [size for at, item in enumerate(items) if (size := self._axis(item, join(pointer, at))) is not None]

    def _axis(self, item: Any, pointer: str) -> int | str | None:
        """One size: a number, a name that it gets from the data, or an expression of names."""
        if isinstance(item, str):
            try:
                names = names_of(parse(item))
            except ExpressionFault as fault:
                self.reading.fault(pointer, fault.code, fault.detail)
                return None
            for name, _ in names:
                self.reading.used.add(name)
                if name not in self.reading.defined and self.reading.name(name, pointer) is not None:
                    self.reading.defined[name] = pointer
            return item
        if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item < 2**31:
            self.reading.fault(pointer, "wrong_type", 'must be a size: a whole number, or a name such as "N"')
            return None
        return item
