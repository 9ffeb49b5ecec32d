"""A job description on its way from a document to a resolved spec."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.errors import Issue


@dataclass
class Draft:
    """The parts of a job description that are sound so far, and all that is wrong with the others.

    Parts are the document's fields, and what follows from them: `facts` about the data, the `placement` on a mesh, the `binding` of
    columns, the `origin` to start from.
    """

    kind: str
    given: frozenset[str] = frozenset()
    """The fields that the document has; the others are defaults."""
    parts: dict[str, Any] = field(default_factory=dict[str, Any])
    issues: list[Issue] = field(default_factory=list[Issue])
    warnings: list[Issue] = field(default_factory=list[Issue])

    def add(self, name: str, found: tuple[Any, list[Issue]]) -> None:
        """Take up a part, or what is wrong with it."""
        value, issues = found
        self.issues += issues
        if issues:
            self.parts.pop(name, None)
        elif value is not None:
            self.parts[name] = value

    def has(self, *names: str) -> bool:
        """Whether these parts are sound."""
        return all(name in self.parts for name in names)


@dataclass(frozen=True)
class Check:
    """A rule between parts, applied where all of them are sound: `find` is called with the parts that `needs` names, in order."""

    needs: tuple[str, ...]
    find: Callable[..., Iterator[Issue]]

    def apply(self, parts: Mapping[str, Any]) -> list[Issue]:
        """What the rule finds; nothing where a part is missing."""
        if not all(name in parts for name in self.needs):
            return []
        return list(self.find(*(parts[name] for name in self.needs)))
