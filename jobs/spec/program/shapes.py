"""Shapes of expressions, followed without computing anything, as far as sizes are known from the data.

What is not known is `None` and is never at fault: the worker follows shapes again with all of NumPyro at hand.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from jobs.spec.program.expressions import ExpressionFault, bind_arguments
from jobs.spec.program.functions import CONSTANTS, FUNCTIONS, SQUARE, Function
from jobs.spec.program.values import LARGEST_ARRAY, REAL, UNKNOWN, Shape, Value, broadcast, integer, told


def follow(tree: ast.expr, scope: Mapping[str, Value]) -> Value:
    """What is known of an expression's value.

    Raises:
        ExpressionFault: its shapes cannot go together, whatever is not known.
    """
    return _Follower(scope).visit(tree)


class _Follower:
    def __init__(self, scope: Mapping[str, Value]) -> None:
        self.scope = scope
        self._seen: dict[ast.expr, Value] = {}
        self._visitors: Mapping[type, Callable[[Any], Value]] = {
            ast.Constant: self._constant, ast.Name: self._name, ast.BinOp: self._spine, ast.UnaryOp: self._unary,
            ast.BoolOp: self._logic,
            ast.Compare: self._compare, ast.IfExp: self._choice, ast.List: self._list, ast.Subscript: self._subscript,
            ast.Attribute: self._attribute, ast.Call: self._call,
        }  # fmt: skip

    def visit(self, node: ast.expr) -> Value:
        """What is known of a part. Each is looked at once: some rules come back to their arguments, however deep these are."""
        if node not in self._seen:
            self._seen[node] = self._visit(node)
        return self._seen[node]

    def _visit(self, node: ast.expr) -> Value:
        found = self._visitors[type(node)](node)
        if found.shape is not None and None not in found.shape and math.prod(size or 0 for size in found.shape) > LARGEST_ARRAY:
            detail = f"gives an array of shape {told(found.shape)}: at most {LARGEST_ARRAY} elements fit"
            raise ExpressionFault("too_large", detail, node.col_offset)
        return found

    def _constant(self, node: ast.Constant) -> Value:
        if isinstance(node.value, bool):
            return Value((), "bool")
        return integer(node.value) if isinstance(node.value, int) else REAL

    def _name(self, node: ast.Name) -> Value:
        return self.scope.get(node.id, REAL if node.id in CONSTANTS else UNKNOWN)

    def _spine(self, node: ast.BinOp) -> Value:
        """A sum of many terms leans to the left: followed by a loop, for it may be longer than Python's stack is deep."""
        spine: list[ast.BinOp] = []
        first: ast.expr = node
        while isinstance(first, ast.BinOp):
            spine.append(first)
            first = first.left
        found = self.visit(first)
        for each in reversed(spine):
            found = self._binary(each, found, self.visit(each.right))
        return found

    def _binary(self, node: ast.BinOp, left: Value, right: Value) -> Value:
        if isinstance(node.op, ast.MatMult):
            return Value(self._product(node, left.shape, right.shape), "real")
        shape = self._together(node, left, right)
        kind = "real" if isinstance(node.op, ast.Div) or "real" in (left.kind, right.kind) else _kind_of(left, right)
        if kind != "int":
            return Value(shape, kind)
        return replace(_arithmetic(node.op, left, right), shape=shape)

    def _product(self, node: ast.BinOp, left: Shape | None, right: Shape | None) -> Shape | None:
        if left is None or right is None:
            return None
        if not left or not right:
            raise ExpressionFault(
                "wrong_shape", "@ multiplies vectors and matrices, and one side is a single number: use *", _end(node)
            )
        inner, other = left[-1], right[-2 if len(right) > 1 else 0]
        if inner is not None and other is not None and inner != other:
            detail = f"shapes {told(left)} and {told(right)} cannot be multiplied with @: {inner} and {other} differ"
            raise ExpressionFault("wrong_shape", detail, _end(node))
        try:
            batch = broadcast(left[:-2], right[:-2])
        except ValueError as error:
            raise ExpressionFault("wrong_shape", str(error), _end(node)) from None
        rows, columns = (left[-2:-1] if len(left) > 1 else ()), (right[-1:] if len(right) > 1 else ())
        return None if batch is None else (*batch, *rows, *columns)

    def _unary(self, node: ast.UnaryOp) -> Value:
        found = self.visit(node.operand)
        if isinstance(node.op, ast.USub) and found.kind == "int":
            return replace(found, const=None if found.const is None else -found.const, low=-found.high, high=-found.low)
        return Value(found.shape, "bool") if isinstance(node.op, ast.Not) else Value(found.shape, found.kind)

    def _logic(self, node: ast.BoolOp) -> Value:
        return Value(self._together(node, *map(self.visit, node.values)), "bool")

    def _compare(self, node: ast.Compare) -> Value:
        return Value(self._together(node, *map(self.visit, [node.left, *node.comparators])), "bool")

    def _choice(self, node: ast.IfExp) -> Value:
        parts = [self.visit(part) for part in (node.test, node.body, node.orelse)]
        return Value(self._together(node, *parts), _kind_of(*parts[1:]))

    def _list(self, node: ast.List) -> Value:
        items = [self.visit(item) for item in node.elts]
        shape = self._together(node, *items)
        return Value(None if shape is None else (len(items), *shape), _kind_of(*items))

    def _attribute(self, node: ast.Attribute) -> Value:
        found = self.visit(node.value)
        if node.attr == "shape":
            return Value(None if found.shape is None else (len(found.shape),), "int")
        if found.shape is None:
            return UNKNOWN
        axes = tuple(reversed(found.shape)) if node.attr == "T" else (*found.shape[:-2], *reversed(found.shape[-2:]))
        return Value(axes, found.kind)

    # -- indexing ------------------------------------------------------------------------------------------------------------

    def _subscript(self, node: ast.Subscript) -> Value:
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if isinstance(node.value, ast.Attribute) and node.value.attr == "shape":
            return self._axis_of(node.value, parts)
        array = self.visit(node.value)
        found = [self._index(part) for part in parts]
        if array.shape is None or any(index is None for index in found):
            return Value(None, array.kind)
        taken = sum(isinstance(index, slice | Value) for index in found)
        if taken > len(array.shape):
            detail = f"has {len(array.shape)} axes, shape {told(array.shape)}, and {taken} are indexed"
            raise ExpressionFault("wrong_shape", detail, node.col_offset)
        return Value(self._taken(node, array.shape, found, taken), array.kind)

    def _axis_of(self, node: ast.Attribute, parts: Sequence[ast.expr]) -> Value:
        """`x.shape[i]`, a static size."""
        array, index = self.visit(node.value), self.visit(parts[0])
        if array.shape is None or index.const is None or len(parts) > 1:
            return Value((), "int")
        if not -len(array.shape) <= index.const < len(array.shape):
            raise ExpressionFault("out_of_range", f"there are {len(array.shape)} axes, counted from 0", parts[0].col_offset)
        size = array.shape[index.const]
        return Value((), "int") if size is None else integer(size)

    def _index(self, part: ast.expr) -> Any:
        """A slice, an integer or array of them, None for a new axis, Ellipsis; raises where it is a real number."""
        if isinstance(part, ast.Slice):
            return slice(*(self._bound(bound) for bound in (part.lower, part.upper, part.step)))
        if isinstance(part, ast.Constant) and (part.value is None or part.value is ...):
            return "new" if part.value is None else ...
        found = self.visit(part)
        if found.kind == "real":
            raise ExpressionFault(
                "wrong_type", "an index must be an integer; declare the data as int, or use // in place of /", part.col_offset
            )
        return None if found.kind in ("bool", None) or found.shape is None else replace(found)

    def _bound(self, node: ast.expr | None) -> int | Value | None:
        """A static bound of a slice, None where there is none, an unknown value where it is not known."""
        if node is None or (isinstance(node, ast.Constant) and node.value is None):
            return None
        found = self.visit(node)
        if found.kind == "real":
            raise ExpressionFault("wrong_type", "a slice goes from and to integers", node.col_offset)
        return UNKNOWN if found.const is None else found.const

    def _taken(self, node: ast.Subscript, shape: Shape, found: list[Any], taken: int) -> Shape | None:
        """The shape of what the indices leave."""
        axes = list(shape)
        result: list[int | None] = []
        arrays: list[tuple[int, Shape]] = []
        for index in [*found, *([] if ... in found else [...])]:
            if index is ...:
                rest = len(shape) - taken
                result += axes[:rest]
                del axes[:rest]
            elif index == "new":
                result.append(1)
            elif isinstance(index, slice):
                result.append(_sliced(axes.pop(0), cast("slice[Any, Any, Any]", index)))
            else:
                self._check_index(node, index, axes.pop(0))
                if index.shape:
                    arrays.append((len(result), index.shape))
        if len(arrays) > 1:
            return None
        for place, inserted in arrays:
            result[place:place] = inserted
        return tuple(result)

    def _check_index(self, node: ast.Subscript, index: Value, size: int | None) -> None:
        if size is None:
            return
        if index.high >= size and math.isfinite(index.high):
            start = "; indices count from 0, so where yours count from 1 subtract 1" if index.high == size else ""
            detail = f"index {int(index.high)} is beyond the last element {size - 1}{start}"
            raise ExpressionFault("out_of_range", detail, node.slice.col_offset)
        if index.low < -size and math.isfinite(index.low):
            raise ExpressionFault("out_of_range", f"index {int(index.low)} is before the first element", node.slice.col_offset)

    # -- functions -----------------------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> Value:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        function = FUNCTIONS[name]
        given = bind_arguments(node, function)
        values = {key: self._argument(value, key) for key, value in given.items() if key not in function.words}
        if name in SQUARE:
            _check_square(node, name, values["x"].shape)
        found = self._ruled(node, function, given, values)
        if function.real:
            return Value(found, "real")
        if function.rule in ("sized", "size"):
            return self._sized(name, given, values)
        kind = "bool" if name.startswith(("is", "logical", "equal", "not_", "less", "greater")) or name in ("all", "any") else None
        kept = [value for key, value in values.items() if key not in function.static and key != "condition"]
        integers = name.startswith("arg") or name == "count_nonzero"
        return Value(found, "int" if integers else kind or (_kind_of(*kept) if kept and function.rule != "other" else None))

    def _argument(self, node: ast.expr, name: str) -> Value:
        if name == "arrays" and isinstance(node, ast.List):  # these may differ in shape
            return Value(None, _kind_of(*map(self.visit, node.elts)))
        if isinstance(node, ast.Constant) and node.value is None:
            return UNKNOWN
        if isinstance(node, ast.Tuple):
            for item in node.elts:
                self.visit(item)
            return UNKNOWN
        return Value((0,)) if isinstance(node, ast.List) and not node.elts else self.visit(node)

    def _ruled(
        self, node: ast.Call, function: Function, given: Mapping[str, ast.expr], values: Mapping[str, Value]
    ) -> Shape | None:
        if function.rule == "elementwise":
            return self._together(node, *values.values())
        if function.rule == "reduction":
            return self._reduced(given, values)
        if function.rule == "same":
            flattens = isinstance(node.func, ast.Name) and node.func.id.startswith("cum") and "axis" not in given
            return None if flattens and len(values["x"].shape or (1, 1)) > 1 else values["x"].shape
        if function.rule == "shaped":
            return self._shaped(given["shape"])
        return self._joined(node, given) if function.rule == "join" else None

    def _reduced(self, given: Mapping[str, ast.expr], values: Mapping[str, Value]) -> Shape | None:
        shape, keeps = values["x"].shape, given.get("keepdims")
        if shape is None or (keeps is not None and not isinstance(keeps, ast.Constant)):
            return None
        kept = isinstance(keeps, ast.Constant) and bool(keeps.value)
        axes = self._axes(given.get("axis"), shape)
        if axes is None:
            return None
        whole = [size if at not in axes else 1 for at, size in enumerate(shape)]
        return tuple(size for at, size in enumerate(whole) if kept or at not in axes)

    def _axes(self, node: ast.expr | None, shape: Shape) -> set[int] | None:
        """The axes that an argument names, counted from the first; None where they are not known."""
        if node is None or (isinstance(node, ast.Constant) and node.value is None):
            return set(range(len(shape)))
        parts = node.elts if isinstance(node, ast.Tuple | ast.List) else [node]
        found = [self.visit(part).const for part in parts]
        for part, axis in zip(parts, found, strict=True):
            if axis is not None and not -len(shape) <= axis < len(shape):
                detail = f"there is no axis {axis}: the array has shape {told(shape)}, and axes count from 0"
                raise ExpressionFault("out_of_range", detail, part.col_offset)
        return None if None in found else {axis % len(shape) for axis in found if axis is not None}

    def _shaped(self, node: ast.expr) -> Shape | None:
        parts = node.elts if isinstance(node, ast.Tuple | ast.List) else [node]
        found = [self.visit(part) for part in parts]
        for part, value in zip(parts, found, strict=True):
            if value.const is not None and value.const < 0:
                raise ExpressionFault("out_of_range", "a size must not be negative", part.col_offset)
        one = not isinstance(node, ast.Tuple | ast.List) and found[0].const is None
        return None if one else tuple(value.const for value in found)

    def _joined(self, node: ast.Call, given: Mapping[str, ast.expr]) -> Shape | None:
        """Arrays in a list that are put one behind the other along the first axis, or stacked."""
        listed = given["arrays"]
        if not isinstance(listed, ast.List) or "axis" in given or not isinstance(node.func, ast.Name):
            return None
        if node.func.id == "stack":
            return self._list(listed).shape
        shapes = [self.visit(item).shape for item in listed.elts]
        if any(shape is None or len(shape) == 0 for shape in shapes):
            return None
        lengths = [shape[0] for shape in shapes if shape]
        total = None if None in lengths else sum(length for length in lengths if length is not None)
        return (total, *(shapes[0] or ())[1:])

    def _sized(self, name: str, given: Mapping[str, ast.expr], values: Mapping[str, Value]) -> Value:
        """Static sizes, and ranges of integers."""
        if name == "arange":
            return self._range(values)
        shape = values["x"].shape
        axis = values["axis"].const if "axis" in given else None
        if shape is None or ("axis" in given and (axis is None or not -len(shape) <= axis < len(shape))):
            return Value((), "int")
        picked = shape if name == "size" and axis is None else (shape[axis or 0],) if shape else (None,)
        return Value((), "int") if None in picked else integer(math.prod(size or 0 for size in picked))

    def _range(self, values: Mapping[str, Value]) -> Value:
        bounds = [values[name].const for name in ("n", "m", "k") if name in values]
        kind = "int" if all(value.kind == "int" for value in values.values()) else None
        if None in bounds or bounds[2:] == [0]:
            return Value((None,), kind)
        numbers = range(*[bound for bound in bounds if bound is not None])
        low, high = (min(numbers[0], numbers[-1]), max(numbers[0], numbers[-1])) if numbers else (math.inf, -math.inf)
        return Value((len(numbers),), kind, None, low, high)

    def _together(self, node: ast.expr, *parts: Value) -> Shape | None:
        shape: Shape | None = ()
        try:
            for part in parts:
                shape = broadcast(shape, part.shape)
        except ValueError as error:
            raise ExpressionFault("wrong_shape", str(error), _end(node)) from None
        return shape


def _check_square(node: ast.expr, name: str, shape: Shape | None) -> None:
    if shape is not None and (len(shape) < 2 or (None not in shape[-2:] and shape[-2] != shape[-1])):
        hint = ": write 1 / x for numbers" if name == "inv" else ""
        raise ExpressionFault(
            "wrong_shape", f"{name} takes a square matrix, and this has shape {told(shape)}{hint}", node.col_offset
        )


def _end(node: ast.expr) -> int:
    """Where the operator of a binary operation is about; the place of any other node."""
    return node.col_offset


def _kind_of(*values: Value) -> str | None:
    """The kind of values combined."""
    kinds = {value.kind for value in values}
    if "real" in kinds:
        return "real"
    return None if None in kinds else "int" if "int" in kinds else "bool"


def _arithmetic(operator: ast.operator, left: Value, right: Value) -> Value:
    """Integers combined: which, and between which bounds."""
    const = _static(operator, left.const, right.const)
    if const is not None:
        return integer(const)
    if isinstance(operator, ast.Add):
        return Value(None, "int", None, left.low + right.low, left.high + right.high)
    if isinstance(operator, ast.Sub):
        return Value(None, "int", None, left.low - right.high, left.high - right.low)
    return Value(None, None if isinstance(operator, ast.Pow) else "int")


def _static(operator: ast.operator, left: int | None, right: int | None) -> int | None:
    """Two static integers combined; None where they are not known, or the result is too large to be a size."""
    if left is None or right is None or max(abs(left), abs(right)) > 2**53:
        return None
    if isinstance(operator, ast.FloorDiv | ast.Mod):
        return None if right == 0 else left // right if isinstance(operator, ast.FloorDiv) else left % right
    if isinstance(operator, ast.Pow):
        return left**right if 0 <= right <= 60 and abs(left) <= 2**8 and left**right <= 2**53 else None
    results: dict[type, int] = {ast.Add: left + right, ast.Sub: left - right, ast.Mult: left * right}
    found = results.get(type(operator))
    return found if found is not None and abs(found) <= 2**53 else None


def _sliced(size: int | None, index: slice[Any, Any, Any]) -> int | None:
    bounds: list[Any] = [index.start, index.stop, index.step]
    if size is None or any(isinstance(bound, Value) for bound in bounds) or index.step == 0:
        return None
    return len(range(size)[index])
