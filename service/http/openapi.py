"""The document at /openapi.json: what FastAPI derives from the routes, and what it cannot know.

That is: how refusals look, which of them every route can give, the key, and the job language, whose schema is the spec's own.
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from jobs.spec.schema import job_schema
from service.http.access import need_of
from service.http.problems import MEDIA_TYPE, Problem

Schema = dict[str, Any]
METHODS = frozenset({"get", "head", "put", "post", "delete", "patch"})
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
JOB = "#/components/schemas/JobSpec"
PROBLEM: Schema = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}

CONFLICT: Schema = {"description": "What is named is not in a state for this.", "content": PROBLEM}
REPLAYED: Schema = {
    "description": "Done, now or when the same request came before.",
    "headers": {
        "Location": {"schema": {"type": "string"}},
        "Idempotent-Replayed": {"schema": {"type": "string", "enum": ["true"]}, "description": "Only where it was done before."},
    },
}
JOB_BODY: Schema = {"x-job-body": True}
METADATA_FILTER: Schema = {
    "parameters": [
        {
            "name": "metadata",
            "in": "query",
            "description": "Jobs whose metadata has these entries: metadata[key]=value.",
            "style": "deepObject",
            "explode": True,
            "required": False,
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
        }
    ]
}

SOURCES: tuple[tuple[str, str, str, str, str], ...] = (
    ("submit_job", "201", "id", "job_id", "job"),
    ("retry_job", "201", "id", "job_id", "job"),
    ("clone_job", "201", "id", "job_id", "job"),
    ("extend_job", "201", "id", "job_id", "job"),
    ("upload_dataset", "201", "id", "dataset_id", "dataset"),
    ("upload_code", "201", "id", "code_id", "bundle"),
    ("add_webhook", "201", "id", "webhook_id", "webhook"),
    ("register_worker", "201", "id", "worker_id", "worker"),
    ("claim_attempt", "200", "attempt_id", "attempt_id", "attempt"),
)
"""Where ids come from: operation, status, field of its answer; and which parameter of other operations takes them."""

REFUSALS: dict[str, str] = {
    "401": "No key, or one that is wrong, revoked or over.",
    "403": "Asked under a name that is not answered to, without the scope for it, or for what the operator has not turned on.",
    "404": "There is nothing by that id.",
    "408": "The body came too slowly.",
    "413": "The body is too large.",
    "415": "The body is not of a type that is read here.",
    "422": "The request cannot be accepted; see `errors`.",
    "429": "More than the key may ask for; `Retry-After` says when to come again.",
    "503": "The database or the artifact store cannot be reached just now.",
}


def install(app: FastAPI, *, needs_key: bool) -> None:
    """Make /openapi.json ours; built when it is first asked for."""

    def build() -> Schema:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, needs_key=needs_key)
        return app.openapi_schema

    app.openapi = build


def _document(app: FastAPI, *, needs_key: bool) -> Schema:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= schemas["Problem"].pop("$defs", {})
    schemas |= _job_schemas()
    if needs_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for method in METHODS & operations.keys():
            _complete(path, operations[method], needs_key=needs_key and path not in OPEN_PATHS)
    _link(document["paths"])
    return document


def _job_schemas() -> dict[str, Schema]:
    """The spec's schema as components: its own definitions stand beside it under names of their own."""
    schema = job_schema(f"{JOB}.")
    parts: dict[str, Schema] = schema.pop("$defs", {})
    schema.pop("$schema", None)
    return {"JobSpec": schema, **{f"JobSpec.{name}": part for name, part in parts.items()}}


def _complete(path: str, operation: Schema, *, needs_key: bool) -> None:
    if operation.pop("x-job-body", False):
        operation["requestBody"]["content"] = {"application/json": {"schema": {"$ref": JOB}}}
    if needs_key:
        operation["security"] = [{"key": []}]
    rights = need_of(operation["operationId"]).rights
    if rights is not None:
        operation["x-scopes"] = sorted(rights)
    responses = operation["responses"]
    for status in _possible(path, operation):
        responses[status] = responses.get(status, {}) | {"description": REFUSALS[status], "content": PROBLEM}


def _possible(path: str, operation: Schema) -> list[str]:
    statuses = ["401", "403", "429", "503"] if "security" in operation else ["403", "429", "503"]
    if "{" in path:
        statuses.append("404")
    if "requestBody" in operation:
        statuses += ["408", "413", "415"]
    if "requestBody" in operation or "parameters" in operation:
        statuses.append("422")
    return statuses


def _link(paths: Schema) -> None:
    """Tell which answers hold the ids that other operations ask for."""
    operations = {
        operation["operationId"]: (path, operation)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if method in METHODS
    }
    for source, status, field, parameter, thing in SOURCES:
        takers = [name for name, (path, _) in operations.items() if re.findall(r"{(\w+)}", path) == [parameter]]
        operations[source][1]["responses"][status]["links"] = {
            f"{thing}_{name}": {"operationId": name, "parameters": {parameter: f"$response.body#/{field}"}} for name in takers
        }
