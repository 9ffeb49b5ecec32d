"""The JSON Schema of a program: its statements, distributions, transforms and constraints."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from jobs.spec.catalog import load
from jobs.spec.program import forms
from jobs.spec.program.document import FIELDS, SOLVERS
from jobs.spec.program.forms import Argument

Schema = dict[str, Any]
LOCAL = "#/$defs/"
EXPRESSION: Schema = {
    "description": 'A number, an expression in quotes such as "alpha + beta * x", or a list of them (docs/programs.md).',
    "anyOf": [
        {"type": "number"},
        {"type": "boolean"},
        {"type": "string", "minLength": 1, "maxLength": 10_000},
        {"type": "array", "minItems": 1, "items": {"$ref": LOCAL + "expression"}},
    ],
}
SIZE: Schema = {"description": "A size, or an expression of sizes.", "type": ["integer", "string"], "minimum": -8}
_REFERENCE: Mapping[str, Schema] = {
    "value": {"$ref": LOCAL + "expression"},
    "size": {"$ref": LOCAL + "size"},
    "sizes": {"type": "array", "items": {"$ref": LOCAL + "size"}, "maxItems": 8},
    "distribution": {"$ref": LOCAL + "distribution"},
    "transform": {"$ref": LOCAL + "transform"},
    "transforms": {"type": "array", "items": {"$ref": LOCAL + "transform"}, "minItems": 1, "maxItems": 64},
    "constraint": {"$ref": LOCAL + "constraint"},
}
_NAME: Schema = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,99}$"}
_VALUES: Schema = {"type": "object", "additionalProperties": {"$ref": LOCAL + "expression"}}
_BODY: Schema = {"type": "array", "items": {"$ref": LOCAL + "statement"}, "maxItems": 2000}
_COUNT: Schema = {"type": "integer", "minimum": 1}
_FIELDS: Mapping[str, Schema] = {
    "distribution": _REFERENCE["distribution"], "log_prob": _REFERENCE["distribution"], "cdf": _REFERENCE["distribution"],
    "icdf": _REFERENCE["distribution"], "observed": _REFERENCE["value"], "value": _REFERENCE["value"], "at": _REFERENCE["value"],
    "shape": _REFERENCE["sizes"], "constraint": _REFERENCE["constraint"], "size": _REFERENCE["size"],
    "subsample_size": _REFERENCE["size"], "length": _REFERENCE["size"], "dim": {"type": "integer", "minimum": -8, "maximum": -1},
    "index": _NAME, "body": _BODY, "over": _VALUES, "next": _VALUES, "stack": _VALUES, "derivative": _VALUES,
    "reverse": {"type": "boolean"}, "times": _REFERENCE["value"], "start": _REFERENCE["value"], "time": _NAME,
    "solver": {"enum": list(SOLVERS)}, "steps": _COUNT, "max_steps": _COUNT,
    "rtol": {"type": "number", "exclusiveMinimum": 0}, "atol": {"type": "number", "exclusiveMinimum": 0},
}  # fmt: skip
_DECLARATION: Schema = {
    "type": "object",
    "properties": {
        "type": {"enum": ["real", "int"], "default": "real"},
        "shape": {"type": "array", "items": {"type": ["integer", "string"], "minimum": 0}, "maxItems": 6, "default": []},
        "lower": {"type": ["number", "string", "null"], "default": None},
        "upper": {"type": ["number", "string", "null"], "default": None},
    },
    "additionalProperties": False,
}


def definitions() -> dict[str, Schema]:
    """What a schema of a job holds for programs, by name."""
    return {
        "expression": EXPRESSION,
        "size": SIZE,
        "distribution": {"anyOf": [_distribution(name) for name in load().sections["distributions"]]},
        "transform": _forms(forms.TRANSFORMS),
        "constraint": _forms(forms.CONSTRAINTS),
        "statement": {"anyOf": [_statement(kind) for kind in FIELDS]},
    }


def detailed(program: Schema) -> Schema:
    """The catalog's schema of a program with its parts told."""
    properties = program["properties"]
    data: Schema = properties["data"] | {"additionalProperties": _DECLARATION}
    return program | {"properties": properties | {"data": data, "body": {**properties["body"], **_BODY}}}


def _distribution(name: str) -> Schema:
    arguments = copy.deepcopy(load().entry("distributions", name)["schema"])
    said = {"expand": _nullable("sizes"), "to_event": _REFERENCE["size"], "mask": _nullable("value")}
    return _object(name, arguments["properties"] | said, arguments["required"])


def _forms(table: Mapping[str, Mapping[str, Argument]]) -> Schema:
    plain = {"enum": [name for name, arguments in table.items() if not any(each.required for each in arguments.values())]}
    whole = [_object(name, *_arguments(arguments)) for name, arguments in table.items()]
    return {"anyOf": [plain, *whole]}


def _arguments(arguments: Mapping[str, Argument]) -> tuple[dict[str, Schema], list[str]]:
    properties = {name: _REFERENCE[each.role] if each.required else _nullable(each.role) for name, each in arguments.items()}
    return properties, [name for name, each in arguments.items() if each.required]


def _nullable(role: str) -> Schema:
    return {"anyOf": [_REFERENCE[role], {"type": "null"}]}


def _object(name: str, properties: dict[str, Schema], required: list[str]) -> Schema:
    return {
        "title": name,
        "type": "object",
        "properties": {"type": {"const": name}, **properties},
        "required": ["type", *required],
        "additionalProperties": False,
    }


def _statement(kind: str) -> Schema:
    fields = FIELDS[kind]
    first = {"scan": _VALUES, "ode": _VALUES}.get(kind, _NAME)
    rest = {
        name: _FIELDS[name] if required or default is not None else {"anyOf": [_FIELDS[name], {"type": "null"}]}
        for name, (required, default) in fields.items()
    }
    return {
        "title": kind,
        "type": "object",
        "properties": {kind: first, **rest},
        "required": [kind, *(name for name, (required, _) in fields.items() if required)],
        "additionalProperties": False,
    }
