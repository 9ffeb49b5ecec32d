"""The language of expressions: Python's grammar of arithmetic, read as a tree and held to an allow-list. Nothing is evaluated.

A tree that `parse` returns holds only what the evaluator of `jobs.programs.models` and the shapes of `jobs.spec.program.shapes`
know: names, numbers, operators, indexing, lists, and calls of the functions in `jobs.spec.program.functions`.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Iterator
from functools import lru_cache

from jobs.errors import MeshyardError
from jobs.spec.pointers import listed, nearest, quoted
from jobs.spec.program.functions import ELSEWHERE, FUNCTIONS, Function

MOST_CHARACTERS = 10_000
MOST_NODES = 2_000
DEEPEST = 60
LARGEST_INTEGER = 2**53
LONGEST_WORD = 100
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)

BINARY = (
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.MatMult, ast.BitAnd, ast.BitOr,
)  # fmt: skip
COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)
ATTRIBUTES = ("T", "mT", "shape")
PREFIXES = {"jnp", "np", "numpy", "jax", "math", "scipy", "torch", "stats", "numpyro", "dist"}
_REFUSED = {
    "Lambda": "functions cannot be defined; write the formula where it is used",
    "ListComp": "there are no loops in an expression; use arange and broadcasting, or a scan",
    "GeneratorExp": "there are no loops in an expression; use arange and broadcasting, or a scan",
    "SetComp": "there are no loops in an expression; use arange and broadcasting, or a scan",
    "DictComp": "there are no loops in an expression; use arange and broadcasting, or a scan",
    "NamedExpr": "a name is given by a let statement of its own",
    "JoinedStr": "text has no place in an expression",
    "Dict": "only numbers and lists of them have a place in an expression",
    "Set": "only numbers and lists of them have a place in an expression; a list is written with [ and ]",
    "Starred": "* in front of an argument is not known",
    "BitXor": "a power is written with **",
    "Is": "compare with == or !=",
    "IsNot": "compare with == or !=",
    "In": "compare with == and combine with any",
    "NotIn": "compare with != and combine with all",
}


class ExpressionFault(MeshyardError):
    """An expression that is not in the language: a code, a sentence and the column (from 0) where it goes wrong."""

    def __init__(self, code: str, detail: str, column: int) -> None:
        super().__init__(detail)
        self.code, self.column = code, column
        self.detail = f"column {column + 1}: {detail}"


def parse(text: str) -> ast.expr:
    """The tree of an expression. Its columns count from 0.

    Raises:
        ExpressionFault: it is not in the language, too long, or too deep.
    """
    found = _parsed(text)
    if isinstance(found, ExpressionFault):
        raise ExpressionFault(found.code, str(found), found.column)
    return found


def names_of(tree: ast.expr) -> list[tuple[str, int]]:
    """The names that an expression speaks of, functions aside, in order, each with its column."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = [(node.id, node.col_offset) for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called]
    return sorted(found, key=lambda each: each[1])


def bind_arguments(node: ast.Call, function: Function) -> dict[str, ast.expr]:
    """The arguments of a call that `parse` has let through, by their names."""
    named = dict(zip(function.names, node.args, strict=False))
    return named | {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg is not None}


@lru_cache(maxsize=4096)
def _parsed(text: str) -> ast.expr | ExpressionFault:
    try:
        return _checked(text)
    except ExpressionFault as fault:
        return fault


def _checked(text: str) -> ast.expr:
    _check_text(text)
    flat = re.sub(r"[\t\r\n]", " ", text)
    indent = len(flat) - len(flat.lstrip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python's own about odd literals: they are refused or fine
            tree = ast.parse(flat.strip(), mode="eval").body
    except SyntaxError as error:
        column = indent + (error.offset or len(flat.strip()) + 1) - 1  # nothing is said of a text that ends too early
        raise ExpressionFault("syntax", _syntax(flat, error), min(column, len(text))) from None
    except (RecursionError, MemoryError):
        raise ExpressionFault("too_deep", f"is nested more than {DEEPEST} deep; name its parts by let statements", 0) from None
    except ValueError:
        raise ExpressionFault("syntax", "is not an expression", 0) from None
    _shift(tree, indent)
    _Check().visit(tree)
    return tree


def _check_text(text: str) -> None:
    if not text.strip():
        raise ExpressionFault("syntax", 'is empty; write an expression such as "alpha + beta * x"', 0)
    if len(text) > MOST_CHARACTERS:
        detail = f"has more than {MOST_CHARACTERS} characters; name its parts by let statements"
        raise ExpressionFault("too_long", detail, MOST_CHARACTERS)
    odd = next((at for at, letter in enumerate(text) if not (" " <= letter <= "~" or letter in "\t\r\n")), None)
    if odd is not None:
        raise ExpressionFault("syntax", "only plain ASCII characters have a place in an expression", odd)
    for sign, detail in (("#", "comments have no place in an expression"), ("\\", "is not known here"), ("`", "is not known here")):
        if sign in text:
            raise ExpressionFault("syntax", detail, text.index(sign))
    depth = 0
    for at, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if depth > DEEPEST:
            raise ExpressionFault("too_deep", f"is nested more than {DEEPEST} deep; name its parts by let statements", at)


def _syntax(text: str, error: SyntaxError) -> str:
    """What to say of a text that has no tree."""
    hints = (
        (r"\.[*/]", "* and / work element by element: write them without a dot"),
        (r"[\w\])]'", "a matrix is transposed with .T"),
        (r"<-|~", "a name is given by a statement, not inside an expression"),
        (r"(?<![=<>!])=(?!=)", "a name is given by a let statement; equality is =="),
        (r"\?.*:", "a choice is written where(condition, x, y)"),
        (r"&&|\|\|", "conditions are combined with & and |, or and / or"),
        (r"\b(lambda|is|in|if|else|for|not|and|or|def|class|import|from|as|with|del|pass|None|True|False)\b",
         "a word of the language cannot be a name"),
    )  # fmt: skip
    hint = next((words for pattern, words in hints if re.search(pattern, text)), None)
    reason = re.sub(r"\s*\(<unknown>.*", "", str(error.msg)).split(". ")[0]
    return f"{hint or 'this cannot be read: ' + reason[:80].lower()}"


def _shift(tree: ast.expr, columns: int) -> None:
    if columns:
        for node in ast.walk(tree):
            if isinstance(node, ast.expr):
                node.col_offset += columns


class _Check:
    """One walk over a tree, which refuses what the language does not have."""

    def __init__(self) -> None:
        self.nodes = 0

    def visit(self, node: ast.expr, depth: int = 0, column: int = 0) -> None:
        column = getattr(node, "col_offset", column)
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise ExpressionFault("too_long", f"has more than {MOST_NODES} parts; name some by let statements", column)
        if depth > DEEPEST:
            raise ExpressionFault("too_deep", f"is nested more than {DEEPEST} deep; name its parts by let statements", column)
        while isinstance(node, ast.BinOp):  # a sum of many terms is a long spine to the left, not a deep tree
            self._operator(node.op, BINARY, column)
            self.visit(node.right, depth + 1, column)
            node, self.nodes = node.left, self.nodes + 1
        for inner in self._parts(node, getattr(node, "col_offset", column)):
            self.visit(inner, depth + 1, column)

    def _parts(self, node: ast.expr, column: int) -> list[ast.expr]:  # noqa: C901, PLR0911  (one line for each kind of node)
        if isinstance(node, ast.Constant):
            return self._constant(node, column)
        if isinstance(node, ast.Name):
            return self._name(node.id, column)
        if isinstance(node, ast.UnaryOp):
            return [node.operand]
        if isinstance(node, ast.BoolOp):
            return node.values
        if isinstance(node, ast.Compare):
            for operator in node.ops:
                self._operator(operator, COMPARISONS, column)
            return [node.left, *node.comparators]
        if isinstance(node, ast.IfExp):
            return [node.test, node.body, node.orelse]
        if isinstance(node, ast.List):
            return self._list(node, column)
        if isinstance(node, ast.Subscript):
            return [node.value, *self._index(node)]
        if isinstance(node, ast.Attribute):
            return self._attribute(node, column)
        if isinstance(node, ast.Call):
            return self._call(node, column)
        raise ExpressionFault("not_allowed", self._refusal(node), column)

    def _constant(self, node: ast.Constant, column: int) -> list[ast.expr]:
        value = node.value
        if isinstance(value, bool):
            return []
        if isinstance(value, int) and value > LARGEST_INTEGER:
            raise ExpressionFault("out_of_range", "an integer must be at most 2^53; write it with a decimal point", column)
        if isinstance(value, float) and math.isinf(value):
            raise ExpressionFault("out_of_range", 'is too large for a number; infinity is the name "inf"', column)
        if not isinstance(value, int | float):
            kind = "text" if isinstance(value, str | bytes) else "this"
            raise ExpressionFault("not_allowed", f"{kind} has no place here: use numbers, names and lists", column)
        return []

    def _name(self, name: str, column: int) -> list[ast.expr]:
        if not NAME.fullmatch(name):
            raise ExpressionFault("too_long", "a name has at most 100 characters", column)
        return []

    def _operator(self, operator: ast.AST, legal: tuple[type, ...], column: int) -> None:
        if not isinstance(operator, legal):
            raise ExpressionFault("not_allowed", self._refusal(operator), column)

    def _list(self, node: ast.List, column: int) -> list[ast.expr]:
        if not node.elts:
            raise ExpressionFault("not_allowed", "a list must not be empty; an array of no elements is zeros(0)", column)
        return node.elts

    def _index(self, node: ast.Subscript) -> list[ast.expr]:
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        inner: list[ast.expr] = []
        for part in parts:
            if isinstance(part, ast.Slice):
                inner += [bound for bound in (part.lower, part.upper, part.step) if bound is not None and not _is_none(bound)]
            elif not (_is_none(part) or (isinstance(part, ast.Constant) and part.value is ...)):
                inner.append(part)
        return inner

    def _attribute(self, node: ast.Attribute, column: int) -> list[ast.expr]:
        if node.attr in ATTRIBUTES and not (isinstance(node.value, ast.Name) and node.value.id in PREFIXES):
            return [node.value]
        if node.attr in FUNCTIONS:
            detail = f'functions are called by their bare name: write "{node.attr}(…)"'
        else:
            detail = f"attribute {quoted(node.attr)} is not known; there are .T, .mT and .shape"
        raise ExpressionFault("not_allowed", detail, column)

    def _call(self, node: ast.Call, column: int) -> list[ast.expr]:
        if not isinstance(node.func, ast.Name):
            if isinstance(node.func, ast.Attribute):
                self._attribute_called(node.func, column)
            raise ExpressionFault("not_allowed", "only functions of the language can be called, by their names", column)
        name = node.func.id
        function = FUNCTIONS.get(name)
        if function is None:
            raise ExpressionFault("unknown_function", _explain_function(name), column)
        return list(self._arguments(node, name, function, column))

    def _attribute_called(self, node: ast.Attribute, column: int) -> None:
        if node.attr in FUNCTIONS:
            detail = f'functions are called by their bare name: write "{node.attr}(…)"'
            raise ExpressionFault("not_allowed", detail, column)

    def _arguments(self, node: ast.Call, name: str, function: Function, column: int) -> Iterator[ast.expr]:
        if len(node.args) > len(function.names):
            detail = f"{name} takes at most {len(function.names)} arguments: {', '.join(function.names)}"
            raise ExpressionFault("wrong_arguments", detail, column)
        for keyword in node.keywords:
            if keyword.arg is None:
                raise ExpressionFault("not_allowed", "** in front of an argument is not known", column)
            if keyword.arg not in function.names[len(node.args) :]:
                hint = nearest(keyword.arg, function.names)
                detail = f"{name} has no argument {quoted(keyword.arg)}, or has been given it already; {hint}"
                raise ExpressionFault("wrong_arguments", detail, keyword.value.col_offset)
        given = bind_arguments(node, function)
        missing = [argument for argument in function.names[: function.least] if argument not in given]
        if missing:
            raise ExpressionFault("wrong_arguments", f"{name} needs {listed(missing)}", column)
        for argument, value in given.items():
            yield from self._argument(argument, value, function)

    def _argument(self, argument: str, value: ast.expr, function: Function) -> list[ast.expr]:
        if argument in function.words:
            return self._word(value, function.words[argument])
        if _is_none(value) and argument in function.static:
            return []
        if isinstance(value, ast.Tuple):
            self._check_tuple(value)
            return value.elts
        if isinstance(value, ast.List) and not value.elts and argument == "shape":
            return []
        return [value]

    def _check_tuple(self, value: ast.Tuple) -> None:
        if any(isinstance(item, ast.Tuple | ast.Starred) for item in value.elts):
            raise ExpressionFault("not_allowed", "lists are written with [ and ]", value.col_offset)

    def _word(self, value: ast.expr, legal: tuple[str, ...]) -> list[ast.expr]:
        word = value.value if isinstance(value, ast.Constant) else None
        if not isinstance(word, str) or len(word) > LONGEST_WORD:
            wanted = listed(legal) if legal else 'a pattern in quotes, such as "ij,j->i"'
            raise ExpressionFault("wrong_arguments", f"must be {wanted}", value.col_offset)
        if legal and word not in legal:
            raise ExpressionFault("wrong_arguments", f"must be {listed(legal)}", value.col_offset)
        if not legal and not re.fullmatch(r"[A-Za-z, .]*(->[A-Za-z .]*)?", word):
            raise ExpressionFault("wrong_arguments", 'must be a pattern such as "ij,j->i"', value.col_offset)
        return []

    def _refusal(self, node: ast.AST) -> str:
        detail = _REFUSED.get(type(node).__name__)
        if detail is None and isinstance(node, ast.Tuple):
            detail = "a list is written with [ and ]"
        return detail or "this has no place in an expression: use numbers, names, operators, indexing, lists and functions"


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _explain_function(name: str) -> str:
    if name in ELSEWHERE:
        return f"{quoted(name)} is not known here: write {ELSEWHERE[name]}"
    if name.endswith(("cdf", "cdf_log")):
        return f'{quoted(name)} is not known here: use a let statement with "cdf"'
    if name.endswith(("_lpdf", "_lpmf", "_lupdf", "_rng", "logpdf", "logpmf")):
        return f'{quoted(name)} is not known here: use a let or factor statement with "log_prob"'
    return f"unknown function {quoted(name)}; {nearest(name, FUNCTIONS, 'docs/programs.md')}"
