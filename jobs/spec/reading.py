"""Reading a document field by field, with issues that a person can act on in place of pydantic's errors."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from jobs.errors import Issue
from jobs.spec.pointers import LONGEST_TOKEN, count_of, join, listed, nearest, quoted
from jobs.spec.strict import Document

_TYPES = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "float_type": "a number",
    "int_type": "an integer",
    "list_type": "an array",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "string_type": "a string",
}
_RANGES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "greater_than": ("gt", lambda bound: f"must be more than {bound}"),
    "greater_than_equal": ("ge", lambda bound: f"must be at least {bound}"),
    "less_than": ("lt", lambda bound: f"must be less than {bound}"),
    "less_than_equal": ("le", lambda bound: f"must be at most {bound}"),
    "too_long": ("max_length", lambda bound: f"must hold at most {count_of(bound, 'entry')}"),
    "too_short": ("min_length", lambda bound: f"must hold at least {count_of(bound, 'entry')}"),
    "string_too_long": ("max_length", lambda bound: f"must have at most {count_of(bound, 'character')}"),
    "string_too_short": ("min_length", lambda bound: f"must have at least {count_of(bound, 'character')}"),
}
"""By kind of error: what pydantic calls the bound, and how it is told."""

OWN_CODES = frozenset({"out_of_range", "unknown_value", "wrong_type"})
"""Codes that validators of this package raise by themselves, as `PydanticCustomError`."""

_KEY = "[key]"
"""What pydantic appends to the place of an object's key that is itself at fault."""


def read_fields(model: type[Document], document: Mapping[str, Any]) -> tuple[dict[str, Any], list[Issue]]:
    """Read a document field by field, so that one that is wrong hides no fault of another.

    Returns: the fields that are sound, defaults included, and everything that is wrong with the others.
    """
    sound: dict[str, Any] = {}
    unknown = [name for name in document if name not in model.model_fields]
    issues = [_unknown((name,), model, at) for at, name in enumerate(unknown)]
    for name, field in model.model_fields.items():
        if name in document:
            issues += _read_field(model, name, document[name], sound)
        elif field.is_required():
            issues.append(Issue(join("", name), "missing", f"is required: {field.description}"))
        else:
            sound[name] = field.get_default(call_default_factory=True)
    return sound, issues


def _read_field(model: type[Document], name: str, value: Any, sound: dict[str, Any]) -> list[Issue]:
    try:
        sound[name] = _adapters(model)[name].validate_python(value, strict=True)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        return [_issue(found, (name, *found["loc"]), model, at) for at, found in enumerate(errors)]
    return []


@cache
def _adapters(model: type[Document]) -> dict[str, TypeAdapter[Any]]:
    return {
        name: TypeAdapter(hint)
        for name, hint in typing.get_type_hints(model, include_extras=True).items()
        if name in model.model_fields
    }


def _issue(error: ErrorDetails, location: tuple[int | str, ...], model: type[Document], at: int) -> Issue:
    """One of pydantic's errors in our words; `at` counts those before it."""
    if error["type"] == "extra_forbidden":
        return _unknown(location, model, at)
    pointer = _pointer(token for token in location if token != _KEY)
    code, detail = _words(error)
    return Issue(pointer, code, f"is a name that {detail}" if location[-1] == _KEY else detail)


def _words(error: ErrorDetails) -> tuple[str, str]:
    """A code and a sentence for an error, by its kind."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in OWN_CODES:
        return kind, error["msg"]
    if kind in _RANGES:
        key, words = _RANGES[kind]
        return "out_of_range", words(context[key])
    told = {
        "finite_number": ("out_of_range", "must be a finite number"),
        "literal_error": ("unknown_value", f"must be {str(context.get('expected')).replace(chr(39), chr(34))}"),
        "missing": ("missing", "is required"),
        "value_error": ("invalid", str(context.get("error"))),
    }
    if kind in _TYPES:
        return "wrong_type", f"must be {_TYPES[kind]}"
    return told.get(kind, ("invalid", f"is not valid ({kind.replace('_', ' ')})"))


def _unknown(location: tuple[int | str, ...], model: type[Document], at: int) -> Issue:
    """An issue about a field that is not known, with the nearest that are."""
    name = str(location[-1])
    holder = _document_at(model, location[:-1])
    place = f" in {listed(['.'.join(map(str, location[:-1]))])}" if len(location) > 1 else ""
    pointer = _pointer(location if len(name) <= LONGEST_TOKEN else location[:-1])
    return Issue(pointer, "unknown_field", f"unknown field {quoted(name)}{place}; {nearest(name, holder.model_fields, before=at)}")


def _document_at(model: type[Document], location: tuple[int | str, ...]) -> type[Document]:
    """The kind of document at a place inside another."""
    for token in location:
        annotation: Any = model.model_fields[str(token)].annotation
        kinds = [annotation, *typing.get_args(annotation)]
        model = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Document))
    return model


def _pointer(tokens: Iterable[int | str]) -> str:
    return join("", *tokens)
