"""What a job may name: models, losses, optimizers, schedules, kernels, … with their arguments.

The file beside this one is generated out of the libraries (`python -m jobs.programs.catalog`), so that the service knows every
optimizer without importing one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any, Literal

from jobs.errors import Issue
from jobs.spec.fit import Fitted, fit_members
from jobs.spec.pointers import join, nearest, quoted
from jobs.spec.strict import as_list, as_object

SectionName = Literal[
    "models", "layers", "losses", "optimizers", "schedules", "kernels", "distributions", "datasets", "guides", "inits", "reparams"
]
Entry = Mapping[str, Any]
Named = dict[str, Any]
"""A `{"type": …, …arguments}` object of a spec."""

DEEPEST = 8
"""How deep optimizers and schedules may stand inside one another: more than any recipe needs, and no walk over them overflows."""
MOST_NAMED = 64
"""How many optimizers and schedules one section may name, nested ones included."""
MOST_LAYERS = 512
"""How many layers one model may name, nested ones included."""

_SINGULAR = {
    "optimizers": "optimizer",
    "schedules": "schedule",
    "losses": "loss",
    "models": "model",
    "kernels": "kernel",
    "layers": "layer",
    "guides": "guide",
    "inits": "start",
    "reparams": "reparameterisation",
}
_EXAMPLES = {
    "optimizers": "adamw",
    "schedules": "cosine_decay_schedule",
    "losses": "squared_error",
    "kernels": "NUTS",
    "layers": "Linear",
    "guides": "AutoNormal",
    "inits": "init_to_median",
    "reparams": "LocScaleReparam",
}
BY_NAME = ("inits",)
"""Sections whose entries may be given by their name alone."""
REFERENCES: Mapping[str, tuple[SectionName, str | None]] = {
    "#/$defs/schedule": ("schedules", None),
    "#/$defs/optimizer": ("optimizers", None),
    "#/$defs/layer": ("layers", None),
    "#/$defs/cell": ("layers", "cell"),
    "#/$defs/rnn": ("layers", "rnn"),
    "#/$defs/gradient_kernel": ("kernels", "gradient"),
    "#/$defs/init": ("inits", None),
}
"""Where what a `$ref` names is listed, and the role that it must have there."""


@dataclass(frozen=True)
class Catalog:
    """Every legal `type`, by section.

    Attributes:
        sections: entries by section and type. An entry has `type`, `doc`, `source` (where the library has it) and `schema`, the
            JSON Schema of its arguments; models, losses and kernels tell the `kinds` of job they serve.
        excluded: by section, what the libraries have and a job cannot name, with the reason.
        digest: SHA-256 over the sections; two processes with the same digest speak of the same things.
    """

    sections: Mapping[str, Mapping[str, Entry]]
    excluded: Mapping[str, Mapping[str, str]]
    digest: str

    def entry(self, section: str, name: str) -> Entry:
        """One entry. Raises KeyError where there is none."""
        return self.sections[section][name]

    def offers(self) -> list[str]:
        """Every entry as `section/type`, sorted: what a worker with these libraries can build."""
        return sorted(f"{section}/{name}" for section, entries in self.sections.items() for name in entries)

    def fit(self, section: SectionName, value: Any, pointer: str, kind: str | None = None) -> Fitted:
        """Fit a `{"type": …}` object to its entry.

        Args:
            section: where its type is to be found.
            value: any JSON value.
            pointer: where it stands in the document.
            kind: the kind of job, where only some types serve it.

        Returns: the object with the library's defaults filled in, or all its faults.
        """
        return _Fitting(self, pointer, kind).fit(section, value, pointer)


@cache
def load() -> Catalog:
    """The catalog that is committed with this version. The same object each time."""
    document = json.loads((resources.files("jobs.spec") / "catalog.json").read_text("utf-8"))
    canonical = json.dumps(document["sections"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Catalog(document["sections"], document["excluded"], hashlib.sha256(canonical.encode()).hexdigest())


def named(section: SectionName, value: Named, pointer: str) -> Iterator[tuple[SectionName, Named, str]]:
    """A fitted object and all those inside it, outermost first, each with its section and its pointer."""
    yield section, value, pointer
    schema = load().entry(section, value["type"])["schema"]
    for name, expected in schema["properties"].items():
        for inner in _references(value.get(name), expected, join(pointer, name)):
            yield from named(*inner)


def _references(value: Any, schema: Mapping[str, Any], pointer: str) -> Iterator[tuple[SectionName, Named, str]]:
    inner = as_object(value)
    if "$ref" in schema and inner is not None:
        yield REFERENCES[schema["$ref"]][0], inner, pointer
    for option in schema.get("anyOf", []):
        yield from _references(value, option, pointer)
    if "items" in schema:
        for at, item in enumerate(as_list(value) or []):
            yield from _references(item, schema["items"], join(pointer, at))
    for kind in schema.get("patternProperties", {}).values():
        for name, item in (inner or {}).items():
            yield from _references(item, kind, join(pointer, name))


@dataclass
class _Count:
    named: int = 0


@dataclass(frozen=True)
class _Fitting:
    """One walk over an object and what it names. Counts as it goes, so that a huge or deep document is refused early."""

    catalog: Catalog
    top: str
    kind: str | None
    role: str | None = None
    depth: int = 1
    count: _Count = field(default_factory=_Count)

    def fit(self, section: SectionName, value: Any, pointer: str) -> Fitted:
        self.count.named += 1
        value = {"type": value} if section in BY_NAME and isinstance(value, str) else value
        refused = self._refuse(section, value, pointer)
        if refused is not None:
            return Fitted(value, [refused])
        inner = replace(self, depth=self.depth + 1)
        arguments = {name: item for name, item in value.items() if name != "type"}
        schema = self.catalog.entry(section, value["type"])["schema"]
        fitted = fit_members(arguments, schema, pointer, inner.resolve, owner=value["type"])
        return Fitted({"type": value["type"], **fitted.value}, fitted.issues)

    def resolve(self, reference: str, value: Any, pointer: str) -> Fitted:
        """Fit what a `$ref` in an entry's schema names."""
        section, role = REFERENCES[reference]
        return replace(self, role=role).fit(section, value, pointer)

    def _refuse(self, section: SectionName, value: Any, pointer: str) -> Issue | None:
        """Why the object cannot be looked into at all."""
        noun = _SINGULAR.get(section, section)
        most = MOST_LAYERS if section in ("models", "layers") else MOST_NAMED
        if self.count.named > most:
            return Issue(self.top, "too_many", f"must name at most {most} {_plural(noun)} in all")
        if self.depth > DEEPEST:
            return Issue(pointer, "too_deep", f"is nested more than {DEEPEST} deep; put its parts into one chain")
        given = as_object(value)
        if given is None:
            example = f'{{"type": "{self._example(section)}", …}}'
            return Issue(pointer, "wrong_type", f"must be an object that names {_article(noun)}: {example}")
        return self._refuse_type(section, given, pointer, noun)

    def _refuse_type(self, section: SectionName, value: Named, pointer: str, noun: str) -> Issue | None:
        where = join(pointer, "type")
        legal = self._legal(section)
        if "type" not in value:
            example = f'GET /v1/catalog/{section} lists the {_plural(noun)}, such as "{self._example(section)}"'
            return Issue(where, "missing", f"is required; {example}")
        name = value["type"]
        if not isinstance(name, str):
            return Issue(where, "wrong_type", f"must be a string: the name of {_article(noun)}")
        if name in legal:
            return None
        return Issue(where, "unknown_type", self._explain(section, name, noun, legal))

    def _explain(self, section: SectionName, name: str, noun: str, legal: list[str]) -> str:
        reason = self.catalog.excluded.get(section, {}).get(name)
        if reason is not None:
            return f"{noun} {quoted(name)} cannot be used in a job: it {reason}"
        if name in self.catalog.sections[section] and self.role is not None:
            return f"{noun} {quoted(name)} cannot stand here; {nearest('', legal)}"
        if name in self.catalog.sections[section]:
            return f"{noun} {quoted(name)} is not for {self.kind} jobs; {nearest('', legal)}"
        return f"unknown {noun} {quoted(name)}; {nearest(name, legal, f'GET /v1/catalog/{section}')}"

    def _example(self, section: SectionName) -> str:
        legal = self._legal(section)
        return example if (example := _EXAMPLES.get(section, "")) in legal else legal[0]

    def _legal(self, section: SectionName) -> list[str]:
        entries = self.catalog.sections[section]
        return [name for name, entry in entries.items() if self._may_stand(entry)]

    def _may_stand(self, entry: Entry) -> bool:
        of_kind = self.kind is None or self.kind in entry.get("kinds", [self.kind])
        return of_kind and (self.role is None or self.role == entry.get("role"))


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
