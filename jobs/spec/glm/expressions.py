"""What stands between the operators of a formula: a column, or a function of columns, read from Python's syntax tree and computed.

Plain numbers in lists: the job language has no arrays, and the worker must come to the same values as the service.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.errors import MeshyardError
from jobs.spec.pointers import nearest, quoted

Values = Sequence[float]
Moments = tuple[float, float]
DEEPEST = 30
LARGEST = 1e300
ELEMENTWISE: Mapping[str, Callable[[float], float]] = {
    "abs": abs,
    "cos": math.cos,
    "exp": math.exp,
    "expm1": math.expm1,
    "log": math.log,
    "log10": math.log10,
    "log1p": math.log1p,
    "log2": math.log2,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tanh": math.tanh,
}
STATEFUL = ("center", "scale", "standardize")
"""Functions that remember the mean (and the standard deviation) of the data that the model was fitted to."""
CALLS = ("C", "I", *ELEMENTWISE, *STATEFUL)
_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: lambda x, y: x + y,
    ast.Sub: lambda x, y: x - y,
    ast.Mult: lambda x, y: x * y,
    ast.Div: lambda x, y: x / y,
    ast.Pow: math.pow,
}


class FormulaFault(MeshyardError):
    """A formula that cannot be read or computed: a code, a sentence, and the column (from 0) where it goes wrong."""

    def __init__(self, code: str, detail: str, column: int) -> None:
        super().__init__(detail)
        self.code, self.column = code, column
        self.detail = f"column {column + 1}: {detail}"


@dataclass(frozen=True)
class Factor:
    """A column, or a function of columns.

    Attributes:
        name: canonical, the same for what is written differently and means the same.
        column: where it stands.
        tree: of the expression; of what is inside, for `C(…)`.
        categorical: whether it is `C(…)`.
        reference: the level that `C(x, level)` compares with.
        variables: the columns of the data that it needs, each with where it stands.
    """

    name: str
    column: int
    tree: ast.expr
    categorical: bool = False
    reference: str | float | None = None
    variables: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def operations(self) -> int:
        """How many it takes for a row."""
        return sum(1 for _ in ast.walk(self.tree))

    @property
    def plain(self) -> bool:
        """Whether it is a column as it is."""
        return isinstance(self.tree, ast.Name) and not self.categorical


def read_factor(text: str, column: int) -> Factor:
    """Read what stands between operators.

    Args:
        text: of the expression.
        column: where it begins in the formula.

    Raises:
        FormulaFault: it is not in the language.
    """
    plain, names = _without_backticks(text, column)
    lead = len(plain) - len(plain.lstrip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of escapes in quotes, which are nobody's business here
            tree = ast.parse(plain.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        at = column + max(0, (getattr(error, "offset", None) or 1) - 1)
        detail = (
            f"{quoted(text)} is not an expression; a column of another name than Python's is put between backticks: `my column`"
        )
        raise FormulaFault("syntax", detail, at) from None
    start = column + lead
    categorical, reference = False, None
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "C":
        categorical, reference, tree = True, _reference(tree, start), tree.args[0]
        if not isinstance(tree, ast.Name):
            raise FormulaFault("syntax", "C(…) takes a column", start)
    variables: dict[str, int] = {}
    _check(tree, start, variables, 0)
    shown = ast.unparse(tree)
    for safe, original in names.items():
        shown = shown.replace(safe, f"`{original}`")
    found = {names.get(name, name): at for name, at in variables.items()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
    if categorical:
        shown = f"C({shown})" if reference is None else f"C({shown}, {reference!r})"
    return Factor(_display(shown), start, tree, categorical, reference, found)


def _display(name: str) -> str:
    """A slash would lead into a group of a NetCDF file."""
    return name.replace("/", "÷")


def _without_backticks(text: str, column: int) -> tuple[str, dict[str, str]]:
    """The text with each name in backticks replaced by one that Python can read, of the same length where that can be."""
    names: dict[str, str] = {}
    parts = text.split("`")
    if len(parts) % 2 == 0:
        raise FormulaFault("syntax", "a backtick is not closed", column)
    for at in range(1, len(parts), 2):
        safe = f"q{at}" + "_" * max(0, len(parts[at]) - len(str(at)) + 1)
        names[safe] = parts[at]
        parts[at] = safe
    return "".join(parts), names


def _reference(call: ast.Call, start: int) -> str | float | None:
    if not 1 <= len(call.args) <= 2 or call.keywords:
        raise FormulaFault("syntax", 'C takes a column and, if need be, the level to compare with: C(x), C(x, "control")', start)
    if len(call.args) == 1:
        return None
    level = call.args[1]
    negative = isinstance(level, ast.UnaryOp) and isinstance(level.op, ast.USub)
    constant = level.operand if isinstance(level, ast.UnaryOp) and negative else level
    if not isinstance(constant, ast.Constant) or type(constant.value) not in (str, int, float):
        raise FormulaFault("syntax", 'the level to compare with is a number or a word in quotes: C(x, "control")', start)
    value: Any = constant.value
    return -value if negative else value


def _check(tree: ast.expr, start: int, variables: dict[str, int], depth: int) -> None:
    """Let through numbers, columns, arithmetic and the functions that are known."""
    at = start + tree.col_offset
    if depth > DEEPEST:
        raise FormulaFault("too_deep", f"is nested more than {DEEPEST} deep", at)
    if isinstance(tree, ast.Name):
        variables.setdefault(tree.id, at)
    elif isinstance(tree, ast.BinOp) and type(tree.op) in _OPERATORS:
        _check(tree.left, start, variables, depth + 1)
        _check(tree.right, start, variables, depth + 1)
    elif isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub | ast.UAdd):
        _check(tree.operand, start, variables, depth + 1)
    elif isinstance(tree, ast.Call):
        _check_call(tree, start, variables, depth)
    elif not _is_number(tree):
        hint = "a power is written with **" if isinstance(tree, ast.BinOp) else "numbers, columns, + - * / ** and functions are"
        raise FormulaFault("not_allowed", f"{quoted(ast.unparse(tree))} is not allowed inside a term; {hint}", at)


def _is_number(tree: ast.expr) -> bool:
    value: Any = tree.value if isinstance(tree, ast.Constant) else None
    return type(value) in (int, float) and abs(value) <= LARGEST


def _check_call(call: ast.Call, start: int, variables: dict[str, int], depth: int) -> None:
    at = start + call.col_offset
    name = call.func.id if isinstance(call.func, ast.Name) else ast.unparse(call.func)
    if name == "C":
        raise FormulaFault("syntax", "C(…) cannot stand inside a function", at)
    if name not in CALLS:
        raise FormulaFault("unknown_function", f"unknown function {quoted(name)}; {nearest(name, CALLS)}", at)
    if len(call.args) != 1 or call.keywords:
        raise FormulaFault("syntax", f"{name} takes one argument", at)
    _check(call.args[0], start, variables, depth + 1)


def compute(factor: Factor, columns: Mapping[str, Values], moments: dict[str, Moments]) -> list[float]:
    """A numeric factor's values, a number for each row.

    Args:
        factor: not categorical.
        columns: by variable.
        moments: what `center` and `scale` remember; missing ones are filled in.

    Raises:
        FormulaFault: a value is not finite, such as the logarithm of 0.
    """
    rows = len(next(iter(columns.values()))) if columns else 0
    return _Computing(factor, columns, moments, rows).vector(factor.tree)


@dataclass
class _Computing:
    factor: Factor
    columns: Mapping[str, Values]
    moments: dict[str, Moments]
    rows: int

    def vector(self, tree: ast.expr) -> list[float]:
        if isinstance(tree, ast.Name):
            return [float(value) for value in self.columns[tree.id]]
        if isinstance(tree, ast.Constant):
            value: Any = tree.value
            return [float(value)] * self.rows
        if isinstance(tree, ast.BinOp):
            apply, left, right = _OPERATORS[type(tree.op)], self.vector(tree.left), self.vector(tree.right)
            return self._mapped(tree, lambda row: apply(left[row], right[row]))
        if isinstance(tree, ast.UnaryOp):
            inner = self.vector(tree.operand)
            return [-value for value in inner] if isinstance(tree.op, ast.USub) else inner
        return self._called(tree)

    def _called(self, tree: ast.expr) -> list[float]:
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
            raise TypeError(ast.dump(tree))  # `read_factor` lets nothing else through
        inner, name = self.vector(tree.args[0]), tree.func.id
        if name == "I":
            return inner
        if name in STATEFUL:
            key = _display(ast.unparse(tree))
            mean, spread = self.moments.setdefault(key, self._moments(tree, inner))
            return [(value - mean) / (1.0 if name == "center" else spread) for value in inner]
        apply = ELEMENTWISE[name]
        return self._mapped(tree, lambda row: apply(inner[row]))

    def _moments(self, tree: ast.expr, values: list[float]) -> Moments:
        mean, spread = mean_and_spread(values)
        if spread == 0:
            raise FormulaFault("constant", f"{quoted(ast.unparse(tree))}: all values are the same", self.factor.column)
        return mean, spread

    def _mapped(self, tree: ast.expr, apply: Callable[[int], float]) -> list[float]:
        found: list[float] = []
        for row in range(self.rows):
            try:
                value = apply(row)
            except (ValueError, ZeroDivisionError, OverflowError):
                value = math.nan
            if not math.isfinite(value):
                detail = f"{quoted(ast.unparse(tree))} is not finite in row {row + 1}: leave that row out, or transform otherwise"
                raise FormulaFault("out_of_range", detail, self.factor.column)
            found.append(value)
        return found


def mean_and_spread(values: Values) -> Moments:
    """Mean and standard deviation (with one degree of freedom less), added without loss."""
    count = len(values)
    mean = math.fsum(values) / count
    squares = math.fsum((value - mean) ** 2 for value in values)
    return mean, math.sqrt(squares / (count - 1)) if count > 1 else 0.0
