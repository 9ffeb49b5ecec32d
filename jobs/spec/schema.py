"""The JSON Schema (draft 2020-12) of a whole job description, the catalog's entries included."""

from __future__ import annotations

import copy
from typing import Any

from jobs.spec.catalog import BY_NAME, REFERENCES, Entry, SectionName, load
from jobs.spec.job import KINDS
from jobs.spec.program import schema as program_schema
from jobs.spec.reparam import AUTO, MOST_SITES
from jobs.spec.strict import as_list, as_object

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
LOCAL = "#/$defs/"
_SECTIONS: dict[str, tuple[SectionName, str | None]] = {
    "train_model": ("models", "train"),
    "mcmc_model": ("models", "mcmc"),
    "loss": ("losses", "train"),
    "objective": ("losses", "svi"),
    "guide": ("guides", None),
    "reparam": ("reparams", None),
    "kernel": ("kernels", None),
    **{reference.removeprefix(LOCAL): (section, role) for reference, (section, role) in REFERENCES.items()},
}
"""What may stand in a place: a section of the catalog, and the kind of job or the role that its entries must be for."""
_NAMED = {
    "train": {"model": "train_model", "loss": "loss", "optimizer": "optimizer"},
    "mcmc": {"model": "mcmc_model", "kernel": "kernel", "reparam": "reparams"},
    "svi": {"model": "mcmc_model", "guide": "guide", "optimizer": "optimizer", "loss": "objective", "reparam": "reparams"},
    "predict": {},
}
"""The fields that are fitted to the catalog; pydantic takes them as they come."""


def job_schema(definitions: str = LOCAL) -> Schema:
    """What `POST /v1/jobs` takes.

    Args:
        definitions: where the schemas under `$defs` will stand, for a document that moves them: `#/components/schemas/`.

    Every document that is accepted fits it. One that fits may still be refused for what no schema can state: a dataset that is not
    there, a batch that a mesh axis does not divide.
    """
    shared: Schema = {name: _any_of(section, kind) for name, (section, kind) in _SECTIONS.items()}
    by_site: Schema = {"type": "object", "additionalProperties": {"$ref": LOCAL + "reparam"}, "maxProperties": MOST_SITES}
    shared["reparams"] = {"anyOf": [{"enum": [AUTO]}, by_site]}
    for section in dict.fromkeys(section for section, _ in _SECTIONS.values()):
        shared |= {_definition(section, name): _object(entry) for name, entry in load().sections[section].items()}
    shared |= program_schema.definitions()
    shared[_definition("models", "program")] = program_schema.detailed(shared[_definition("models", "program")])
    kinds = [_of_kind(name, shared) for name in KINDS]
    schema = {"$schema": DIALECT, "title": "Job", "oneOf": kinds, "$defs": shared}
    return schema if definitions == LOCAL else _moved(schema, definitions)


def arguments_schema(entry: Entry) -> Schema:
    """The schema of a catalog entry's arguments, with references that lead into the schema of a job as the service serves it."""
    return _moved(copy.deepcopy(entry["schema"]), f"/v1/schemas/job{LOCAL}")


def _of_kind(name: str, shared: Schema) -> Schema:
    """The schema of one kind of job. Its parts go to `shared`."""
    schema = KINDS[name].model_json_schema(ref_template=LOCAL + "{model}")
    shared.update(schema.pop("$defs", {}))
    for field, definition in _NAMED[name].items():
        reference: Schema = {"$ref": LOCAL + definition}
        plain = schema["properties"][field]
        schema["properties"][field] = plain | (
            {"anyOf": [reference, {"type": "null"}]} if plain.get("default", 0) is None else reference
        )
    return schema


def _any_of(section: SectionName, kind: str | None) -> Schema:
    """One of a section's entries. Each has a definition of its own: in one piece, generators of test data give a long list up."""
    entries = load().sections[section]
    by_name: list[Schema] = [{"enum": list(entries)}] if section in BY_NAME else []
    names = [name for name, entry in entries.items() if kind is None or kind in (*entry.get("kinds", ()), entry.get("role"))]
    return {"anyOf": [*by_name, *({"$ref": LOCAL + _definition(section, name)} for name in names)]}


def _definition(section: str, name: str) -> str:
    return f"{section}.{name}"


def _object(entry: Entry) -> Schema:
    """A `{"type": …, …arguments}` object."""
    arguments = entry["schema"]
    return {
        "title": entry["type"],
        "description": entry["doc"],
        "type": "object",
        "properties": {"type": {"const": entry["type"]}, **copy.deepcopy(arguments["properties"])},
        "required": ["type", *arguments["required"]],
        "additionalProperties": False,
    }


def _moved(schema: Any, definitions: str) -> Any:
    """The same schema with every local reference leading elsewhere."""
    members = as_object(schema)
    if members is not None:
        moved = {key: _moved(value, definitions) for key, value in members.items()}
        if isinstance(moved.get("$ref"), str):
            moved["$ref"] = moved["$ref"].replace(LOCAL, definitions, 1)
        return moved
    items = as_list(schema)
    return schema if items is None else [_moved(item, definitions) for item in items]
