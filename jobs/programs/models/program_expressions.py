"""Expressions of a program evaluated over arrays: a walk over a tree that `jobs.spec.program.expressions` has let through.

Python itself evaluates nothing of a user's. Integers that come from the data stay NumPy's, so that sizes, slices and indices are
known while the model is traced and can be checked: JAX would clamp an index beyond the end without a word.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jobs.errors import UserFault
from jobs.programs.models import program_functions
from jobs.spec.pointers import join
from jobs.spec.program.expressions import ExpressionFault, bind_arguments, parse
from jobs.spec.program.functions import FUNCTIONS
from jobs.spec.program.values import LARGEST_ARRAY, MOST_AXES

CODE = "program_invalid"
LARGEST_STATIC = 10_000_000
CONSTANTS = {"pi": math.pi, "e": math.e, "inf": math.inf}
_REFUSALS = (
    AssertionError, AttributeError, IndexError, KeyError, NotImplementedError, OverflowError, TypeError, ValueError,
    ZeroDivisionError,
)  # fmt: skip
"""What the libraries raise for shapes and values that do not go together. Not FloatingPointError: a NaN that was looked for."""
_OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.Pow: operator.pow, ast.MatMult: operator.matmul, ast.BitAnd: operator.and_, ast.BitOr: operator.or_,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}  # fmt: skip

Value = Any
"""A Python number, a NumPy array of integers or truth values (known while tracing), or a JAX array."""


def fault(pointer: str, detail: str) -> UserFault:
    """A program that cannot be built."""
    return UserFault(CODE, f"{pointer}: {detail}", pointer)


def evaluate(value: Any, scope: Mapping[str, Value], pointer: str) -> Value:
    """The value of a number, an expression, or a list of them.

    Args:
        value: as it stands in the program.
        scope: the names that it may speak of.
        pointer: where it stands.

    Raises:
        UserFault: it cannot be computed; the message tells the column.
    """
    if isinstance(value, str):
        try:
            return _Evaluator(scope).visit(parse(value))
        except ExpressionFault as found:
            raise fault(pointer, found.detail) from None
    if isinstance(value, list):
        return _stacked([evaluate(item, scope, join(pointer, at)) for at, item in enumerate(value)], pointer)
    return value


def evaluate_size(value: Any, scope: Mapping[str, Value], pointer: str) -> int:
    """A size, which must follow from the data's integers and shapes alone."""
    found = evaluate(value, scope, pointer)
    if not _is_static_integer(found):
        raise fault(pointer, "a size must be one integer that follows from the data's own integers and shapes")
    return int(found)


def is_static(value: Value) -> bool:
    """Whether a value is known while tracing, and integers or truth values only."""
    return isinstance(value, bool | int | np.integer | np.bool_) or (isinstance(value, np.ndarray) and value.dtype.kind in "iub")


def _is_static_integer(value: Value) -> bool:
    return isinstance(value, int | np.integer) or (isinstance(value, np.ndarray) and value.shape == () and value.dtype.kind in "iu")


def _stacked(items: Sequence[Value], pointer: str) -> Value:
    try:
        return _stack(items)
    except _REFUSALS as error:
        raise fault(pointer, _told(error)) from error


def _stack(items: Sequence[Value]) -> Value:
    if all(map(is_static, items)):
        return np.stack(np.broadcast_arrays(*items))
    if all(isinstance(item, int | float) for item in items):
        return jnp.asarray(items, jnp.result_type(float))
    return jnp.stack(jnp.broadcast_arrays(*(jnp.asarray(item) for item in items)))


class _Evaluator:
    def __init__(self, scope: Mapping[str, Value]) -> None:
        self.scope = scope
        self._visitors: Mapping[type, Callable[[Any], Value]] = {
            ast.Constant: lambda node: node.value, ast.Name: self._name, ast.BinOp: self._spine, ast.UnaryOp: self._unary,
            ast.BoolOp: self._logic, ast.Compare: self._compare, ast.IfExp: self._choice, ast.List: self._list,
            ast.Subscript: self._subscript, ast.Attribute: self._attribute, ast.Call: self._call,
        }  # fmt: skip

    def visit(self, node: ast.expr) -> Value:
        """The value of a part, with what goes wrong told at its column."""
        return self._guarded(node, lambda: self._visitors[type(node)](node))

    def _guarded(self, node: ast.expr, compute: Callable[[], Value]) -> Value:
        try:
            found = compute()
        except _REFUSALS as error:
            raise ExpressionFault("wrong_value", _told(error), node.col_offset) from error
        if np.ndim(found) > MOST_AXES:
            raise ExpressionFault("too_large", f"gives an array of {np.ndim(found)} axes: at most {MOST_AXES} fit", node.col_offset)
        if math.prod(np.shape(found)) > (LARGEST_STATIC if isinstance(found, np.ndarray) else LARGEST_ARRAY):
            detail = f"gives an array of shape {np.shape(found)}, which is too large"
            raise ExpressionFault("too_large", detail, node.col_offset)
        return found

    def _name(self, node: ast.Name) -> Value:
        if node.id in self.scope:
            return self.scope[node.id]
        if node.id in CONSTANTS:
            return CONSTANTS[node.id]
        raise ExpressionFault("unknown_name", f'unknown name "{node.id}"', node.col_offset)

    def _spine(self, node: ast.BinOp) -> Value:
        spine: list[ast.BinOp] = []
        first: ast.expr = node
        while isinstance(first, ast.BinOp):
            spine.append(first)
            first = first.left
        found = self.visit(first)
        for each in reversed(spine):
            right, left = self.visit(each.right), found
            found = self._guarded(each, lambda each=each, left=left, right=right: _combine(type(each.op), left, right))
        return found

    def _unary(self, node: ast.UnaryOp) -> Value:
        found = self.visit(node.operand)
        if isinstance(node.op, ast.USub):
            return -found if not isinstance(found, bool) else -int(found)
        if isinstance(node.op, ast.UAdd):
            return found
        if isinstance(found, bool):
            return not found
        return np.logical_not(found) if is_static(found) else jnp.logical_not(found)

    def _logic(self, node: ast.BoolOp) -> Value:
        found = self.visit(node.values[0])
        for part in node.values[1:]:
            other = self.visit(part)
            library = np if is_static(found) and is_static(other) else jnp
            found = (library.logical_and if isinstance(node.op, ast.And) else library.logical_or)(found, other)
        return found

    def _compare(self, node: ast.Compare) -> Value:
        parts = [self._raw(part) for part in (node.left, *node.comparators)]
        found: Value = True
        for at, each in enumerate(node.ops):
            pair = _combine(type(each), parts[at], parts[at + 1])
            library = np if is_static(found) and is_static(pair) else jnp
            found = pair if at == 0 else library.logical_and(found, pair)
        return found

    def _raw(self, node: ast.expr) -> Value:
        """Real data as NumPy has it, so that which of it meets a condition is known while tracing."""
        found = self.visit(node)
        known = isinstance(node, ast.Name) and isinstance(found, jax.Array) and not isinstance(found, Tracer)
        return np.asarray(found) if known else found

    def _choice(self, node: ast.IfExp) -> Value:
        test = self.visit(node.test)
        if isinstance(test, bool | np.bool_):
            return self.visit(node.body if test else node.orelse)
        return jnp.where(test, self.visit(node.body), self.visit(node.orelse))

    def _list(self, node: ast.List) -> Value:
        return _stack([self.visit(item) for item in node.elts])

    def _attribute(self, node: ast.Attribute) -> Value:
        found = self.visit(node.value)
        if node.attr == "shape":
            return np.array(np.shape(found), dtype=np.int64)
        array = found if isinstance(found, np.ndarray) else jnp.asarray(found)
        return array.T if node.attr == "T" else array.swapaxes(-1, -2)

    # -- indexing ------------------------------------------------------------------------------------------------------------

    def _subscript(self, node: ast.Subscript) -> Value:
        array = self.visit(node.value)
        array = array if isinstance(array, np.ndarray) else jnp.asarray(array)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        index = tuple(self._index(part) for part in parts)
        self._check_bounds(node, array.shape, index)
        found = array[index]
        return int(found) if isinstance(found, np.integer) else found

    def _index(self, part: ast.expr) -> Any:
        if isinstance(part, ast.Slice):
            return slice(*(self._bound(bound) for bound in (part.lower, part.upper, part.step)))
        if isinstance(part, ast.Constant) and (part.value is None or part.value is ...):
            return part.value
        found = self.visit(part)
        if is_static(found):
            return found if isinstance(found, np.ndarray) else np.asarray(found).item()
        if jnp.asarray(found).dtype.kind not in "iu":
            detail = "an index must be an integer; a mask must follow from the data alone"
            raise ExpressionFault("wrong_type", detail, part.col_offset)
        return found

    def _bound(self, node: ast.expr | None) -> int | None:
        if node is None or (isinstance(node, ast.Constant) and node.value is None):
            return None
        found = self.visit(node)
        if not _is_static_integer(found):
            detail = "a slice goes from and to integers that follow from the data's own integers and shapes"
            raise ExpressionFault("wrong_type", detail, node.col_offset)
        return int(found)

    def _check_bounds(self, node: ast.Subscript, shape: tuple[int, ...], index: tuple[Any, ...]) -> None:
        """Raise for an index that is known and beyond the end."""
        taken = sum(_axes_of(part) for part in index)
        if taken > len(shape):
            raise ExpressionFault("wrong_shape", f"has shape {shape}, and {taken} axes are indexed", node.col_offset)
        at = 0
        for part in index:
            if part is ...:
                at += len(shape) - taken
                continue
            if not isinstance(part, slice | bool) and is_static(part) and np.asarray(part).dtype.kind != "b" and np.size(part):
                low, high = int(np.min(part)), int(np.max(part))
                if high >= shape[at] or low < -shape[at]:
                    wrong = high if high >= shape[at] else low
                    detail = f"index {wrong} is beyond an axis of {shape[at]} elements, which count from 0"
                    raise ExpressionFault("out_of_range", detail, node.slice.col_offset)
            at += _axes_of(part)

    # -- functions -----------------------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> Value:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        function = FUNCTIONS[name]
        given: dict[str, Any] = {}
        for key, part in bind_arguments(node, function).items():
            if key in function.words:
                given[key] = part.value if isinstance(part, ast.Constant) else None
            elif key in function.static:
                given[key] = self._static(part)
            elif key == "arrays" and isinstance(part, ast.List):
                given[key] = [jnp.asarray(self.visit(item)) for item in part.elts]
            else:
                given[key] = self.visit(part)
        self._check_size(name, given, node)
        found = program_functions.call(name, given)
        if isinstance(found, int | np.ndarray):
            return found
        return _static_again(name, given, jnp.asarray(found))

    def _static(self, part: ast.expr) -> Any:
        """An axis, a size, a switch, or several."""
        if isinstance(part, ast.Constant) and part.value is None:
            return None
        if isinstance(part, ast.Tuple | ast.List):
            return tuple(self._static(item) for item in part.elts)
        found = self.visit(part)
        if isinstance(found, bool | np.bool_) or _is_static_integer(found):
            return bool(found) if isinstance(found, bool | np.bool_) else int(found)
        if is_static(found):
            return tuple(int(size) for size in np.ravel(found))
        if isinstance(found, float):
            return found
        detail = "must be an integer that follows from the data's own integers and shapes"
        raise ExpressionFault("wrong_type", detail, part.col_offset)

    def _check_size(self, name: str, given: Mapping[str, Any], node: ast.Call) -> None:
        """Refuse to make what would not fit, before it is made."""
        sizes = [
            given[key] for key in ("n", "m", "num", "length", "shape", "reps", "total") if isinstance(given.get(key), int | tuple)
        ]
        flat = [size for each in sizes for size in (each if isinstance(each, tuple) else (each,)) if isinstance(size, int)]
        least = (
            math.prod(max(1, abs(size)) for size in flat) if name not in ("arange", "diff", "matrix_power", "multigammaln") else 1
        )
        if name == "eye" and not isinstance(given.get("m"), int):
            least = least**2
        if name == "arange" and isinstance(given.get("n"), int | float):
            least = abs((given.get("m") or 0) - given["n"]) / max(1e-9, abs(given.get("k") or 1))
        elif (name == "diff" and abs(given.get("n") or 1) > 64) or (name == "matrix_power" and abs(given["n"]) > 1024):
            least = math.inf
        if name in ("tile", "repeat", "broadcast_to", "kron", "outer"):
            least *= max(1, *(math.prod(np.shape(given[key])) for key in ("x",))) if name in ("tile", "repeat") else 1
        if least > LARGEST_STATIC:
            raise ExpressionFault("too_large", f"{name} would give or take more than {LARGEST_STATIC} elements", node.col_offset)


_INTEGRAL = frozenset({"concatenate", "stack", "minimum", "maximum", "flip", "sort", "cumsum", "repeat", "tile", "reshape",
    "ravel", "abs",
                       "min", "max", "sum", "where", "roll", "diff", "take", "any", "all", "unique", "zeros_like",
                       "square"})  # fmt: skip


def _static_again(name: str, given: Mapping[str, Any], found: jax.Array) -> Value:
    """Integers made of integers that were known while tracing are known too."""
    if name not in _INTEGRAL or found.dtype.kind not in "iub" or found.size > LARGEST_STATIC:
        return found
    parts = [item for value in given.values() for item in (value if isinstance(value, list) else [value])]
    if any(isinstance(part, Tracer) or (isinstance(part, jax.Array) and part.dtype.kind not in "iub") for part in parts):
        return found
    with jax.ensure_compile_time_eval():
        known = np.asarray(program_functions.call(name, dict(given)))
    return known if known.shape else known.item()


def _axes_of(part: Any) -> int:
    """How many axes an index takes."""
    if part is None or part is ... or isinstance(part, bool | np.bool_):
        return 0
    return part.ndim if isinstance(part, np.ndarray) and part.dtype.kind == "b" else 1


def _combine(kind: type, left: Value, right: Value) -> Value:
    """Two values under an operator, without leaving what is known while tracing where both are."""
    function = _OPERATORS[kind]
    if isinstance(left, int | float) and isinstance(right, int | float):
        return _of_numbers(kind, left, right)
    both_known = all(is_static(side) or isinstance(side, np.ndarray) for side in (left, right))
    compared = issubclass(kind, ast.cmpop)
    if compared and all(isinstance(side, np.ndarray | np.generic | int | float) for side in (left, right)):
        return np.asarray(function(left, right))
    if both_known and all(map(is_static, (left, right))) and kind not in (ast.Div, ast.Pow, ast.MatMult):
        if math.prod(np.broadcast_shapes(np.shape(left), np.shape(right))) > LARGEST_STATIC:
            raise ValueError(f"an array of more than {LARGEST_STATIC} elements")
        if kind in (ast.FloorDiv, ast.Mod) and np.any(np.asarray(right) == 0):
            raise ZeroDivisionError("an integer is divided by zero")
        return function(left, right)
    if kind is not ast.MatMult and math.prod(np.broadcast_shapes(np.shape(left), np.shape(right))) > LARGEST_ARRAY:
        raise ValueError(f"an array of more than {LARGEST_ARRAY} elements")
    return function(_as_jax(left), _as_jax(right))


def _as_jax(value: Value) -> Value:
    return jnp.asarray(value) if isinstance(value, np.ndarray | np.generic) else value


def _of_numbers(kind: type, left: float, right: float) -> float:
    """Two numbers that stand in the program, or sizes: integers stay exact and small, reals overflow to infinity."""
    if issubclass(kind, ast.cmpop):
        return bool(_OPERATORS[kind](left, right))
    if kind is ast.MatMult:
        raise ValueError("@ multiplies vectors and matrices: use *")
    if isinstance(left, int) and isinstance(right, int) and kind is not ast.Div and not (kind is ast.Pow and right < 0):
        if kind is ast.Pow and (right > 62 or abs(left) ** min(right, 62) > 2**62):
            raise OverflowError("the integer is too large: write one side with a decimal point")
        if kind in (ast.FloorDiv, ast.Mod) and right == 0:
            raise ZeroDivisionError("an integer is divided by zero")
        found = _OPERATORS[kind](left, right)
        if abs(found) > 2**62:
            raise OverflowError("the integer is too large: write one side with a decimal point")
        return found
    if kind in (ast.BitAnd, ast.BitOr):
        raise TypeError("& and | combine conditions")
    with np.errstate(all="ignore"):
        return float(_OPERATORS[kind](np.float64(left), np.float64(right)))


def _told(error: Exception) -> str:
    """The first sentence of what a library says, without its addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    if isinstance(
        error,
        jax.errors.ConcretizationTypeError | jax.errors.TracerIntegerConversionError | jax.errors.NonConcreteBooleanIndexError,
    ):
        return "must be known before the program runs: it must follow from the data's own integers and shapes"
    return text[:300]
