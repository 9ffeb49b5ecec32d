"""Shapes followed through a whole program, statement by statement."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.errors import Issue
from jobs.spec.catalog import load
from jobs.spec.pointers import join
from jobs.spec.program.distributions import role_of
from jobs.spec.program.document import kind_of
from jobs.spec.program.expressions import ExpressionFault, parse
from jobs.spec.program.forms import axes_of
from jobs.spec.program.shapes import follow
from jobs.spec.program.values import REAL, UNKNOWN, Shape, Value, broadcast, told
from jobs.spec.strict import as_list, as_object

Statement = Mapping[str, Any]


def check_shapes(model: Mapping[str, Any], scope: dict[str, Value], pointer: str = "/model") -> list[Issue]:
    """Every fault of shapes that is certain.

    Args:
        model: a normalised program.
        scope: what is known of its data.
        pointer: where the program stands.
    """
    checker = _Checker(scope)
    checker.body(model["body"], join(pointer, "body"))
    return checker.issues


class _Checker:
    def __init__(self, scope: dict[str, Value]) -> None:
        self.scope = scope
        self.issues: list[Issue] = []

    def body(self, statements: list[Statement], pointer: str) -> None:
        for at, statement in enumerate(statements):
            getattr(self, f"_{kind_of(statement)}")(statement, join(pointer, at))

    def value(self, value: Any, pointer: str) -> Value:
        """What is known of a number, an expression or a list of them."""
        if isinstance(value, str):
            try:
                return follow(parse(value), self.scope)
            except ExpressionFault as fault:
                self.issues.append(Issue(pointer, fault.code, fault.detail))
                return UNKNOWN
        items = as_list(value)
        if items is None:
            return Value((), "int", value, value, value) if type(value) is int else REAL
        found = [self.value(item, join(pointer, at)) for at, item in enumerate(items)]
        shape = self._together(pointer, *(each.shape for each in found))
        kinds = {each.kind for each in found}
        return Value(None if shape is None else (len(items), *shape), kinds.pop() if len(kinds) == 1 else None)

    def size(self, value: Any, pointer: str) -> int | None:
        found = self.value(value, pointer)
        if found.kind == "real" or (found.shape is not None and found.shape != ()):
            self.issues.append(Issue(pointer, "wrong_type", "a size must be one integer, known from the data"))
        return found.const

    # -- statements ----------------------------------------------------------------------------------------------------------

    def _sample(self, statement: Statement, pointer: str) -> None:
        batch = self._distribution(statement["distribution"], join(pointer, "distribution"))
        name, observed = statement["sample"], statement["observed"]
        if statement["shape"] is not None:
            sizes = [self.size(size, join(pointer, "shape", at)) for at, size in enumerate(statement["shape"])]
            batch = self._expanded(batch, sizes, join(pointer, "shape"))
        if statement["constraint"] is not None:
            self._form(statement["constraint"], join(pointer, "constraint"))
        self._check_axes(statement, batch, pointer)
        if observed is not None:
            seen = self.value(observed, join(pointer, "observed"))
            self._check_observed(seen.shape, batch, join(pointer, "observed"))
            self.scope.setdefault(name, seen)
        else:
            self.scope[name] = Value(batch if not self.plates else None, "real")

    def _check_axes(self, statement: Statement, batch: Shape | None, pointer: str) -> None:
        """A simplex or a matrix needs axes of its own: those of the site, or of its distribution."""
        found = statement["distribution"]
        if statement["constraint"] is not None:
            constraint, where, own = statement["constraint"], join(pointer, "constraint"), batch
        elif found["type"] == "ImproperUniform":
            constraint, where = found["support"], join(pointer, "distribution", "support")
            own = tuple(found["event_shape"] or statement["shape"] or ())
        else:
            return
        wanted = axes_of(constraint)
        if wanted is not None and own is not None and len(own) < wanted:
            example = '"shape": ["K"]' if wanted == 1 else '"shape": ["K", "K"]'
            detail = f"{constraint['type']} is of values with {wanted} {'axis' if wanted == 1 else 'axes'}: give the site {example}"
            self.issues.append(Issue(where, "wrong_shape", detail))

    def _check_observed(self, seen: Shape | None, batch: Shape | None, pointer: str) -> None:
        """A column against a row would be a table of densities, which nobody means."""
        both = self._together(pointer, seen, batch, what="what is observed and its distribution: ")
        if both is None or seen is None or batch is None or None in (*both, *seen, *batch):
            return
        sizes = [math.prod(size or 0 for size in shape) for shape in (both, seen, batch)]
        if sizes[0] > max(sizes[1:]):
            detail = f"{told(seen)} is observed of a distribution of shape {told(batch)}: give both the same axes"
            self.issues.append(Issue(pointer, "wrong_shape", detail))

    plates = 0

    def _let(self, statement: Statement, pointer: str) -> None:
        self.scope[statement[kind_of(statement)]] = self._formula(statement, pointer)

    _deterministic = _let

    def _factor(self, statement: Statement, pointer: str) -> None:
        self._formula(statement, pointer)

    def _formula(self, statement: Statement, pointer: str) -> Value:
        if statement["value"] is not None:
            return self.value(statement["value"], join(pointer, "value"))
        kind = next(name for name in ("log_prob", "cdf", "icdf") if statement.get(name) is not None)
        batch = self._distribution(statement[kind], join(pointer, kind))
        at = self.value(statement["at"], join(pointer, "at"))
        return Value(self._together(join(pointer, "at"), at.shape, batch), "real")

    def _plate(self, statement: Statement, pointer: str) -> None:
        size = self.size(statement["size"], join(pointer, "size"))
        part = statement["subsample_size"]
        count = size if part is None else self.size(part, join(pointer, "subsample_size"))
        if statement["index"] is not None:
            high = float("inf") if size is None else size - 1
            self.scope[statement["index"]] = Value(None if self.plates or count is None else (count,), "int", None, 0, high)
        self.plates += 1
        self.body(statement["body"], join(pointer, "body"))
        self.plates -= 1

    def _scan(self, statement: Statement, pointer: str) -> None:
        outside = dict(self.scope)
        over = {name: self.value(value, join(pointer, "over", name)) for name, value in statement["over"].items()}
        lengths = [None if each.shape is None or not each.shape else each.shape[0] for each in over.values()]
        if statement["length"] is not None:
            lengths.append(self.size(statement["length"], join(pointer, "length")))
        known = {length for length in lengths if length is not None}
        if len(known) > 1:
            self.issues.append(
                Issue(join(pointer, "over"), "wrong_shape", f"lengths {sorted(known)} differ: all go the same steps")
            )
        steps = known.pop() if len(known) == 1 else None
        carry = {name: self.value(value, join(pointer, "scan", name)) for name, value in statement["scan"].items()}
        # A carried value may still become real, or get the axes that its next value has.
        self.scope |= {name: Value(each.shape or None, None) for name, each in carry.items()}
        self.scope |= {name: Value(each.shape[1:] if each.shape else None, each.kind) for name, each in over.items()}
        self.body(statement["body"], join(pointer, "body"))
        for name, value in statement["next"].items():
            self.value(value, join(pointer, "next", name))
        stacked = {name: self.value(value, join(pointer, "stack", name)) for name, value in statement["stack"].items()}
        self.scope = outside | dict.fromkeys(carry, UNKNOWN)
        for name, each in stacked.items():
            self.scope[name] = Value(None if each.shape is None else (steps, *each.shape), each.kind)

    def _ode(self, statement: Statement, pointer: str) -> None:
        outside = dict(self.scope)
        state = {name: self.value(value, join(pointer, "ode", name)) for name, value in statement["ode"].items()}
        times = self.value(statement["times"], join(pointer, "times"))
        if times.shape is not None and len(times.shape) != 1:
            self.issues.append(Issue(join(pointer, "times"), "wrong_shape", "must be a list of times"))
        self.value(statement["start"], join(pointer, "start"))
        self.scope |= {name: Value(each.shape, "real") for name, each in state.items()} | {statement["time"]: REAL}
        self.body(statement["body"], join(pointer, "body"))
        for name, value in statement["derivative"].items():
            self.value(value, join(pointer, "derivative", name))
        steps = None if not times.shape else times.shape[0]
        self.scope = outside | {
            name: Value(None if each.shape is None else (steps, *each.shape), "real") for name, each in state.items()
        }

    # -- distributions -------------------------------------------------------------------------------------------------------

    def _distribution(self, value: Any, pointer: str) -> Shape | None:
        """The shape of a draw, where the distribution is one of single numbers; None for any other."""
        found = as_object(value) or {}
        entry = load().entry("distributions", found["type"])
        shapes: list[Shape | None] = []
        for name, schema in entry["schema"]["properties"].items():
            shapes += self._argument(found.get(name), role_of(schema), join(pointer, name))
        for name in ("expand", "mask"):
            if found[name] is not None:
                shapes += self._argument(found[name], "value" if name == "mask" else "sizes", join(pointer, name))
        plain = entry.get("event_dim") == 0 and found["expand"] is None and found["mask"] is None
        multivariate = any("array" in str(schema) for schema in entry["schema"]["properties"].values())
        return self._together(pointer, *shapes) if plain and not multivariate and _is_plain(entry) else None

    def _argument(self, value: Any, role: str, pointer: str) -> Iterator[Shape | None]:
        if value is None or role == "choice":
            return
        if role == "value":
            yield self.value(value, pointer).shape
        elif role == "size":
            self.size(value, pointer)
        elif role == "distribution" and as_list(value) is None:
            self._distribution(value, pointer)
        elif role in ("transform", "constraint") and as_list(value) is None:
            self._form(value, pointer)
        else:
            for at, item in enumerate(as_list(value) or []):
                list(self._argument(item, role.rstrip("s"), join(pointer, at)))

    def _form(self, value: Any, pointer: str) -> None:
        """The arguments of a transform or a constraint."""
        for name, item in (as_object(value) or {}).items():
            inner = join(pointer, name)
            if as_object(item) is not None:
                self._form(item, inner)
            elif name != "type" and item is not None and not (as_list(item) and as_object(item[0]) is not None):
                self.value(item, inner) if name != "type" else None

    def _expanded(self, batch: Shape | None, sizes: list[int | None], pointer: str) -> Shape | None:
        """The shape of a site that is given: what the distribution has must fit into it."""
        if batch is None:
            return None
        wanted = tuple(sizes)
        found = self._together(pointer, batch, wanted, what="the site and its distribution: ")
        if found is not None and len(found) > len(wanted):
            self.issues.append(
                Issue(pointer, "wrong_shape", f"the distribution has shape {told(batch)}, which {told(wanted)} cannot hold")
            )
        return wanted

    def _together(self, pointer: str, *shapes: Shape | None, what: str = "") -> Shape | None:
        found: Shape | None = ()
        try:
            for shape in shapes:
                found = broadcast(found, shape)
        except ValueError as error:
            self.issues.append(Issue(pointer, "wrong_shape", f"{what}{error}"))
            return None
        return found


def _is_plain(entry: Mapping[str, Any]) -> bool:
    """Whether all arguments are numbers that broadcast against one another."""
    return all(role_of(schema) in ("value", "choice") for schema in entry["schema"]["properties"].values())
