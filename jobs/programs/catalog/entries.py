"""One line of the catalog, made from an object of a library."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.programs.catalog.arguments import Rules, read

Entry = dict[str, Any]
DOC_LENGTH = 120


@dataclass
class Section:
    """A section of the catalog: entries by type, and why others of the library are not among them."""

    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    excluded: dict[str, str] = field(default_factory=dict[str, str])
    untold: Mapping[str, str] = field(default_factory=dict[str, str])
    """A line of doc for what the library has no docstring for."""

    def add(self, source: str, found: Any, rules: Rules, skip: int = 0, **extra: Any) -> None:
        """Add the object `found`, known as `source` (`optax.adamw`), without its first `skip` parameters."""
        name = source.rsplit(".", 1)[1]
        reading = read(name, parameters_of(found)[skip:], rules)
        if reading.blocking:
            self.excluded[name] = f"needs {', '.join(reading.blocking)}, which cannot be written in JSON"
            return
        entry = {
            "type": name,
            "doc": self.untold.get(name) or first_sentence(found),
            "source": source,
            "schema": reading.schema,
            **extra,
        }
        self.entries[name] = entry | ({"left_out": reading.left_out} if reading.left_out else {})

    def sorted(self) -> Section:
        """The same section in alphabetical order."""
        return Section(dict(sorted(self.entries.items())), dict(sorted(self.excluded.items())))


def public(module: Any) -> Mapping[str, Any]:
    """The public names of a module, in order."""
    return {name: getattr(module, name) for name in sorted(dir(module)) if not name.startswith("_")}


def parameters_of(found: Any) -> list[inspect.Parameter]:
    """The parameters to build an object with; of a class, those of its constructor."""
    if not inspect.isclass(found):
        return list(inspect.signature(found).parameters.values())
    return list(inspect.signature(found.__init__).parameters.values())[1:]


def first_sentence(found: Any) -> str:
    """The first sentence of a docstring as plain text on one line, at most `DOC_LENGTH` characters; "" where there is none."""
    paragraph = (inspect.getdoc(found) or "").split("\n\n")[0]
    text = re.sub(r":\w+:`+~?([^`<]+?)(?: <[^`]*>)?`+", r"\1", " ".join(paragraph.split()))
    text = re.sub(r"`+_?", "", text).replace(":math:", "")
    text = re.split(r"(?<=[a-z0-9)])\. ", text)[0].rstrip(".:")
    return text if len(text) <= DOC_LENGTH else text[: DOC_LENGTH - 1].rsplit(" ", 1)[0] + "…"
