"""Reading JSON from outside: bounded in size, depth and kind of value before any model sees it.

A router whose routes take a JSON body is made with `APIRouter(route_class=JsonRoute)`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import orjson
from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool

from jobs.errors import Issue
from service.context import Context
from service.domain.errors import DomainError, Invalid, TooLarge, UnsupportedMedia
from service.http.arrival import chunks
from service.http.problems import Refused, pointer_of
from service.http.session import TransactionRoute
from service.settings import Settings

DISCARDED_TIMES = 8
"""How many times the limit is read and thrown away, so that a client still sending hears the refusal and not a reset."""

INLINE_BYTES = 64 * 1024
"""Larger documents are parsed in a thread, so that one of them does not hold up everybody else."""

Place = tuple[int | str, ...]


@dataclass(frozen=True)
class Limits:
    """What a body may be: bytes, nesting, and whether keys are checked for repetition."""

    size_bytes: int
    depth: int
    keys_once: bool = True


class _Repeated(dict[str, Any]):
    """An object in which a key stood twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Repeated(found)


def parse(body: bytes, max_depth: int, *, keys_once: bool = True) -> Any:
    """Read a JSON document.

    Args:
        body: the document in UTF-8.
        max_depth: how deep arrays and objects may nest.
        keys_once: refuse an object in which a key stands twice; costs a second, slower reading.

    Raises:
        Invalid: not JSON (NaN, infinities, numbers beyond a double and lone surrogates included), too deep, a NUL in a text, or a
            key twice in an object.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _invalid((), "invalid_json", f"Not a JSON document at line {error.lineno}, column {error.colno}.") from None
    for place, value in _containers(document):
        if len(place) >= max_depth:
            raise _invalid(place[:1], "too_deep", f"Arrays and objects may nest {max_depth} deep.")
        _refuse_nul(place, value)
    if keys_once:
        # The fast reader keeps the last of two equal keys in silence. By now the document is sound and shallow: safe to read again.
        _refuse_repeated(json.loads(body, object_pairs_hook=_object))
    return document


def _containers(document: Any) -> Iterator[tuple[Place, Any]]:
    pending: list[tuple[Place, Any]] = [((), document)]
    while pending:
        place, value = pending.pop()
        yield place, value
        pending.extend(((*place, name), item) for name, item in _items(value) if _is_container(item))


def _is_container(value: Any) -> bool:
    return isinstance(value, dict | list)


def _items(value: Any) -> Iterable[tuple[int | str, Any]]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value).items()
    return enumerate(cast("list[Any]", value)) if isinstance(value, list) else ()


def _refuse_nul(place: Place, value: Any) -> None:
    if _has_nul(value):
        raise _invalid(place, "nul_character", "A text must not contain the NUL character.")
    for name, item in _items(value):
        if _has_nul(name):
            raise _invalid(place, "nul_character", "A key must not contain the NUL character.")
        if _has_nul(item):
            raise _invalid((*place, name), "nul_character", "A text must not contain the NUL character.")


def _has_nul(value: Any) -> bool:
    return isinstance(value, str) and "\x00" in value


def _refuse_repeated(document: Any) -> None:
    for place, value in _containers(document):
        if isinstance(value, _Repeated):
            raise _invalid(place, "repeated_key", "A key stands twice in this object; keep one.")


def _invalid(place: Place, code: str, detail: str) -> Invalid:
    return Invalid("The body cannot be read; see errors.", [Issue(pointer_of(place), code, detail)])


async def read(request: Request, limit_bytes: int) -> bytes:
    """The whole body, however it is sent.

    Raises:
        TooLarge: it has more than `limit_bytes`.
        UnsupportedMedia: it is compressed; sizes could not be bounded then.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("Send the body without a Content-Encoding.")
    kept: list[bytes] = []
    received = 0
    async for chunk in chunks(request):
        received += len(chunk)
        if received <= limit_bytes:
            kept.append(chunk)
        elif received > limit_bytes * DISCARDED_TIMES:
            break
    if received > limit_bytes:
        raise TooLarge(f"The body has more than the {limit_bytes} bytes allowed here.")
    return b"".join(kept)


class _JsonRequest(Request):
    """A request whose body is read by this module when FastAPI asks for it."""

    limits: Limits

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            try:
                self._body = await read(self, self.limits.size_bytes)
            except DomainError as error:
                raise Refused(error) from None
            if self._body:
                self._refuse_other_types()
        return self._body

    async def json(self) -> Any:
        body = await self.body()
        reading = partial(parse, body, self.limits.depth, keys_once=self.limits.keys_once)
        try:
            return reading() if len(body) < INLINE_BYTES else await run_in_threadpool(reading)
        except Invalid as error:
            raise Refused(error) from None

    def _refuse_other_types(self) -> None:
        # A page of another origin can post forms and plain text to this port without asking the browser, but not JSON.
        # One that names no type at all bears its Origin, which the gate has looked at.
        given = self.headers.get("content-type")
        if given is None:
            return
        kind = given.partition(";")[0].strip().lower()
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            raise Refused(UnsupportedMedia("Send a JSON document with Content-Type: application/json."))


class JsonRoute(TransactionRoute):
    """A route whose JSON body is read with our limits."""

    limits_of: ClassVar[Callable[[Settings], Limits]] = lambda settings: Limits(settings.max_body_bytes, settings.max_json_depth)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, given a request that reads its body our way."""
        handler = super().get_route_handler()
        limits_of = type(self).limits_of

        async def handle(request: Request) -> Response:
            context: Context = request.app.state.context
            ours = _JsonRequest(request.scope, request.receive)
            ours.limits = limits_of(context.settings)
            return await handler(ours)

        return handle


class ReportRoute(JsonRoute):
    """A route for what workers report, which may be larger."""

    limits_of: ClassVar[Callable[[Settings], Limits]] = lambda settings: Limits(
        settings.max_report_bytes, settings.max_json_depth, keys_once=False
    )
