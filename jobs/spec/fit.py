"""Does a JSON value fit a JSON Schema? Fills defaults and gives every fault with a pointer and words for people.

The part of JSON Schema 2020-12 that the catalog is written in: `type`, `enum`, bounds, `items`, `prefixItems`, `properties`,
`patternProperties`, `anyOf` and `$ref`. A general validator would be another dependency of the client, fill no defaults, and say
"is not valid under any of the given schemas" where a person needs to read "must be a number or a schedule".
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.errors import Issue
from jobs.spec.pointers import LONGEST_TOKEN, join, listed, nearest, quoted

Schema = Mapping[str, Any]
_NOUNS = {
    "#/$defs/schedule": "a schedule",
    "#/$defs/optimizer": "an optimizer",
    "#/$defs/layer": "a layer",
    "#/$defs/cell": "a recurrent cell, such as LSTMCell",
    "#/$defs/rnn": "a layer RNN",
    "#/$defs/gradient_kernel": "a kernel HMC or NUTS",
    "#/$defs/init": 'where to start, such as "init_to_median"',
}
LARGEST_NUMBER = 3.4e38
"""Arguments are computed with in float32."""


@dataclass(frozen=True)
class Fitted:
    """A value with its defaults filled in, or the faults that it has; `value` means nothing where there are any."""

    value: Any
    issues: list[Issue]


Resolver = Callable[[str, Any, str], Fitted]
"""Fits a value to what a `$ref` names: (reference, value, pointer)."""


def fit(value: Any, schema: Schema, pointer: str, resolve: Resolver) -> Fitted:
    """Fit a value.

    Args:
        value: any JSON value.
        schema: what it must be.
        pointer: where it stands in the document.
        resolve: fits what a `$ref` names.
    """
    if "$ref" in schema:
        return resolve(schema["$ref"], value, pointer)
    if "anyOf" in schema:
        return _fit_any(value, schema, pointer, resolve)
    if "enum" in schema:
        return _fit_enum(value, schema["enum"], pointer)
    return _fit_type(value, schema, pointer, resolve)


def fit_members(value: Mapping[str, Any], schema: Schema, pointer: str, resolve: Resolver, owner: str | None = None) -> Fitted:
    """Fit the members of an object, all of them, filling defaults.

    Args:
        value: the object.
        schema: what it must be.
        pointer: where it stands in the document.
        resolve: fits what a `$ref` names.
        owner: the optimizer, schedule, … whose arguments the members are; None where they are plain fields.
    """
    properties: Mapping[str, Schema] = schema.get("properties", {})
    fitted: dict[str, Any] = {}
    unknown = [name for name in value if name not in properties]
    issues = [_unknown(name, properties, pointer, owner, at) for at, name in enumerate(unknown)]
    for name, expected in properties.items():
        if name in value:
            member = fit(value[name], expected, join(pointer, name), resolve)
            fitted[name] = member.value
            issues += member.issues
        elif "default" in expected:
            fitted[name] = copy.deepcopy(expected["default"])
        else:
            issues.append(Issue(join(pointer, name), "missing", f"is required: {wanted(expected)}"))
    return Fitted(fitted, issues)


def wanted(schema: Schema) -> str:
    """What a schema asks for, in words: `a number of at least 0, or a schedule`."""
    if "$ref" in schema:
        return _NOUNS[schema["$ref"]]
    if "anyOf" in schema:
        return " or ".join(wanted(option) for option in schema["anyOf"])
    if "enum" in schema:
        return f"one of {_listed_json(schema['enum'])}"
    return " or ".join(_wanted_type(name, schema) for name in _types(schema))


def _fit_any(value: Any, schema: Schema, pointer: str, resolve: Resolver) -> Fitted:
    options = [option for option in schema["anyOf"] if _is_kind(value, option)]
    if not options:
        return _fault(value, pointer, "wrong_type", f"must be {wanted(schema)}")
    tried = [fit(value, option, pointer, resolve) for option in options]
    return next((result for result in tried if not result.issues), tried[0])


def _is_kind(value: Any, schema: Schema) -> bool:
    """Whether a value is of the JSON type that a schema is about, right or wrong in detail."""
    if "$ref" in schema:
        return isinstance(value, dict)
    if "enum" in schema:
        return any(_is_type(value, _type_name(choice)) for choice in schema["enum"])
    return any(_is_type(value, name) for name in _types(schema))


def _fit_enum(value: Any, choices: list[Any], pointer: str) -> Fitted:
    if any(type(value) is type(choice) and value == choice for choice in choices):
        return Fitted(value, [])
    named = [choice for choice in choices if isinstance(choice, str)]
    close = nearest(value, named) if isinstance(value, str) and len(named) > 3 else ""
    hint = f"; {close}" if close.startswith("did") else ""
    return _fault(value, pointer, "unknown_value", f"must be one of {_listed_json(choices)}{hint}")


def _fit_type(value: Any, schema: Schema, pointer: str, resolve: Resolver) -> Fitted:
    name = next((name for name in _types(schema) if _is_type(value, name)), None)
    if name is None:
        return _fault(value, pointer, "wrong_type", f"must be {wanted(schema)}")
    if name in ("number", "integer"):
        return _fit_number(value, name, schema, pointer)
    if name == "array":
        return _fit_array(value, schema, pointer, resolve)
    if name == "object":
        return _fit_object(value, schema, pointer, resolve)
    if name == "string" and not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf):
        return _fault(value, pointer, "out_of_range", f"must be {wanted(schema)}")
    return Fitted(value, [])


def _fit_number(value: float, name: str, schema: Schema, pointer: str) -> Fitted:
    low, high = schema.get("minimum", -LARGEST_NUMBER), schema.get("maximum", LARGEST_NUMBER)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    # A comparison with NaN is false, so NaN ends here too.
    if not (low <= value <= high and above < value < below):
        return _fault(value, pointer, "out_of_range", f"must be {wanted(schema)}")
    return Fitted(float(value) if name == "number" else value, [])


def _fit_array(value: list[Any], schema: Schema, pointer: str, resolve: Resolver) -> Fitted:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
        return _fault(value, pointer, "out_of_range", f"must be {wanted(schema)}")
    expected = schema["prefixItems"] if "prefixItems" in schema else [schema["items"]] * len(value)
    fitted = [fit(item, kind, join(pointer, at), resolve) for at, (item, kind) in enumerate(zip(value, expected, strict=True))]
    return Fitted([item.value for item in fitted], [issue for item in fitted for issue in item.issues])


def _fit_object(value: dict[str, Any], schema: Schema, pointer: str, resolve: Resolver) -> Fitted:
    if schema.get("additionalProperties") is True:
        return Fitted(value, [])
    if "patternProperties" not in schema:
        return fit_members(value, schema, pointer, resolve)
    ((pattern, expected),) = schema["patternProperties"].items()
    kind = schema["propertyNames"]["description"]
    issues = [Issue(pointer, "unknown_field", f"{quoted(key)} is not {kind}") for key in value if not re.fullmatch(pattern, key)]
    fitted = {key: fit(item, expected, join(pointer, key), resolve) for key, item in value.items() if re.fullmatch(pattern, key)}
    issues += [issue for item in fitted.values() for issue in item.issues]
    return Fitted({key: item.value for key, item in fitted.items()}, issues)


def _unknown(name: str, legal: Mapping[str, Any], pointer: str, owner: str | None, at: int) -> Issue:
    where = join(pointer, name) if len(name) <= LONGEST_TOKEN else pointer
    if owner is None:
        return Issue(where, "unknown_field", f"unknown field {quoted(name)}; {nearest(name, legal, before=at)}")
    hint = nearest(name, legal, before=at) if legal else "it takes none"
    return Issue(where, "unknown_argument", f"{owner} has no argument {quoted(name)}; {hint}")


def _fault(value: Any, pointer: str, code: str, detail: str) -> Fitted:
    return Fitted(value, [Issue(pointer, code, detail)])


def _types(schema: Schema) -> list[str]:
    named = schema["type"]
    return [named] if isinstance(named, str) else list(named)


def _is_type(value: Any, name: str) -> bool:
    """Whether a value is of a JSON type. A boolean is no number here, and 3.0 no integer."""
    if name == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if name == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    return _type_name(value) == name


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    names: dict[str, str] = {
        "bool": "boolean",
        "str": "string",
        "list": "array",
        "dict": "object",
        "int": "number",
        "float": "number",
    }
    return names.get(type(value).__name__, "")


def _wanted_type(name: str, schema: Schema) -> str:
    if name in ("number", "integer"):
        return f"{'an' if name == 'integer' else 'a'} {name}{_wanted_range(schema)}"
    if name == "array":
        return f"an array{_wanted_length(schema, 'minItems', 'maxItems', 'items')}"
    if name == "string":
        return f"a string{_wanted_length(schema, 'minLength', 'maxLength', 'characters')}"
    return {"object": "an object", "boolean": "true or false", "null": "null"}[name]


def _wanted_range(schema: Schema) -> str:
    words = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most", "exclusiveMaximum": "less than"}
    bounds = [f"{word} {schema[key]}" for key, word in words.items() if key in schema]
    return f" of {' and '.join(bounds)}" if bounds else ""


def _wanted_length(schema: Schema, least: str, most: str, noun: str) -> str:
    low, high = schema.get(least, 0), schema.get(most)
    if high is None:
        return f" of at least {low} {noun}" if low else ""
    return f" of {low} {noun}" if low == high else f" of {low} to {high} {noun}"


def _listed_json(choices: list[Any]) -> str:
    words = listed(choice for choice in choices if isinstance(choice, str))
    return f"{words}, or null" if None in choices else words
