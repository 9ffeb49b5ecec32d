"""From the parameter of a library's function to the JSON Schema of the values that a job may give it.

What cannot be written in JSON (functions, masks, arrays of parameters) has no schema: such a parameter is left out where it has a
default, and makes its function unbuildable where it has none.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
import optax

Schema = dict[str, Any]

INT32_MAX = 2**31 - 1
NUMBER: Schema = {"type": "number"}
INTEGER: Schema = {"type": "integer", "minimum": 0, "maximum": INT32_MAX}
COUNT: Schema = {"type": "integer", "minimum": 1, "maximum": INT32_MAX}
BOOLEAN: Schema = {"type": "boolean"}
NULL: Schema = {"type": "null"}
DTYPES = ["float32", "bfloat16", "float16"]
SCHEDULE: Schema = {"$ref": "#/$defs/schedule"}
OPTIMIZER: Schema = {"$ref": "#/$defs/optimizer"}


@dataclass(frozen=True)
class Reading:
    """What a function's signature gives: an object schema, and the parameters that no JSON value can fill.

    `blocking` are those without a default: with any of them the function cannot be built.
    """

    schema: Schema
    left_out: list[str]
    blocking: list[str]


@dataclass(frozen=True)
class Rules:
    """What the signatures of a library do not say.

    Attributes:
        schemas: the schema of a parameter by name; None leaves the parameter out.
        own: the same for one function, as `function.parameter`; wins over `schemas`.
        bounds: keywords added to the number in a schema read from a signature, by parameter name.
    """

    schemas: Mapping[str, Schema | None] = field(default_factory=dict[str, Schema | None])
    own: Mapping[str, Schema | None] = field(default_factory=dict[str, Schema | None])
    bounds: Mapping[str, Schema] = field(default_factory=dict[str, Schema])

    def withhold(self, function: str, parameter: str) -> bool:
        """Whether a parameter is left out on purpose, default or not."""
        own = f"{function}.{parameter}"
        return self.own.get(own, {}) is None or (own not in self.own and self.schemas.get(parameter, {}) is None)


def nullable(schema: Schema) -> Schema:
    """The same schema, with null allowed."""
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    if "type" in schema and isinstance(schema["type"], str):
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [*schema.get("anyOf", [schema]), NULL]}


def read(name: str, parameters: list[inspect.Parameter], rules: Rules) -> Reading:
    """Read the parameters of the function `name`."""
    properties: dict[str, Schema] = {}
    required: list[str] = []
    left_out: list[str] = []
    blocking: list[str] = []
    for parameter in parameters:
        schema = _schema(name, parameter, rules)
        has_default = parameter.default is not parameter.empty
        if schema is None:
            dispensable = has_default or rules.withhold(name, parameter.name) or parameter.kind is parameter.VAR_KEYWORD
            (left_out if dispensable else blocking).append(parameter.name)
        elif "default" in schema or not has_default:
            properties[parameter.name] = schema
            required += [] if "default" in schema else [parameter.name]
        else:
            properties[parameter.name] = {**schema, "default": plain(parameter.default)}
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return Reading(schema, left_out, blocking)


def plain(value: Any) -> Any:
    """A default as a JSON value."""
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return np.dtype(value).name


def _schema(function: str, parameter: inspect.Parameter, rules: Rules) -> Schema | None:
    own = f"{function}.{parameter.name}"
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return None
    if own in rules.own:
        return rules.own[own]
    if parameter.name in rules.schemas:
        return rules.schemas[parameter.name]
    found = _of_annotation(parameter)
    return None if found is None else _bounded(found, rules.bounds.get(parameter.name, {}))


def _of_annotation(parameter: inspect.Parameter) -> Schema | None:
    members = set(members_of(parameter.annotation))
    found = _of_members(parameter, members)
    if found is not None and (type(None) in members or parameter.default is None):
        return nullable(found)
    return found


def _of_members(parameter: inspect.Parameter, members: set[Any]) -> Schema | None:
    """The schema of a parameter whose annotation is the union of `members`, null aside."""
    if _is_dtype(parameter.name):
        return {"enum": list(DTYPES)}
    if members & {optax.GradientTransformation, optax.GradientTransformationExtraArgs}:
        return OPTIMIZER
    if any(typing.get_origin(member) is typing.Literal for member in members):
        return {"enum": [value for member in members for value in typing.get_args(member)]}
    if members == {bool}:
        return BOOLEAN
    return _of_numbers(parameter, members - {type(None)})


def _of_numbers(parameter: inspect.Parameter, members: set[Any]) -> Schema | None:
    """The schema of a parameter that takes numbers, schedules of them, or both; None for any other."""
    if not members or any(map(_is_tree, members)):
        return None
    if all(map(_is_schedule, members)):
        return SCHEDULE
    if members != {int} and not members & {float, jax.Array}:
        return None
    number = INTEGER if members == {int} or _is_integer(parameter.default) else NUMBER
    return {"anyOf": [number, SCHEDULE]} if any(map(_is_schedule, members)) else number


def _is_dtype(name: str) -> bool:
    """Whether a parameter of this name takes a number format; `promote_dtype` is a function."""
    return "promote" not in name and (name.rsplit("_", maxsplit=1)[-1] == "dtype" or name.startswith("dtype_"))


def members_of(annotation: Any) -> Iterator[Any]:
    """The members of a union, however deep; an annotation that is none is its own only member."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from members_of(member)
    elif annotation is not inspect.Parameter.empty:
        yield annotation


def _is_schedule(member: Any) -> bool:
    """Whether it is Optax's type of a schedule: a function of one number."""
    if typing.get_origin(member) is not typing.get_origin(optax.Schedule):
        return False
    arguments, _ = typing.get_args(member)
    if not isinstance(arguments, list) or len(arguments) != 1:
        return False
    takes = set(members_of(arguments[0]))
    return takes >= {int, float} and not any(map(_is_tree, takes))


def _is_tree(member: Any) -> bool:
    """Whether it stands for a tree of arrays, such as the parameters of a model."""
    return typing.get_origin(member) in (Iterable, Mapping)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _bounded(schema: Schema, bounds: Schema) -> Schema:
    """Add bounds to the number in a schema, which may be one of several alternatives."""
    if not bounds:
        return schema
    if "anyOf" in schema:
        return {"anyOf": [_bounded(option, bounds) for option in schema["anyOf"]]}
    return {**schema, **bounds} if {"number", "integer"} & set(np.atleast_1d(schema.get("type", []))) else schema
