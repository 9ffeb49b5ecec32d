"""Formulas: what they make of a table, against another library; what is wrong with them, and where."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.spec.glm.coding import Column
from jobs.spec.glm.design import Frame
from jobs.spec.glm.expressions import FormulaFault, mean_and_spread
from jobs.spec.glm.formula import parse
from tests.jobs.spec.formulas import RIGHT, TABLE

PEER: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "formulas.json").read_text())["matrices"]
RESPONSE = [1.0] * 24


def _frame(formula: str, table: dict[str, Any] | None = None) -> Frame:
    frame = Frame(parse(formula), (table or TABLE) | {"y": RESPONSE})
    frame.learn_levels()
    return frame


def _matrix(formula: str) -> dict[str, list[float]]:
    frame = _frame(formula)
    return {column.name: list(frame.values(column)) for column in frame.columns()}


def _plain(name: str) -> frozenset[str]:
    """A column's parts: libraries differ in the order in which they name them."""
    return frozenset(name.split(":"))


@pytest.mark.parametrize("right", RIGHT)
def test_a_formula_makes_the_columns_that_formulaic_makes(right: str) -> None:
    ours = {_plain(name): values for name, values in _matrix(f"y ~ {right}").items()}
    theirs = {_plain(name): values for name, values in PEER[right].items()}
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        assert ours[name] == pytest.approx(values, abs=1e-8), name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x*z", "x + z + x:z"),
        ("(x + a)^2", "x + a + x:a"),
        ("a/x", "a + a:x"),
        ("a*b - a", "b + a:b"),
        ("x + x", "x"),
        ("x:z", "z:x"),
        ("-1 + x", "0 + x"),
        ("x - 1 + 1", "x"),
    ],
    ids=str,
)
def test_what_is_written_differently_and_means_the_same(one: str, other: str) -> None:
    first, second = _matrix(f"y ~ {one}"), _matrix(f"y ~ {other}")
    assert [_plain(name) for name in first] == [_plain(name) for name in second]


def test_groups_are_told_apart_from_the_population() -> None:
    formula = parse("log(y) ~ x + (1 + x | a) + (0 + z || a/b) + offset(log(x))")
    assert formula.response.name == "log(y)"
    assert formula.terms == ((), ("x",))
    assert [(group.by, group.terms, group.correlated) for group in formula.groups] == [
        (("a",), ((), ("x",)), True),
        (("a",), (("z",),), False),
        (("a", "b"), (("z",),), False),
    ]
    assert formula.offsets == ("log(x)",)
    assert formula.variables.keys() == {"y", "x", "a", "z", "b"}


def test_a_reference_level_may_be_named() -> None:
    assert list(_matrix('y ~ C(a, "q")')) == ["Intercept", "C(a, 'q')[T.p]", "C(a, 'q')[T.r]"]
    assert list(_matrix("y ~ C(k, 3)")) == ["Intercept", "C(k, 3)[T.1]", "C(k, 3)[T.2]"]


def test_a_column_of_any_name_is_put_between_backticks() -> None:
    frame = _frame("y ~ `my col` * log(`2nd`)", {"my col": TABLE["x"], "2nd": TABLE["x"]})
    assert [column.name for column in frame.columns()] == ["Intercept", "`my col`", "log(`2nd`)", "`my col`:log(`2nd`)"]
    assert frame.numeric("log(`2nd`)")[0] == pytest.approx(math.log(0.5))


def test_what_is_remembered_of_the_fitted_data_is_used_for_new_rows() -> None:
    fitted = _frame("y ~ scale(x) + a")
    fitted.numeric("scale(x)")
    new = Frame(fitted.formula, {"x": [1.0, 2.0], "a": ["r", "p"]}, fitted.levels, fitted.moments)
    mean, spread = mean_and_spread(TABLE["x"])
    assert new.numeric("scale(x)") == pytest.approx([(1 - mean) / spread, (2 - mean) / spread])
    assert list(new.values(Column("a[T.r]", (), (("a", "r"),)))) == [1.0, 0.0]
    with pytest.raises(FormulaFault, match='holds "s" in row 2'):
        Frame(fitted.formula, {"x": [1.0, 2.0], "a": ["r", "s"]}, fitted.levels, fitted.moments).check_levels()


# (formula, code, column counted from 1, part of the message)
WRONG = [
    ("y", "missing", 2, 'has no "~"'),
    ("~ x", "missing", 1, 'names nothing before "~"'),
    ("y ~", "missing", 4, "write"),
    ("y ~ x +", "syntax", 8, "ends where a term is needed"),
    ("y ~ x z", "syntax", 7, '"z" is not understood here'),
    ("y ~ (x", "syntax", 7, 'the "(" at column 5 is not closed'),
    ("y ~ x)", "syntax", 6, '")" is not understood'),
    ("y ~ log(x", "syntax", 8, "is not closed"),
    ("y ~ x $ z", "syntax", 7, "has no meaning"),
    ("y ~ x ~ z", "syntax", 7, '"~" is not understood'),
    ("y ~ 2", "syntax", 5, "only 0 and 1"),
    ("y ~ .", "syntax", 5, "name them"),
    ("y ~ x^9", "syntax", 7, "from 1 to 8"),
    ("y ~ x^z", "syntax", 7, "I(x**2)"),
    ("y ~ lgo(x)", "unknown_function", 5, 'did you mean "log"'),
    ("y ~ I(lgo(x))", "unknown_function", 7, 'did you mean "log"'),
    ("y ~ log(x, z)", "syntax", 5, "takes one argument"),
    ("y ~ I(x[0])", "not_allowed", 7, "is not allowed inside a term"),
    ("y ~ I(x.real)", "not_allowed", 7, "is not allowed"),
    ("y ~ I(x ^ 2)", "not_allowed", 7, "a power is written with **"),
    ("y ~ I(lambda: x)", "not_allowed", 7, "is not allowed"),
    ("y ~ I((x for x in z))", "not_allowed", 7, "is not allowed"),
    ("y ~ I(__import__('os'))", "unknown_function", 7, "unknown function"),
    ("y ~ C(log(x))", "syntax", 5, "C(…) takes a column"),
    ("y ~ I(C(a))", "syntax", 7, "cannot stand inside"),
    ("C(a) ~ x", "syntax", 1, "needs only its name"),
    ("y ~ class", "syntax", 5, "backticks"),
    ("y ~ `x", "syntax", 5, "has no meaning"),
    ("y ~ (1 | a) * x", "syntax", 13, 'joined by "+"'),
    ("y ~ x - (1 | a)", "syntax", 9, "cannot be taken away"),
    ("y ~ (0 | a)", "missing", 8, "(1 | g)"),
    ("y ~ (1 | log(x))", "syntax", 9, "stand columns"),
    ("y ~ ((1 | a) | b)", "syntax", 9, "cannot stand inside another"),
    ("y ~ (offset(x) | a)", "syntax", 6, "cannot vary by group"),
    ("y ~ " + "(" * 50 + "x" + ")" * 50, "too_deep", 45, "nested"),
    ("y ~ I(" + "-" * 40 + "x)", "too_deep", 37, "nested"),
    ("y ~ " + "(" + " + ".join(f"x{i}" for i in range(40)) + ")^3", "too_many", 234, "more than 500 terms"),
    ("y ~ x" + " " * 5000, "too_long", 1, "at most 5000"),
    ("y ~ log(z)", "out_of_range", 5, "is not finite in row 1"),
    ("y ~ I(x / 0)", "out_of_range", 5, "is not finite in row 1"),
    ("y ~ I(x ** 1e9)", "out_of_range", 5, "is not finite"),
    ("y ~ log(a)", "not_numeric", 9, "holds texts"),
    ('y ~ C(a, "s")', "unknown_level", 5, 'it has "p", "q", "r"'),
]


@pytest.mark.parametrize(("formula", "code", "column", "told"), WRONG, ids=[f"{i}-{row[0][:30]}" for i, row in enumerate(WRONG)])
def test_what_is_wrong_is_told_with_its_column(formula: str, code: str, column: int, told: str) -> None:
    with pytest.raises(FormulaFault) as caught:
        _matrix(formula)
    assert (caught.value.code, caught.value.column + 1) == (code, column), caught.value.detail
    assert told in caught.value.detail


PIECES = [
    "y",
    "x",
    "a",
    "~",
    "+",
    "-",
    "*",
    ":",
    "/",
    "^",
    "(",
    ")",
    "|",
    "||",
    "0",
    "1",
    "2",
    "log(",
    "I(",
    "C(",
    "`",
    "`q r`",
    "'",
    ",",
    " ",
    "\n",
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join) | st.text(max_size=40))
def test_any_text_is_a_formula_or_a_fault(text: str) -> None:
    try:
        formula = parse(f"y ~ {text}")
    except FormulaFault as caught:
        fault = caught
    else:
        assert len({frozenset(term) for term in formula.terms}) == len(formula.terms)
        return
    assert 0 <= fault.column <= len(text) + 4, fault.detail
