"""A program read from JSON: data that it declares, and statements. Everything that is wrong is told at once, with pointers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.errors import Issue
from jobs.spec.pointers import join, nearest, quoted
from jobs.spec.program.declarations import Declarations
from jobs.spec.program.distributions import is_discrete, read_distribution, read_form
from jobs.spec.program.reach import adrift
from jobs.spec.program.reading import Reading, is_label
from jobs.spec.strict import as_list, as_object

Statement = dict[str, Any]
Fields = Mapping[str, tuple[bool, Any]]
"""Of a statement: what may stand beside its first field, whether it must, and what it is where it is left out."""
_DENSITY: Fields = {
    "value": (False, None), "log_prob": (False, None), "cdf": (False, None), "icdf": (False, None), "at": (False, None),
}  # fmt: skip
FIELDS: Mapping[str, Fields] = {
    "sample": {"distribution": (True, None), "observed": (False, None), "shape": (False, None), "constraint": (False, None)},
    "let": _DENSITY,
    "deterministic": _DENSITY,
    "factor": {"value": (False, None), "log_prob": (False, None), "at": (False, None)},
    "plate": {
        "size": (True, None), "dim": (False, None), "subsample_size": (False, None), "index": (False, None), "body": (True, None),
    },
    "scan": {
        "over": (False, {}), "length": (False, None), "reverse": (False, False), "body": (False, []), "next": (True, None),
        "stack": (False, {}),
    },
    "ode": {
        "derivative": (True, None), "times": (True, None), "time": (False, "t"), "start": (False, 0.0), "body": (False, []),
        "solver": (False, "dopri5"), "steps": (False, 10), "rtol": (False, None), "atol": (False, None), "max_steps": (False,
        10_000),
    },
}  # fmt: skip
SOLVERS = ("dopri5", "rk4")
EXAMPLES = {
    "sample": '{"sample": "mu", "distribution": {"type": "Normal", "loc": 0, "scale": 1}}',
    "let": '{"let": "mu", "value": "alpha + beta * x"}',
    "deterministic": '{"deterministic": "effect", "value": "mu * tau"}',
    "factor": '{"factor": "prior", "value": "-log(sigma)"}',
    "plate": '{"plate": "schools", "size": "J", "body": […]}',
    "scan": '{"scan": {"s": 0}, "over": {"y_t": "y"}, "next": {"s": "0.9 * s + y_t"}, "stack": {"path": "s"}}',
    "ode": '{"ode": {"u": 1}, "derivative": {"u": "-rate * u"}, "times": "ts"}',
}
MOST_STATEMENTS = 2_000
DEEPEST_BODY = 8


def kind_of(statement: Mapping[str, Any]) -> str:
    """What a sound statement does: its first field as it was written, though the order of fields means nothing."""
    return next(kind for kind in FIELDS if kind in statement)


@dataclass(frozen=True)
class Program:
    """A program that has been read.

    Attributes:
        model: as a resolved spec holds it: every field of every statement present.
        implied: of a program that declares no data, the names that must be data, with where each is spoken of first.
        unused: declared data that no statement speaks of.
        unseen: latent sites with a flat prior that no observation depends on, with their pointers.
    """

    model: dict[str, Any]
    implied: Mapping[str, tuple[str, int]]
    unused: list[str]
    unseen: Mapping[str, str]


def read_program(model: Mapping[str, Any], pointer: str = "/model") -> tuple[Program, list[Issue]]:
    """Read a program.

    Args:
        model: `{"type": "program", "data": …, "body": …}`, its fields being any JSON.
        pointer: where it stands.
    """
    reading = Reading(declares=model.get("data") is not None)
    declared = Declarations(reading).read(model.get("data"), join(pointer, "data"))
    statements = _Statements(reading)
    body = statements.read_body(model.get("body"), join(pointer, "body"))
    if not reading.issues and not statements.counts:
        detail = "has nothing to sample: add a sample statement without observed"
        reading.fault(join(pointer, "body"), "no_parameters", detail)
    resolved = {"type": "program", "data": declared, "body": body}
    unused = [name for name in declared or {} if name not in reading.used]
    unseen = {} if reading.issues else adrift(resolved, pointer)
    return Program(resolved, reading.implied, unused, unseen), reading.issues


def discrete_sites(model: Mapping[str, Any], pointer: str = "/model") -> Iterator[tuple[str, str]]:
    """The latent sites of a normalised program whose values are integers, with their pointers."""
    yield from _discrete_in(model["body"], join(pointer, "body"))


def _discrete_in(body: list[Statement], pointer: str) -> Iterator[tuple[str, str]]:
    for at, statement in enumerate(body):
        if "sample" in statement and statement["observed"] is None and is_discrete(statement["distribution"]):
            yield statement["sample"], join(pointer, at, "distribution")
        elif "plate" in statement:
            yield from _discrete_in(statement["body"], join(pointer, at, "body"))


class _Statements:
    """The statements of a program, in order."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.sites: dict[str, str] = {}
        self.counts = 0
        self._readers: Mapping[str, Callable[[Statement, str, int], Statement]] = {
            "sample": self._sample, "let": self._let, "deterministic": self._let, "factor": self._factor, "plate": self._plate,
            "scan": self._scan, "ode": self._ode,
        }  # fmt: skip

    def read_body(self, value: Any, pointer: str, depth: int = 0, legal: tuple[str, ...] = tuple(FIELDS)) -> list[Statement]:
        """All statements of a list; `legal` are the kinds that may stand in it."""
        items = as_list(value)
        if items is None or len(items) > MOST_STATEMENTS:
            detail = f"must be an array of at most {MOST_STATEMENTS} statements, such as {EXAMPLES['sample']}"
            self.reading.fault(pointer, "wrong_type", detail)
            return []
        if depth > DEEPEST_BODY:
            self.reading.fault(pointer, "too_deep", f"statements stand at most {DEEPEST_BODY} deep in one another")
            return []
        return [self._statement(item, join(pointer, at), depth, legal) for at, item in enumerate(items)]

    def _statement(self, value: Any, pointer: str, depth: int, legal: tuple[str, ...]) -> Statement:
        found = as_object(value)
        kinds = [kind for kind in FIELDS if found is not None and kind in found]
        if found is None or len(kinds) != 1:
            code = "wrong_type" if found is None else ("conflict" if kinds else "missing")
            detail = f"must be a statement with one of the fields {', '.join(legal)}, such as {EXAMPLES[legal[0]]}"
            self.reading.fault(pointer, code, detail)
            return {}
        if not self.reading.count(pointer):
            return {}
        kind = kinds[0]
        if kind not in legal:
            detail = f"a {kind} statement cannot stand here, where only {', '.join(legal)} may"
            self.reading.fault(join(pointer, kind), "not_allowed", detail)
            return {}
        return self._readers[kind](self._filled(kind, found, pointer), pointer, depth)

    def _filled(self, kind: str, found: Statement, pointer: str) -> Statement:
        """The statement with every field present."""
        fields = FIELDS[kind]
        for at, name in enumerate(name for name in found if name != kind and name not in fields):
            detail = f"unknown field {quoted(name)} of a {kind} statement; {nearest(name, fields, before=at)}"
            self.reading.fault(join(pointer, name), "unknown_field", detail)
        for name, (required, _) in fields.items():
            if required and name not in found:
                self.reading.fault(join(pointer, name), "missing", f"is required: {EXAMPLES[kind]}")
        return {kind: found[kind], **{name: found.get(name, default) for name, (_, default) in fields.items()}}

    # -- sites ---------------------------------------------------------------------------------------------------------------

    def _sample(self, found: Statement, pointer: str, _depth: int) -> Statement:
        reading, where = self.reading, join(pointer, "sample")
        if found["distribution"] is not None:
            found["distribution"] = read_distribution(reading, found["distribution"], join(pointer, "distribution"))
        if found["shape"] is not None:
            found["shape"] = self._sizes(found["shape"], join(pointer, "shape"))
        if found["constraint"] is not None:
            found["constraint"] = self._constraint(found, join(pointer, "constraint"))
        if found["observed"] is not None:
            reading.value(found["observed"], join(pointer, "observed"))
        else:
            self.counts += 1
        name = self._site(found["sample"], where)
        if name is not None:
            self._defined(name, found, where)
        return found

    def _defined(self, name: str, found: Statement, where: str) -> None:
        """Take a site's name into scope: an observed one may bear that of the data, which goes on meaning the data."""
        reading = self.reading
        if found["observed"] is None:
            reading.define(name, where)
        elif name not in reading.defined:
            reading.defined[name] = where
        elif found["observed"] != name and reading.defined[name] != f"/model/data/{name}":
            reading.fault(where, "duplicate_name", f"{quoted(name)} is there already, at {reading.defined[name]}; choose another")

    def _constraint(self, found: Statement, pointer: str) -> Statement:
        if found["observed"] is not None:
            detail = "an observed value is where it is: leave the constraint out, or truncate the distribution"
            self.reading.fault(pointer, "conflict", detail)
        return read_form(self.reading, found["constraint"], pointer, "constraint")

    def _site(self, name: Any, pointer: str) -> str | None:
        """A name that no other site has; None once the fault is told."""
        sound = self.reading.name(name, pointer)
        return None if sound is None else self._take(sound, pointer)

    def _take(self, name: str, pointer: str) -> str | None:
        if name in self.sites:
            detail = f"two sites are called {quoted(name)}, the other at {self.sites[name]}: give each a name of its own"
            self.reading.fault(pointer, "duplicate_site", detail)
            return None
        self.sites[name] = pointer
        return name

    def _let(self, found: Statement, pointer: str, _depth: int) -> Statement:
        kind = kind_of(found)
        self._formula(found, pointer, ("value", "log_prob", "cdf", "icdf"))
        where = join(pointer, kind)
        if kind == "deterministic" and is_label(found[kind]):
            self._take(found[kind], where)
            return found
        name = found["let"] if kind == "let" else self._site(found[kind], where)
        if name is not None or kind == "let":
            self.reading.define(name, where)
        return found

    def _factor(self, found: Statement, pointer: str, _depth: int) -> Statement:
        self._formula(found, pointer, ("value", "log_prob"))
        self._site(found["factor"], join(pointer, "factor"))
        return found

    def _formula(self, found: Statement, pointer: str, choice: tuple[str, ...]) -> None:
        """A value, or the density (or the like) of a distribution at a value."""
        given = [name for name in choice if found.get(name) is not None]
        if len(given) != 1:
            code = "conflict" if given else "missing"
            self.reading.fault(pointer, code, f"give one of {', '.join(choice)}, as in {EXAMPLES['let']}")
            return
        if given[0] == "value":
            self.reading.value(found["value"], join(pointer, "value"))
            if found["at"] is not None:
                self.reading.fault(join(pointer, "at"), "conflict", "stands beside log_prob, cdf or icdf alone; leave it out")
            return
        found[given[0]] = read_distribution(self.reading, found[given[0]], join(pointer, given[0]))
        if found["at"] is None:
            self.reading.fault(join(pointer, "at"), "missing", f"is required: where {given[0]} is taken")
        else:
            self.reading.value(found["at"], join(pointer, "at"))

    def _sizes(self, value: Any, pointer: str) -> list[Any]:
        items = as_list(value)
        if items is None or len(items) > 8:
            self.reading.fault(pointer, "wrong_type", 'must be an array of at most 8 sizes, such as ["K"]')
            return []
        return [self.reading.size(item, join(pointer, at)) for at, item in enumerate(items)]

    # -- statements that hold others -----------------------------------------------------------------------------------------

    def _plate(self, found: Statement, pointer: str, depth: int) -> Statement:
        reading = self.reading
        self._site(found["plate"], join(pointer, "plate"))
        if found["size"] is not None:
            reading.size(found["size"], join(pointer, "size"))
        if found["subsample_size"] is not None:
            reading.size(found["subsample_size"], join(pointer, "subsample_size"))
        dim = found["dim"]
        if dim is not None and (isinstance(dim, bool) or not isinstance(dim, int) or not -8 <= dim <= -1):
            reading.fault(join(pointer, "dim"), "out_of_range", "must be an axis from -8 to -1, or null")
        if found["index"] is not None:
            reading.define(found["index"], join(pointer, "index"))
        if found["body"] is not None:
            found["body"] = self.read_body(found["body"], join(pointer, "body"), depth + 1)
        return found

    def _scan(self, found: Statement, pointer: str, depth: int) -> Statement:
        reading = self.reading
        outside = dict(reading.defined)
        carry = self._formulas(found["scan"], join(pointer, "scan"))
        over = self._formulas(found["over"], join(pointer, "over"))
        if found["length"] is not None:
            reading.size(found["length"], join(pointer, "length"))
        elif not over:
            reading.fault(join(pointer, "length"), "missing", "is required where there is nothing to go over: how many steps")
        if not isinstance(found["reverse"], bool):
            reading.fault(join(pointer, "reverse"), "wrong_type", "must be true or false")
        for name, place in [*((name, "scan") for name in carry), *((name, "over") for name in over)]:
            reading.define(name, join(pointer, place, name))
        found["body"] = self.read_body(found["body"], join(pointer, "body"), depth + 1, ("let", "scan", "ode"))
        self._same(self._formulas(found["next"], join(pointer, "next")), carry, join(pointer, "next"), "scan")
        stacked = self._formulas(found["stack"], join(pointer, "stack"))
        reading.defined = outside
        for name, place in [*((name, "scan") for name in carry), *((name, "stack") for name in stacked)]:
            reading.define(name, join(pointer, place, name))
        return found

    def _ode(self, found: Statement, pointer: str, depth: int) -> Statement:
        reading = self.reading
        outside = dict(reading.defined)
        state = self._formulas(found["ode"], join(pointer, "ode"))
        if found["times"] is not None:
            reading.value(found["times"], join(pointer, "times"))
        reading.value(found["start"], join(pointer, "start"))
        reading.define(found["time"], join(pointer, "time"))
        for name in state:
            reading.define(name, join(pointer, "ode", name))
        found["body"] = self.read_body(found["body"], join(pointer, "body"), depth + 1, ("let",))
        self._same(self._formulas(found["derivative"], join(pointer, "derivative")), state, join(pointer, "derivative"), "ode")
        reading.defined = outside
        for name in state:
            reading.define(name, join(pointer, "ode", name))
        self._solver(found, pointer)
        return found

    def _solver(self, found: Statement, pointer: str) -> None:
        if found["solver"] not in SOLVERS:
            self.reading.fault(join(pointer, "solver"), "unknown_value", 'must be "dopri5" or "rk4"')
        for name, most in (("steps", 10_000), ("max_steps", 1_000_000)):
            count = found[name]
            if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= most:
                self.reading.fault(join(pointer, name), "out_of_range", f"must be an integer from 1 to {most}")
        for name in ("rtol", "atol"):
            bound = found[name]
            if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int | float) or not 0 < bound < 1):
                self.reading.fault(join(pointer, name), "out_of_range", "must be a number between 0 and 1, or null")

    def _formulas(self, value: Any, pointer: str) -> dict[str, Any]:
        """An object of values by name; the names are not yet in scope."""
        found = as_object(value)
        if found is None:
            if value is not None:
                self.reading.fault(pointer, "wrong_type", 'must be an object of expressions by name, such as {"s": "0.5 * s"}')
            return {}
        for name, item in found.items():
            if self.reading.name(name, join(pointer, name)) is not None:
                self.reading.value(item, join(pointer, name))
        return found

    def _same(self, found: Mapping[str, Any], wanted: Mapping[str, Any], pointer: str, kind: str) -> None:
        """Every name of one object has a value in the other, and no other has."""
        for name in wanted:
            if name not in found:
                self.reading.fault(join(pointer, name), "missing", f"is required, for {kind} has it")
        for name in found:
            if name not in wanted:
                detail = f"{quoted(name)} is not among the names of {kind}; {nearest(name, wanted)}"
                self.reading.fault(join(pointer, name), "unknown_name", detail)
        if not wanted:
            self.reading.fault(pointer.rsplit("/", 1)[0] + f"/{kind}", "missing", f"must hold at least one name: {EXAMPLES[kind]}")
