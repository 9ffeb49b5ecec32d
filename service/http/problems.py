"""Every refusal as RFC 9457 problem details. The only table from errors to statuses.

A reply never repeats what was sent: an input that cannot be written as JSON would turn the refusal itself into a 500, and what a
client sent may be a secret.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import Match

from jobs.errors import Issue, SpecInvalid
from service.domain import errors

LOG = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
MOST_ISSUES = 100
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
RETRY_AFTER_SECONDS = "1"
RETRY_MUCH_AFTER_SECONDS = "30"
DATABASE_ERRORS = (OperationalError, InterfaceError, PoolTimeout)

STATUS_OF: dict[type[errors.DomainError], int] = {
    errors.NotFound: 404,
    errors.Invalid: 422,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.CodeDisabled: 403,
    errors.TooSlow: 408,
    errors.TooMany: 429,
    errors.Unavailable: 503,
    errors.StorageFull: 507,
}
CODE_OF: dict[int, str] = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "request_timeout",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    422: "invalid_request",
    429: "rate_limited",
    431: "headers_too_large",
    500: "internal",
    503: "unavailable",
}
ISSUE_CODE_OF: dict[str, str] = {
    "extra_forbidden": "unknown_field",
    "missing": "missing",
    "literal_error": "unknown_value",
    "enum": "unknown_value",
    "greater_than": "out_of_range",
    "greater_than_equal": "out_of_range",
    "less_than": "out_of_range",
    "less_than_equal": "out_of_range",
    "finite_number": "out_of_range",
    "too_long": "out_of_range",
    "too_short": "out_of_range",
    "string_too_long": "out_of_range",
    "string_too_short": "out_of_range",
    "string_pattern_mismatch": "wrong_format",
    "value_error": "invalid_value",
}
"""Pydantic's kinds of error as ours; every other kind that a strict model gives is a wrong type."""


class ProblemItem(BaseModel):
    """One fault: a JSON Pointer into the body (empty where it is not in the body), a stable code, a sentence."""

    pointer: str
    code: str
    detail: str


class Problem(BaseModel):
    """A refusal, as RFC 9457 has it. `code` is the stable word to tell one from another."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[ProblemItem]
    current_status: str | None = Field(default=None, description="Where the job stands; only with `illegal_transition`.")


def items(issues: Sequence[Issue]) -> list[ProblemItem]:
    """Faults as a reply shows them, the first hundred of them."""
    return [ProblemItem(pointer=issue.pointer, code=issue.code, detail=issue.detail) for issue in issues[:MOST_ISSUES]]


class Refused(HTTPException):
    """A domain error raised where FastAPI lets nothing but an HTTPException through: while it reads the body."""

    def __init__(self, error: errors.DomainError) -> None:
        super().__init__(status_of(error), error.detail)
        self.error = error


def status_of(error: errors.DomainError) -> int:
    """The HTTP status of a domain error: its own, or that of the nearest class above it."""
    return next(STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)


def request_id_of(request: Request) -> str:
    """The id that the gate gave to this request."""
    request_id: str = request.scope.get("state", {}).get("request_id", "")
    return request_id


def problem(
    request: Request,
    status: int,
    detail: str,
    code: str | None = None,
    issues: list[Issue] | None = None,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> Response:
    """Build the reply of a refusal.

    Args:
        request: the request that is refused.
        status: HTTP status, 4xx or 5xx.
        detail: what went wrong here and what to do, in a sentence.
        code: stable word for it; by default the status's own.
        issues: faults in the body, each with its pointer.
        headers: further headers of the reply.
        members: further members of the document.
    """
    code = code or CODE_OF.get(status, "error")
    document = {
        "type": f"urn:meshyard:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id_of(request),
        "errors": [item.model_dump() for item in items(issues or [])],
        **members,
    }
    all_headers = {"X-Request-Id": request_id_of(request), **(headers or {})}
    return Response(orjson.dumps(document), status, all_headers, MEDIA_TYPE)


def of_domain_error(request: Request, error: errors.DomainError) -> Response:
    """The reply to an error of the domain."""
    members = {"current_status": error.current_status} if isinstance(error, errors.IllegalTransition) else {}
    return problem(request, status_of(error), error.detail, error.code, error.issues, _headers_of(error), **members)


def _headers_of(error: errors.DomainError) -> dict[str, str]:
    if isinstance(error, errors.Unavailable):
        return {"Retry-After": RETRY_AFTER_SECONDS}
    if isinstance(error, errors.TooMany):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_seconds)))}
    if isinstance(error, errors.StorageFull):
        return {"Retry-After": RETRY_MUCH_AFTER_SECONDS}
    if isinstance(error, errors.TooSlow):
        return {"Connection": "close"}
    return {"WWW-Authenticate": "Bearer"} if isinstance(error, errors.Unauthorized) else {}


def pointer_of(parts: tuple[int | str, ...]) -> str:
    """JSON Pointer (RFC 6901) to a place in the body."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _issue_of(error: Mapping[str, Any]) -> Issue:
    where, *rest = error["loc"]
    code = ISSUE_CODE_OF.get(error["type"], "wrong_type")
    if where == "body":
        return Issue(pointer_of(tuple(rest)), code, f"{error['msg']}.")
    return Issue("", code, f"{where} parameter {'.'.join(map(str, rest))}: {error['msg']}.")


async def _on_domain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.DomainError)  # noqa: S101  (Starlette's handlers are typed by their widest case)
    return of_domain_error(request, error)


async def _on_spec_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, SpecInvalid)  # noqa: S101  (as above)
    return problem(request, 422, "The job's spec cannot be accepted; see errors.", "invalid_spec", error.issues)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  (as above)
    faults = error.errors()
    if any(fault["loc"][0] == "path" for fault in faults):
        return problem(request, 404, "There is nothing by that name.")
    return problem(request, 422, "The request cannot be read; see errors.", issues=[_issue_of(fault) for fault in faults])


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  (as above)
    if isinstance(error, Refused):
        return of_domain_error(request, error.error)
    if error.status_code == 405:
        allowed = _allowed_methods(request)
        return problem(request, 405, f"Allowed here: {allowed}.", headers={"Allow": allowed})
    if error.status_code == 404:
        return problem(request, 404, "There is nothing at this path.")
    return problem(request, error.status_code, str(error.detail), headers=error.headers)


async def _on_database_error(request: Request, error: Exception) -> Response:
    return of_database_error(request, error)


def of_database_error(request: Request, error: Exception) -> Response:
    """The reply while the database is away."""
    LOG.warning("request %s: %s", request_id_of(request), getattr(error, "orig", error))
    detail = "The database cannot be reached just now; try again."
    return problem(request, 503, detail, headers={"Retry-After": RETRY_AFTER_SECONDS})


async def _on_defect(request: Request, error: Exception) -> Response:
    return problem(request, 500, "This is a fault of the service; its log has the details under this request id.")


def _allowed_methods(request: Request) -> str:
    # The router answers for the first route of a path and knows only that one's methods.
    routes = request.app.router.routes
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    return ", ".join(m for m, scope in scopes.items() if any(route.matches(scope)[0] == Match.FULL for route in routes))


def install(app: FastAPI) -> None:
    """Register a handler for every kind of error."""
    app.add_exception_handler(errors.DomainError, _on_domain_error)
    app.add_exception_handler(SpecInvalid, _on_spec_invalid)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    for kind in DATABASE_ERRORS:
        app.add_exception_handler(kind, _on_database_error)
    app.add_exception_handler(Exception, _on_defect)
