"""From terms to the columns of a design matrix: which categorical factors have a column for every level, and which for all but one.

A categorical factor's columns span the constant, too. A term therefore brings only what no term before it has brought, and the
columns of a formula are linearly independent wherever those of its data are.

Source: the rule of patsy (Smith, "Coding categorical data", 2011), which mends that of Chambers and Hastie (1992) for interactions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from jobs.spec.glm.expressions import Factor

Level = str | int | float
Levels = Mapping[str, Sequence[Level]]
Part = tuple[str, bool]
"""A categorical factor, and whether all of its levels have a column."""


@dataclass(frozen=True)
class Column:
    """A column of a design matrix: the product of its parts.

    Attributes:
        name: as in the field's packages: `x`, `g[T.b]`, `x:g[T.b]`, `Intercept`.
        numeric: factors that are multiplied.
        levels: the variable and the level of each indicator.
    """

    name: str
    numeric: tuple[str, ...] = ()
    levels: tuple[tuple[str, Level], ...] = ()


INTERCEPT = Column("Intercept")


def shown(level: Level) -> str:
    """A level as it stands in a column's name."""
    return str(int(level)) if isinstance(level, float) and level.is_integer() else str(level)


def code(terms: Sequence[tuple[str, ...]], factors: Mapping[str, Factor], levels: Levels) -> list[Column]:
    """The columns of all terms, in order.

    Args:
        terms: by how many factors they have.
        factors: by canonical name.
        levels: of every variable that is categorical.
    """
    used: dict[frozenset[str], set[frozenset[str]]] = {}
    found: list[Column] = []
    for term in terms:
        categorical = [name for name in term if is_categorical(factors[name], levels)]
        numeric = frozenset(term) - frozenset(categorical)
        for parts in _parts(categorical, used.setdefault(numeric, set())):
            found += _columns(term, dict(parts), factors, levels)
    return found


def is_categorical(factor: Factor, levels: Levels) -> bool:
    """Whether a factor is an indicator of levels: `C(x)`, or a column of texts. In `x + C(x)` the numbers stay numbers."""
    return factor.categorical or (factor.plain and isinstance(next(iter(levels.get(next(iter(factor.variables)), ())), None), str))


def _parts(categorical: Sequence[str], used: set[frozenset[str]]) -> list[tuple[Part, ...]]:
    """How a term's categorical factors are coded. What the term brings is noted in `used`."""
    every = [subset for size in range(len(categorical) + 1) for subset in combinations(categorical, size)]
    fresh: list[tuple[Part, ...]] = [tuple((name, False) for name in subset) for subset in every if frozenset(subset) not in used]
    used.update(frozenset(subset) for subset in every)
    while (merged := _merged(fresh)) is not None:
        fresh = merged
    return fresh


def _merged(parts: list[tuple[Part, ...]]) -> list[tuple[Part, ...]] | None:
    """Two parts as one: what a factor spans against its reference, and the constant, are all of its levels."""
    for at, short in enumerate(parts):
        for later in range(at + 1, len(parts)):
            extra = [part for part in parts[later] if part not in short]
            if len(extra) == 1 and not extra[0][1] and set(short) == set(parts[later]) - set(extra):
                whole = tuple((name, full or (name, full) == extra[0]) for name, full in parts[later])
                return [*parts[:at], *parts[at + 1 : later], whole, *parts[later + 1 :]]
    return None


def _columns(term: Sequence[str], coded: Mapping[str, bool], factors: Mapping[str, Factor], levels: Levels) -> list[Column]:
    """The columns of one part of a term; the first factor's level changes fastest."""
    inside = [name for name in term if name in coded or not is_categorical(factors[name], levels)]
    choices = [_levels(factors[name], levels, full=coded[name]) if name in coded else [None] for name in inside]
    found: list[Column] = []
    for backwards in product(*reversed(choices)):
        chosen = list(zip(inside, reversed(backwards), strict=True))
        names = [name if level is None else f"{name}[{'' if coded[name] else 'T.'}{shown(level)}]" for name, level in chosen]
        numeric = tuple(name for name, level in chosen if level is None)
        marks = tuple((next(iter(factors[name].variables)), level) for name, level in chosen if level is not None)
        found.append(Column(":".join(names) or INTERCEPT.name, numeric, marks))
    return found


def _levels(factor: Factor, levels: Levels, *, full: bool) -> list[Level]:
    """The levels that have a column: all, or all but the one that is compared with."""
    every = list(levels[next(iter(factor.variables))])
    if full:
        return every
    reference = every[0] if factor.reference is None else factor.reference
    return [level for level in every if level != reference]
