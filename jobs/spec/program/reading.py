"""What reading a program gathers: faults, names in scope, and what expressions speak of."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.errors import Issue
from jobs.spec.pointers import LONGEST_TOKEN, join, nearest, quoted
from jobs.spec.program.expressions import MOST_NODES, NAME, ExpressionFault, names_of, parse
from jobs.spec.program.functions import CONSTANTS
from jobs.spec.strict import as_list

MOST_NUMBERS = 100_000
MOST_OBJECTS = 5_000
MOST_PARTS = 200_000
DEEPEST_LIST = 8
LARGEST = 3.4e38
LABEL = re.compile(r"[A-Za-z`][^/]*[\[(:`][^/]*")
"""`x:z`, `g[T.b]`, `log(x)`: what columns of a formula are called. A slash would lead into a group of a NetCDF file."""
RESERVED = frozenset(
    [
        "False",
        "None",
        "True",
        "and",
        "as",
        "assert",
        "async",
        "await",
        "break",
        "class",
        "continue",
        "def",
        "del",
        "elif",
        "else",
        "except",
        "finally",
        "for",
        "from",
        "global",
        "if",
        "import",
        "in",
        "is",
        "lambda",
        "nonlocal",
        "not",
        "or",
        "pass",
        "raise",
        "return",
        "try",
        "while",
        "with",
        "yield",
    ]
)
"""Words of Python's grammar: none of them can be a name in an expression."""


@dataclass
class Reading:
    """One walk over a program.

    Attributes:
        issues: all that is wrong so far.
        defined: the names in scope, each with where it was defined.
        implied: names that must be data, with the first place that speaks of each; used where a program declares no data.
        used: every name that some expression speaks of.
        declares: whether the program declares its data.
    """

    issues: list[Issue] = field(default_factory=list[Issue])
    defined: dict[str, str] = field(default_factory=dict[str, str])
    implied: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    used: set[str] = field(default_factory=set[str])
    declares: bool = True
    objects: int = 0
    numbers: int = 0
    parts: int = 0

    def fault(self, pointer: str, code: str, detail: str) -> None:
        """Note a fault."""
        self.issues.append(Issue(pointer, code, detail))

    def count(self, pointer: str) -> bool:
        """Count one more statement or distribution. Returns: whether the program is still of a bearable size."""
        self.objects += 1
        if self.objects == MOST_OBJECTS + 1:
            self.fault(pointer, "too_many", f"a program has at most {MOST_OBJECTS} statements and distributions")
        return self.objects <= MOST_OBJECTS

    def define(self, name: Any, pointer: str, code: str = "duplicate_name") -> str | None:
        """Take a name into scope. Returns: the name; None where it cannot be one."""
        sound = self.name(name, pointer)
        if sound is not None and sound in self.defined:
            self.fault(pointer, code, f"{quoted(sound)} is there already, at {self.defined[sound]}; choose another name")
            return None
        if sound is not None:
            self.defined[sound] = pointer
        return sound

    def name(self, name: Any, pointer: str) -> str | None:
        """A name that expressions can speak of; None once the fault is told."""
        if not isinstance(name, str):
            self.fault(pointer, "wrong_type", "must be a name")
        elif not NAME.fullmatch(name):
            detail = "must be a name of letters, digits and underscores that begins with no digit, at most 100 characters long"
            self.fault(pointer, "wrong_format", detail)
        elif name in RESERVED:
            self.fault(pointer, "reserved", f"{quoted(name)} is a word of the language and cannot be a name: write {name}_")
        else:
            return name
        return None

    def value(self, value: Any, pointer: str, depth: int = 0) -> Any:
        """A number, an expression, or a list of them."""
        if isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            self._number(value, pointer)
        elif isinstance(value, str):
            self.expression(value, pointer)
        elif (items := as_list(value)) is not None:
            self._list(items, pointer, depth)
        else:
            self.fault(pointer, "wrong_type", "must be a number, an expression in quotes, or a list of them")
        return value

    def size(self, value: Any, pointer: str) -> Any:
        """A size: an integer, or an expression of sizes."""
        if isinstance(value, str):
            self.expression(value, pointer)
        elif isinstance(value, bool) or not isinstance(value, int):
            self.fault(pointer, "wrong_type", 'must be an integer, or an expression of sizes such as "N - 1"')
        elif not -8 <= value <= 2**31 - 1:
            self.fault(pointer, "out_of_range", "must be a size below 2^31")
        return value

    def expression(self, text: str, pointer: str) -> ast.expr | None:
        """The tree of an expression whose names are all known; None once a fault is told."""
        try:
            tree = parse(text)
        except ExpressionFault as fault:
            self.fault(pointer, fault.code, fault.detail)
            return None
        self.parts += min(MOST_NODES, len(text))
        if self.parts > MOST_PARTS:
            self.fault(pointer, "too_many", f"the expressions of a program have at most {MOST_PARTS} characters in all")
            self.parts = -(2**60)
        self._use(tree, pointer)
        return tree

    def _use(self, tree: ast.expr, pointer: str) -> None:
        told: set[str] = set()
        for name, column in names_of(tree):
            self.used.add(name)
            if name in self.defined or name in CONSTANTS or name in told:
                continue
            told.add(name)
            if self.declares:
                hint = nearest(name, [*self.defined, *CONSTANTS], before=len(self.issues))
                detail = f"column {column + 1}: unknown name {quoted(name)}, defined neither above nor in the program's data"
                self.fault(pointer, "unknown_name", f"{detail}; {hint}")
            elif name not in self.implied:
                self.implied[name] = (pointer, column)

    def _number(self, value: float, pointer: str) -> None:
        self.numbers += 1
        if self.numbers == MOST_NUMBERS + 1:
            self.fault(pointer, "too_many", f"a program has at most {MOST_NUMBERS} numbers: put them into the data")
        if not -LARGEST <= value <= LARGEST or (isinstance(value, int) and abs(value) > 2**53):
            self.fault(pointer, "out_of_range", 'must be a finite number below 3.4e38; infinity is the expression "inf"')

    def _list(self, items: list[Any], pointer: str, depth: int) -> None:
        if not items or depth >= DEEPEST_LIST:
            detail = 'must not be empty; an array of no elements is "zeros(0)"' if not items else "is a list nested too deeply"
            self.fault(pointer, "out_of_range", detail)
            return
        for at, item in enumerate(items):
            self.value(item, join(pointer, at), depth + 1)


def is_label(name: Any) -> bool:
    """Whether a recorded quantity may be called so, though no expression can speak of it."""
    return isinstance(name, str) and len(name) <= LONGEST_TOKEN and name.isprintable() and LABEL.fullmatch(name) is not None


def of_scope(defined: Mapping[str, str], inner: Reading) -> Mapping[str, str]:
    """What a part of a program has defined beyond what was there."""
    return {name: where for name, where in inner.defined.items() if name not in defined}
