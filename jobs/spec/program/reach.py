"""Which parameters the data can tell of: those that some observation or factor depends on, however far away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jobs.spec.pointers import join
from jobs.spec.program.expressions import ExpressionFault, names_of, parse
from jobs.spec.strict import as_list, as_object

_NAMES = frozenset({"sample", "let", "deterministic", "factor", "plate", "index", "time", "type", "solver"})
"""Fields that hold words rather than expressions."""


def adrift(model: Mapping[str, Any], pointer: str) -> dict[str, str]:
    """Latent sites with a flat prior that no observation and no factor depends on, with where each stands.

    Args:
        model: a normalised program.
        pointer: where the program stands.
    """
    statements = list(_flattened(model["body"], join(pointer, "body")))
    reached: set[str] = set()
    for statement, _ in statements:
        if "factor" in statement or statement.get("observed") is not None:
            reached |= set(_names(statement))
    for statement, _ in reversed(statements):  # names are defined above where they are used
        if reached & set(_given(statement)):
            reached |= set(_names(statement))
    return {
        statement["sample"]: join(where, "sample")
        for statement, where in statements
        if "sample" in statement and _is_flat(statement) and statement["sample"] not in reached
    }


def _is_flat(statement: Mapping[str, Any]) -> bool:
    return statement["observed"] is None and statement["distribution"].get("type") == "ImproperUniform"


def _flattened(body: list[Mapping[str, Any]], pointer: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    for at, statement in enumerate(body):
        if "plate" in statement:
            yield from _flattened(statement["body"], join(pointer, at, "body"))
        else:
            yield statement, join(pointer, at)


def _given(statement: Mapping[str, Any]) -> Iterator[str]:
    """The names that a statement defines."""
    for kind in ("sample", "let", "deterministic"):
        if kind in statement:
            yield statement[kind]
    for kind in ("scan", "stack", "ode"):
        yield from as_object(statement.get(kind)) or {}


def _names(value: Any) -> Iterator[str]:
    """The names that the expressions in a part of a program speak of."""
    if isinstance(value, str):
        try:
            yield from (name for name, _ in names_of(parse(value)))
        except ExpressionFault:
            return
    for name, item in (as_object(value) or {}).items():
        if name not in _NAMES:
            yield from _names(item)
    for item in as_list(value) or []:
        yield from _names(item)
