"""A distribution inside a program, read against the catalog: its arguments are numbers, expressions, or others of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from jobs.spec.catalog import load
from jobs.spec.fit import fit
from jobs.spec.pointers import join, nearest, quoted
from jobs.spec.program import forms
from jobs.spec.program.forms import Argument, Role
from jobs.spec.program.reading import Reading
from jobs.spec.strict import as_list, as_object

Named = dict[str, Any]
DEEPEST = 12
MODIFIERS: Mapping[str, Argument] = {
    "expand": Argument("sizes", required=False),
    "to_event": Argument("size", required=False, default=0),
    "mask": Argument("value", required=False),
}
"""What may be said of every distribution, applied in this order: a batch shape, axes of one event, elements that count."""

_ROLES: Mapping[str, Role] = {
    "#/$defs/distribution": "distribution",
    "#/$defs/transform": "transform",
    "#/$defs/constraint": "constraint",
    "#/$defs/size": "size",
    "#/$defs/expression": "value",
}
_LISTS: Mapping[Role, Role] = {
    "distribution": "distributions",
    "transform": "transforms",
    "constraint": "constraints",
    "size": "sizes",
    "value": "value",
}
_RANKED: tuple[Role, ...] = (
    "distributions", "transforms", "constraints", "sizes", "value", "distribution", "transform", "constraint", "size",
)  # fmt: skip
"""What stands for an argument that may be written in several ways: lists before what they are lists of."""
_NOUNS: Mapping[str, str] = {"distribution": "a distribution", "transform": "a transform", "constraint": "a constraint"}
_EXAMPLES = {
    "distribution": '{"type": "Normal", "loc": 0, "scale": 1}',
    "transform": '{"type": "OrderedTransform"}',
    "constraint": '{"type": "positive"}',
}


def is_discrete(value: Mapping[str, Any]) -> bool:
    """Whether a distribution's values are integers."""
    found: bool | None = load().entry("distributions", value["type"]).get("discrete")
    if found is not None:
        return found
    if value["type"] == "ImproperUniform":
        return value["support"]["type"] in forms.DISCRETE_SUPPORTS
    inner = inner_of(value)
    return inner is not None and is_discrete(inner)


def inner_of(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The distribution whose values another one's are like; None where there is none inside."""
    for name in ("base_dist", "base_distribution", "component_distribution", "component_distributions"):
        inner = value.get(name)
        if inner is not None:
            return cast("Mapping[str, Any]", inner[0] if isinstance(inner, list) else inner)
    return None


def types_in(value: Any) -> set[str]:
    """The types of all distributions in a normalised program, or in a part of it."""
    members = as_object(value)
    if members is None:
        return {name for item in as_list(value) or [] for name in types_in(item)}
    named = {str(members["type"])} if "expand" in members and "to_event" in members else set[str]()
    return named | {name for item in members.values() for name in types_in(item)}


def read_distribution(reading: Reading, value: Any, pointer: str, depth: int = 0) -> Named:
    """A distribution with every argument present; what is wrong goes to the reading's issues."""
    entries = load().sections["distributions"]
    excluded = load().excluded["distributions"]
    found = _named(reading, value, pointer, "distribution", entries, excluded, depth)
    if found is None:
        return {}
    schema = entries[found["type"]]["schema"]
    result: Named = {"type": found["type"]}
    unknown = [name for name in found if name != "type" and name not in schema["properties"] and name not in MODIFIERS]
    for at, name in enumerate(unknown):
        detail = f"{found['type']} has no argument {quoted(name)}; {nearest(name, [*schema['properties'], *MODIFIERS], before=at)}"
        reading.fault(join(pointer, name), "unknown_argument", detail)
    for name, expected in schema["properties"].items():
        inner = join(pointer, name)
        if name in found:
            result[name] = _argument(reading, found[name], expected, inner, depth)
        elif "default" in expected:
            result[name] = expected["default"]
        else:
            reading.fault(inner, "missing", f"is required by {found['type']}: {_wanted(expected)}")
    for name, argument in MODIFIERS.items():
        given = found.get(name)
        result[name] = argument.default if given is None else _of_role(reading, given, argument.role, join(pointer, name), depth)
    _check_choice(reading, found, pointer)
    return result


def _check_choice(reading: Reading, found: Named, pointer: str) -> None:
    """Arguments of which the library needs just one."""
    schema = load().entry("distributions", found["type"])["schema"]["properties"]
    for choice in _CHOICES:
        there = [name for name in choice if name in schema]
        given = [name for name in there if found.get(name) is not None]
        if len(there) > 1 and len(given) != 1:
            code, words = ("missing", "needs one of") if not given else ("conflict", "takes only one of")
            reading.fault(pointer, code, f"{found['type']} {words} {', '.join(there)}")


_CHOICES = (
    ("probs", "logits"),
    ("gate", "gate_logits"),
    ("covariance_matrix", "precision_matrix", "scale_tril"),
    ("scale_matrix", "rate_matrix", "scale_tril"),
    ("correlation_matrix", "correlation_cholesky"),
    ("covariance_row", "covariance_rfft"),
)


def read_form(reading: Reading, value: Any, pointer: str, role: Role, depth: int = 0) -> Named:
    """A transform or a constraint; a string names one without arguments."""
    table, excluded = (
        (forms.TRANSFORMS, forms.TRANSFORMS_LEFT_OUT) if role == "transform" else (forms.CONSTRAINTS, forms.CONSTRAINTS_LEFT_OUT)
    )
    given = {"type": value} if isinstance(value, str) else value
    found = _named(reading, given, pointer, role, table, excluded, depth)
    if found is None:
        return {}
    arguments = table[found["type"]]
    result: Named = {"type": found["type"]}
    for at, name in enumerate(name for name in found if name != "type" and name not in arguments):
        hint = nearest(name, arguments, before=at) if arguments else "it takes none"
        reading.fault(join(pointer, name), "unknown_argument", f"{found['type']} has no argument {quoted(name)}; {hint}")
    for name, argument in arguments.items():
        if name in found and not (found[name] is None and not argument.required):
            result[name] = _of_role(reading, found[name], argument.role, join(pointer, name), depth)
        elif argument.required:
            reading.fault(join(pointer, name), "missing", f"is required by {found['type']}")
        else:
            result[name] = argument.default
    return result


def _named(
    reading: Reading,
    value: Any,
    pointer: str,
    role: str,
    legal: Mapping[str, Any],
    excluded: Mapping[str, str],
    depth: int,
) -> Named | None:
    """The object with a type that is known, or None once the fault is told."""
    found = as_object(value)
    if found is None or depth > DEEPEST:
        code = "wrong_type" if found is None else "too_deep"
        detail = f"must be {_NOUNS[role]}, such as {_EXAMPLES[role]}" if found is None else f"is nested more than {DEEPEST} deep"
        reading.fault(pointer, code, detail)
        return None
    if not reading.count(pointer):
        return None
    name = found.get("type")
    where = join(pointer, "type")
    if "type" not in found:
        reading.fault(where, "missing", f"is required: the name of {_NOUNS[role]}, as in {_EXAMPLES[role]}")
    elif not isinstance(name, str):
        reading.fault(where, "wrong_type", f"must be a string: the name of {_NOUNS[role]}")
    elif name in excluded:
        reading.fault(where, "unknown_type", f"{role} {quoted(name)} cannot be used in a job: it {excluded[name]}")
    elif name not in legal:
        place = "GET /v1/catalog/distributions" if role == "distribution" else "docs/programs.md"
        reading.fault(where, "unknown_type", f"unknown {role} {quoted(name)}; {nearest(name, legal, place)}")
    else:
        return found
    return None


def _argument(reading: Reading, value: Any, schema: Mapping[str, Any], pointer: str, depth: int) -> Any:
    """An argument of a distribution: what its schema allows."""
    role = role_of(schema)
    if value is None and is_nullable(schema):
        return None
    if role == "choice":
        fitted = fit(value, schema, pointer, _unresolved)
        reading.issues += fitted.issues
        return fitted.value
    if role in ("distributions", "transforms", "sizes") and not isinstance(value, list):
        options: list[Mapping[str, Any]] = schema.get("anyOf", [])
        single = next((option for option in options if "$ref" in option), None)
        role = _ROLES[single["$ref"]] if single is not None else role
    checked = _of_role(reading, value, role, pointer, depth)
    if role == "value":
        _check_domain(reading, value, schema, pointer)
    return checked


def role_of(schema: Mapping[str, Any]) -> Role:
    """What stands for the argument of a distribution that has this schema."""
    if "$ref" in schema:
        return _ROLES[schema["$ref"]]
    if schema.get("type") == "array" and "$ref" in schema.get("items", {}):
        return _LISTS[_ROLES[schema["items"]["$ref"]]]
    roles = [role_of(option) for option in schema.get("anyOf", [])]
    for role in _RANKED:
        if role in roles:
            return role
    return "choice"


def is_nullable(schema: Mapping[str, Any]) -> bool:
    """Whether null is allowed."""
    kinds = schema.get("type", [])
    return "null" in ([kinds] if isinstance(kinds, str) else kinds) or any(map(is_nullable, schema.get("anyOf", [])))


def _check_domain(reading: Reading, value: Any, schema: Mapping[str, Any], pointer: str) -> None:
    """Numbers that stand in the document must be in the argument's domain; of expressions that is known only later."""
    bounded = next((option for option in schema["anyOf"] if {"minimum", "exclusiveMinimum"} & set(option)), None)
    if bounded is None:
        return
    items = as_list(value)
    for at, item in enumerate([value] if items is None else items):
        if isinstance(item, int | float) and not isinstance(item, bool):
            number = {**bounded, "type": "integer" if bounded.get("type") == "integer" else "number"}
            whole = int(item) if float(item).is_integer() and number["type"] == "integer" else item
            reading.issues += fit(whole, number, pointer if items is None else join(pointer, at), _unresolved).issues


def _of_role(  # noqa: PLR0911  (one line for each role)
    reading: Reading, value: Any, role: Role, pointer: str, depth: int
) -> Any:
    if role == "value":
        return reading.value(value, pointer)
    if role == "size":
        return reading.size(value, pointer)
    if role == "distribution":
        return read_distribution(reading, value, pointer, depth + 1)
    if role in ("transform", "constraint"):
        return read_form(reading, value, pointer, role, depth + 1)
    items = as_list(value)
    if items is None:
        reading.fault(pointer, "wrong_type", "must be an array")
        return []
    single: Role = {"sizes": "size", "distributions": "distribution", "transforms": "transform", "constraints": "constraint"}[role]  # type: ignore[assignment]
    if len(items) > (8 if role == "sizes" else 64) or (not items and role != "sizes"):
        reading.fault(pointer, "out_of_range", f"must hold {'at most 8 sizes' if role == 'sizes' else '1 to 64 of them'}")
        return []
    return [_of_role(reading, item, single, join(pointer, at), depth) for at, item in enumerate(items)]


def _wanted(schema: Mapping[str, Any]) -> str:
    role = role_of(schema)
    return _NOUNS.get(role.rstrip("s"), "a size" if role == "size" else "a number or an expression")


def _unresolved(_reference: str, value: Any, pointer: str) -> Any:
    raise AssertionError(pointer)
