"""Expressions nobody would write: each gives a value or a fault with a column, and shapes are what was foretold without NumPy.

`MESHYARD_EXPRESSIONS=20000` parses so many, and evaluates one in forty.
"""

from __future__ import annotations

import ast
import itertools
import os
import random
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jobs.errors import UserFault
from jobs.programs.models.program_expressions import CODE, evaluate
from jobs.spec.program.expressions import ATTRIBUTES, ExpressionFault, parse
from jobs.spec.program.functions import FUNCTIONS
from jobs.spec.program.shapes import follow
from jobs.spec.program.values import Value, integer

# ruff: noqa: E501  (tables of short texts)
POINTER = "/model/body/0/value"
COUNT = int(os.environ.get("MESHYARD_EXPRESSIONS", "2000"))
EVALUATED = max(60, COUNT // 40)
SCOPE = {
    "N": 5, "K": 2, "y": jnp.linspace(0.5, 2.5, 5), "x": jnp.arange(10.0).reshape(5, 2) / 7, "g": np.array([0, 1, 2, 0, 1]),
    "alpha": jnp.float32(0.3), "beta": jnp.array([0.2, -0.4]), "m": jnp.array([[2.0, 0.5], [0.5, 1.0]]),
}  # fmt: skip
KNOWN = {
    "N": integer(5), "K": integer(2), "y": Value((5,), "real"), "x": Value((5, 2), "real"), "g": Value((5,), "int", None, 0, 2),
    "alpha": Value((), "real"), "beta": Value((2,), "real"), "m": Value((2, 2), "real"),
}  # fmt: skip
LEAVES = [
    *SCOPE,
    *SCOPE,
    "0",
    "1",
    "2",
    "3",
    "-1",
    "0.5",
    "1e300",
    "True",
    "None",
    "inf",
    "pi",
    "1000000000",
    "zz",
    "lambda",
    "'ij,j->i'",
]
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "@", "&", "|", "^", "==", "!=", "<", ">=", "and", "or", "<<", "in", "is", ":="]
HOSTILE = [
    "().__class__.__base__.__subclasses__()", "__import__('os').system('true')", "open('/etc/passwd')", "x.__array__()", "x.at[0].set(1)",
    "(lambda: 1)()", "[c for c in ().__class__.__mro__]", "f'{x}'", "globals()", "eval('1')", "exec('1')", "getattr(x, 'T')", "x.T.dtype",
    "9**9**9**9", "10**1000000", "zeros([100000, 100000])", "eye(10000000)", "arange(10**15)", "ones(2**40)", "repeat(x, 10**12)",
    "tile(y, [100000, 100000])", "linspace(0, 1, 10**12)", "broadcast_to(y, [10**9, 5])", "matrix_power(m, 10**9)", "diff(y, 10**9)",
    "one_hot(g, 10**10)", "bincount(g, 10**12)", "segment_sum(y, g, 10**12)", "vander(y, 10**9)", "full([10**6, 10**6], 1)", "x[10**30]",
    "y[::0]", "1 // 0", "1 % 0", "g // 0", "g % 0", "x[[[]]]", "y[()]", "roll(y, 10**18)", "einsum('" + "a" * 60 + "->a', x)", "~x", "+-+-y",
    "m @ m @ m @ m", "y[g][g][g]", "x" + "[0]" * 50, "(" * 3000, "-" * 5000 + "1", "not " * 3000 + "1", "x" + ".T" * 3000, "[" * 50 + "1" + "]" * 50,
    "a" * 9000, "1" * 5000, "0x" + "f" * 500, "1_0", "1e-400", "x if y else m", "multigammaln(3.5, 10**9)", "kron(kron(m, m), kron(m, m))",
]  # fmt: skip


def grown(chance: random.Random, depth: int = 0) -> str:
    """A random text of the grammar, or nearly so."""
    kind = chance.random()
    if depth > 4 or kind < 0.22:
        return chance.choice(LEAVES)
    inner = [grown(chance, depth + 1) for _ in range(3)]
    if kind < 0.45:
        return f"({inner[0]} {chance.choice(OPERATORS[:9] if chance.random() < 0.8 else OPERATORS)} {inner[1]})"
    if kind < 0.75:
        return called(chance, depth)
    if kind < 0.87:
        index = chance.choice(
            [inner[1], f"{inner[1]}:", f":{inner[1]}", "::-1", ":, 0", "None, :", "..., 0", f"{inner[1]}, {inner[2]}", "g"]
        )
        return f"{chance.choice(['x', 'y', 'm', inner[0]])}[{index}]"
    choices = [f"[{inner[0]}, {inner[1]}]", f"({inner[0]} if {inner[1]} else {inner[2]})", f"{inner[0]}.T", f"-{inner[0]}",
               f"{inner[0]}.shape[0]", f"(0 < {inner[0]} < {inner[1]})"]  # fmt: skip
    return chance.choice(choices)


def called(chance: random.Random, depth: int) -> str:
    name = chance.choice(list(FUNCTIONS))
    function = FUNCTIONS[name]
    count = chance.randint(function.least, len(function.names)) if chance.random() < 0.95 else chance.randint(0, 5)
    given = []
    for argument in (*function.names, *"abcde")[:count]:
        static = argument in function.static
        value = chance.choice(["0", "1", "-1", "2", "N", "[2, 3]", "True", "(0, 1)"]) if static else grown(chance, depth + 1)
        if argument == "arrays":
            value = f"[{value}, {grown(chance, depth + 1)}]"
        given.append(f"{argument}={value}" if static and given else value)
    return f"{name}({', '.join(given)})"


def mutated(chance: random.Random, text: str) -> str:
    """The same with a few characters changed."""
    letters = list(text)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(letters) + 1)
        letters[at : at + chance.randint(0, 2)] = chance.choice(
            ["(", ")", "[", "]", ".", ",", "*", "'", "\n", "é", "\x00", "__", "=", ":", "@", "1", " "]
        )
    return "".join(letters)


def texts(count: int) -> Iterator[str]:
    chance = random.Random(20_000)
    yield from HOSTILE
    for at in range(count - len(HOSTILE)):
        text = grown(chance)
        yield mutated(chance, text) if at % 2 else text


def test_a_text_is_an_expression_of_the_language_or_is_refused_at_a_column() -> None:
    kinds = {"Load", "Slice", "Tuple", "Constant", "Name", "UnaryOp", "BinOp", "BoolOp", "Compare", "IfExp", "List", "Subscript", "Attribute",
             "Call", "keyword"}  # fmt: skip
    accepted = 0
    for text in texts(COUNT):
        tree = read(text)
        if isinstance(tree, ExpressionFault):
            assert 0 <= tree.column <= len(text) + 1, text
            assert tree.detail.startswith("column "), text
            assert tree.code, text
            continue
        accepted += 1
        for node in ast.walk(tree):
            name = type(node).__name__
            assert name in kinds or isinstance(node, ast.operator | ast.unaryop | ast.cmpop | ast.boolop), text
            assert not isinstance(node, ast.Attribute) or node.attr in ATTRIBUTES, text
            assert not isinstance(node, ast.Call) or (isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS), text
    assert accepted > COUNT // 10


def read(text: str) -> ast.expr | ExpressionFault:
    try:
        return parse(text)
    except ExpressionFault as fault:
        return fault


def sound() -> list[str]:
    """Expressions that are in the language."""
    found = (text for text in texts(100 * COUNT) if not isinstance(read(text), ExpressionFault))
    return list(itertools.islice(found, EVALUATED))


def foretold(text: str) -> Value | ExpressionFault:
    try:
        return follow(parse(text), KNOWN)
    except ExpressionFault as fault:
        return fault


def computed(text: str) -> Any:
    """The value, or the fault. Shapes come first, as on a worker: they refuse what memory would not hold."""
    try:
        jax.eval_shape(lambda: jnp.asarray(evaluate(text, SCOPE, POINTER)))
        return evaluate(text, SCOPE, POINTER)
    except UserFault as fault:
        return fault


@pytest.mark.filterwarnings("ignore")
def test_an_expression_has_a_value_or_a_fault_and_its_shape_is_foretold() -> None:
    values = 0
    for text in sound():
        shape, found = foretold(text), computed(text)
        if isinstance(found, UserFault):
            assert (found.code, found.param) == (CODE, POINTER), text
            assert "column " in found.message, text
            continue
        values += 1
        assert isinstance(shape, Value), (text, shape, np.shape(found))
        assert fits(shape, np.shape(found)), (text, shape, np.shape(found))
        assert shape.const is None or shape.const == found, text
    assert values > EVALUATED // 10


def fits(known: Value, shape: tuple[int, ...]) -> bool:
    """Whether a shape is what is known of it."""
    if known.shape is None:
        return True
    return len(shape) == len(known.shape) and all(size in (None, actual) for size, actual in zip(known.shape, shape, strict=True))
