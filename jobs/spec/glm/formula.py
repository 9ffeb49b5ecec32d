"""Formulas of regressions, `kid_score ~ mom_hs * mom_iq + (1 + mom_iq | school)`: read into terms, never evaluated.

The grammar is that of R and of its followers in Python: `+ - : * / ^ ** ( ) 0 1`, `log(x)`, `I(x**2)`, `C(x)`, `offset(x)`, and
group-level terms `(… | g)` and `(… || g)`. The expressions inside calls are Python's, held to an allow-list (`expressions.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.spec.glm.expressions import CALLS, Factor, FormulaFault, read_factor
from jobs.spec.pointers import nearest, quoted

MOST_CHARACTERS = 5_000
MOST_TERMS = 500
DEEPEST = 40
HIGHEST_POWER = 8
_TOKEN = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_]\w*|\.|`[^`]+`)|(?P<number>\d+(?:\.\d+)?)|(?P<sign>\*\*|\|\||[-+:*/^()|~]))", re.ASCII
)

Term = tuple[str, ...]
"""Canonical names of factors, in the order in which they were written; the empty one is the intercept."""


@dataclass(frozen=True)
class Group:
    """A group-level term.

    Attributes:
        by: the variables whose combinations are the groups.
        terms: what varies by group.
        correlated: whether the effects of one group correlate.
        column: where it stands in the formula.
    """

    by: tuple[str, ...]
    terms: tuple[Term, ...]
    correlated: bool
    column: int


@dataclass(frozen=True)
class Formula:
    """A formula in terms.

    Attributes:
        response: what is modelled.
        terms: the population-level ones, the intercept first if there is one, then by how many factors they have.
        offsets: what is added to the predictor as it is.
        groups: the group-level terms.
        factors: every factor by its canonical name.
    """

    response: Factor
    terms: tuple[Term, ...]
    offsets: tuple[str, ...]
    groups: tuple[Group, ...]
    factors: dict[str, Factor]

    @property
    def variables(self) -> dict[str, int]:
        """Every variable with where it first stands."""
        found = dict(self.response.variables)
        for factor in self.factors.values():
            for name, column in factor.variables.items():
                found.setdefault(name, column)
        return found


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    column: int


def parse(text: str) -> Formula:
    """Read a formula.

    Raises:
        FormulaFault: with the column where it goes wrong.
    """
    if len(text) > MOST_CHARACTERS:
        raise FormulaFault("too_long", f"has {len(text)} characters, and at most {MOST_CHARACTERS} are read", 0)
    return _Parser(text).formula()


@dataclass
class _Sum:
    """Terms of a part of a formula, in order. Parts that hold more than plain terms cannot be multiplied."""

    terms: list[Term]
    plain: bool = True


class _Parser:
    """Recursive descent; precedence as in R: `^` before `:` before `*` and `/` before `+` and `-`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        self.factors: dict[str, Factor] = {}
        self.offsets: list[str] = []
        self.groups: list[Group] = []

    def formula(self) -> Formula:
        left, tilde, _ = self.text.partition("~")
        if not tilde:
            raise FormulaFault("missing", 'has no "~": write what is modelled before it, as in "y ~ x"', len(self.text))
        if not left.strip():
            raise FormulaFault("missing", 'names nothing before "~": what is modelled, as in "y ~ x"', 0)
        response = self._response(left)
        self.at = len(left) + 1
        if self._peek().kind == "end":
            raise FormulaFault("missing", 'has nothing behind "~": write "~ 1" for an intercept alone', self.at)
        found = self._sum(group=False)
        rest = self._peek()
        if rest.kind != "end":
            raise FormulaFault("syntax", f"{_shown(rest)} is not understood here", rest.column)
        terms = _ordered(found.terms)
        return Formula(response, terms, tuple(self.offsets), tuple(self.groups), self.factors)

    def _response(self, left: str) -> Factor:
        start = len(left) - len(left.lstrip())
        factor = read_factor(left.strip(), start)
        if factor.categorical:
            raise FormulaFault("syntax", "C(…) is for predictors: a categorical response needs only its name", start)
        return factor

    # -- tokens --------------------------------------------------------------------------------------------------------------

    def _peek(self) -> _Token:
        match = _TOKEN.match(self.text, self.at)
        if match is not None:
            kind = match.lastgroup or ""
            return _Token(kind, match[kind], match.start(kind))
        rest = len(self.text) - len(self.text[self.at :].lstrip())
        if rest >= len(self.text):
            return _Token("end", "", len(self.text))
        raise FormulaFault("syntax", f"{quoted(self.text[rest])} has no meaning in a formula", rest)

    def _next(self) -> _Token:
        token = self._peek()
        self.at = token.column + len(token.text)
        return token

    def _take(self, *signs: str) -> _Token | None:
        token = self._peek()
        return self._next() if token.kind == "sign" and token.text in signs else None

    # -- the grammar -------------------------------------------------------------------------------------------------------------

    def _sum(self, *, group: bool) -> _Sum:
        """Terms joined by + and -; there is an intercept unless it is taken away."""
        found: list[Term] = [()]
        sign = self._take("+", "-")
        removed = sign is not None and sign.text == "-"
        while True:
            found = self._joined(found, removed=removed, group=group)
            sign = self._take("+", "-")
            if sign is None:
                return _Sum(found)
            removed = sign.text == "-"

    def _joined(self, found: list[Term], *, removed: bool, group: bool) -> list[Term]:
        token = self._peek()
        if token.kind == "number":
            self._next()
            if token.text not in ("0", "1"):
                raise FormulaFault("syntax", f"{token.text} is no term: only 0 and 1 are, for the intercept", token.column)
            keep = (token.text == "1") != removed
            return list(dict.fromkeys([(), *found])) if keep else [term for term in found if term]
        before = len(self.groups), len(self.offsets)
        product = self._product(group=group)
        if removed and (len(self.groups), len(self.offsets)) != before:
            raise FormulaFault("syntax", "a group-level term or an offset cannot be taken away: leave it out", token.column)
        if removed:
            gone = {frozenset(term) for term in product.terms}
            return [term for term in found if frozenset(term) not in gone]
        return self._limited(_union(found, product.terms), token.column)

    def _product(self, *, group: bool) -> _Sum:
        found = self._interaction(group=group)
        while (sign := self._take("*", "/")) is not None:
            right = self._interaction(group=group)
            self._need_plain(found, right, sign)
            if sign.text == "*":
                found = _Sum(_union(_union(found.terms, right.terms), _crossed(found.terms, right.terms)))
            else:
                all_left = tuple(dict.fromkeys(name for term in found.terms for name in term))
                found = _Sum(_union(found.terms, _crossed([all_left], right.terms)))
            self._limited(found.terms, sign.column)
        return found

    def _interaction(self, *, group: bool) -> _Sum:
        found = self._power(group=group)
        while (sign := self._take(":")) is not None:
            right = self._power(group=group)
            self._need_plain(found, right, sign)
            found = _Sum(self._limited(_crossed(found.terms, right.terms), sign.column))
        return found

    def _power(self, *, group: bool) -> _Sum:
        found = self._atom(group=group)
        while (sign := self._take("^", "**")) is not None:
            exponent = self._next()
            if exponent.kind != "number" or not exponent.text.isdigit() or not 1 <= int(exponent.text) <= HIGHEST_POWER:
                detail = f"the power of a sum of terms is a whole number from 1 to {HIGHEST_POWER}; a square of x is I(x**2)"
                raise FormulaFault("syntax", detail, exponent.column)
            self._need_plain(found, found, sign)
            result = found.terms
            for _ in range(int(exponent.text) - 1):
                result = self._limited(_union(result, _crossed(result, found.terms)), sign.column)
            found = _Sum(result)
        return found

    def _atom(self, *, group: bool) -> _Sum:
        token = self._next()
        if token.kind == "name":
            return self._name(token, group=group)
        if token.kind == "sign" and token.text == "(":
            return self._parenthesis(token, group=group)
        if token.kind == "end":
            raise FormulaFault("syntax", "ends where a term is needed", token.column)
        raise FormulaFault(
            "syntax", f"{_shown(token)} stands where a term is needed: a column, a call such as log(x), or (…)", token.column
        )

    def _name(self, token: _Token, *, group: bool) -> _Sum:
        if token.text == ".":
            raise FormulaFault("syntax", '"." for all other columns is not known: name them', token.column)
        if not self.text.startswith("(", self.at):
            return _Sum([(self._factor(token.text, token.column),)])
        close = _closing(self.text, self.at)
        inside, whole = self.text[self.at + 1 : close], self.text[token.column : close + 1]
        first, self.at = self.at + 1, close + 1
        if token.text == "offset":
            if group:
                raise FormulaFault("syntax", "an offset cannot vary by group: put it outside", token.column)
            self.offsets.append(self._factor(inside, first))
            return _Sum([], plain=False)
        if token.text not in CALLS:
            detail = f"unknown function {quoted(token.text)}; {nearest(token.text, [*CALLS, 'offset'])}"
            raise FormulaFault("unknown_function", detail, token.column)
        return _Sum([(self._factor(whole, token.column),)])

    def _factor(self, text: str, column: int) -> str:
        factor = read_factor(text, column)
        self.factors.setdefault(factor.name, factor)
        return factor.name

    def _parenthesis(self, opening: _Token, *, group: bool) -> _Sum:
        self.depth += 1
        if self.depth > DEEPEST:
            raise FormulaFault("too_deep", f"is nested more than {DEEPEST} deep", opening.column)
        start = self.at
        found = self._inner(group=group)
        bar = self._take("|", "||")
        if bar is not None:
            if group:
                raise FormulaFault("syntax", "a group-level term cannot stand inside another", bar.column)
            self.at = start
            found = self._sum(group=True)
            self._take("|", "||")
            self._add_group(found.terms, bar, opening)
            found = _Sum([], plain=False)
        if self._take(")") is None:
            rest = self._peek()
            raise FormulaFault("syntax", f'the "(" at column {opening.column + 1} is not closed', rest.column)
        self.depth -= 1
        return found

    def _inner(self, *, group: bool) -> _Sum:
        """What stands in parentheses: a sum whose intercept is nobody's but the formula's."""
        explicit = self._sum(group=group)
        return _Sum([term for term in explicit.terms if term], explicit.plain)

    def _add_group(self, terms: list[Term], bar: _Token, opening: _Token) -> None:
        """`(terms | a/b)` is `(terms | a) + (terms | a:b)`."""
        start = self.at
        by = self._product(group=True)
        if not terms:
            raise FormulaFault("missing", 'has nothing before "|": write (1 | g) for an intercept by group', bar.column)
        for group in by.terms:
            factors = [self.factors[name] for name in group]
            if not group or not all(factor.plain for factor in factors):
                raise FormulaFault("syntax", 'behind "|" stand columns, joined by : or /', start)
            self.groups.append(Group(group, _ordered(terms), bar.text == "|", opening.column))

    def _need_plain(self, left: _Sum, right: _Sum, sign: _Token) -> None:
        if not left.plain or not right.plain:
            detail = f'a group-level term or an offset is joined by "+", not by {quoted(sign.text)}'
            raise FormulaFault("syntax", detail, sign.column)

    def _limited(self, terms: list[Term], column: int) -> list[Term]:
        if len(terms) > MOST_TERMS:
            raise FormulaFault("too_many", f"comes to more than {MOST_TERMS} terms", column)
        return terms


def _ordered(terms: Sequence[Term]) -> tuple[Term, ...]:
    """By the number of factors, as every formula language has them."""
    return tuple(sorted(terms, key=len))


def _union(left: Sequence[Term], right: Sequence[Term]) -> list[Term]:
    """All terms once; `a:b` and `b:a` are one."""
    known = {frozenset(term) for term in left}
    fresh: list[Term] = []
    for term in right:
        if frozenset(term) not in known:
            known.add(frozenset(term))
            fresh.append(term)
    return [*left, *fresh]


def _crossed(left: Sequence[Term], right: Sequence[Term]) -> list[Term]:
    return _union([], [tuple(dict.fromkeys([*one, *other])) for one in left for other in right])


def _closing(text: str, opening: int) -> int:
    """Where the parenthesis that opens here is closed; names in backticks and words in quotes aside."""
    depth, quote = 0, ""
    for at in range(opening, len(text)):
        character = text[at]
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'`":
            quote = character
        elif character in "()":
            depth += 1 if character == "(" else -1
            if depth == 0:
                return at
    raise FormulaFault("syntax", f'the "(" at column {opening + 1} is not closed', opening)


def _shown(token: _Token) -> str:
    return "the end" if token.kind == "end" else quoted(token.text)
