"""How requests are put together and answers taken apart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar, cast
from urllib.parse import quote

from pydantic import ValidationError

from meshyard.effects import Emit, Flow, Items, Reply, Request, send
from meshyard.errors import APIResponseError
from meshyard.models import Job, Model

M = TypeVar("M", bound=Model)
JobRef: TypeAlias = str | Job
"""A job, or its id."""

PAGE = 100


def job_id(job: JobRef) -> str:
    """The id of a job that may be given as either."""
    return job.id if isinstance(job, Job) else job


def part(text: str) -> str:
    """One part of a path, quoted whole."""
    return quote(text, safe="")


def job_path(job: JobRef, *rest: str) -> str:
    """Path of a job, or of something below it."""
    return "/".join(("/v1/jobs", part(job_id(job)), *rest))


def query(**values: Any) -> tuple[tuple[str, str], ...]:
    """A query without what is None. A list gives its name several times, a mapping gives `name[key]`."""
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            items = cast("Mapping[str, Any]", value)
            pairs += [(f"{name}[{key}]", _text(item)) for key, item in items.items()]
        elif isinstance(value, list):
            pairs += [(name, _text(item)) for item in cast("list[Any]", value)]
        elif value is not None:
            pairs.append((name, _text(value)))
    return tuple(pairs)


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def get(path: str, **values: Any) -> Request:
    """A GET with a query."""
    return Request("GET", path, query(**values))


def with_json(method: str, path: str, document: Any, headers: Mapping[str, str] | None = None, **values: Any) -> Request:
    """A request with a JSON body. What JSON cannot hold goes out as Python writes it: the service refuses it with its pointer."""
    body = document if isinstance(document, bytes) else json.dumps(document, separators=(",", ":")).encode()
    return Request(method, path, query(**values), {"Content-Type": "application/json", **(headers or {})}, body)


def parse(model: type[M], reply: Reply) -> M:
    """An answer as a result. Raises APIResponseError where it is something else."""
    return build(model, reply.json(), reply)


def build(model: type[M], document: Any, reply: Reply) -> M:
    """A part of an answer as a result."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        request_id = reply.headers.get("x-request-id")
        raise APIResponseError(f"not a {model.__name__.lower()}: {error}", request_id=request_id) from None


def rows(reply: Reply) -> list[Any]:
    """The rows of a list."""
    document: Any = reply.json()
    try:
        return list(document["data"])
    except (TypeError, KeyError):
        raise APIResponseError("the answer is not a list", request_id=reply.headers.get("x-request-id")) from None


def fetch(model: type[M], request: Request) -> Flow[M]:
    """Send a request and read the answer as a result."""
    return parse(model, (yield from send(request)))


def fetch_list(model: type[M], path: str, after: str | None = None, **values: Any) -> Flow[list[M]]:
    """Every row of a list, or those behind `after`, however many pages it has."""
    found: list[M] = []
    while True:
        reply = yield from send(get(path, **values, after=after))
        found += [build(model, row, reply) for row in rows(reply)]
        after = next_page(reply)
        if after is None:
            return found


def paged(model: type[M], path: str, limit: int | None, **values: Any) -> Items[M]:
    """The rows of a list one by one, a page at a time, at most `limit` of them."""
    left = limit
    while left is None or left > 0:
        reply = yield from send(get(path, **values, limit=PAGE if left is None else min(left, PAGE)))
        for row in rows(reply)[:left]:
            yield Emit(build(model, row, reply))
            left = None if left is None else left - 1
        values["after"] = next_page(reply)
        if values["after"] is None:
            return


def next_page(reply: Reply) -> str | None:
    """Where the next page begins; None if there is none."""
    document = reply.json()
    return str(document["next"]) if document.get("has_more") and document.get("next") is not None else None
