"""Handing out stored bytes: ranges, strong ETags, and nothing that does not match its SHA-256."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from service.domain.verification import VERIFY_FIRST_BYTES, Stored, check_first, check_sizes, verified
from service.http.openapi import CONFLICT, PROBLEM
from service.storage.store import CHUNK_BYTES, Store

MEDIA_TYPE = "application/octet-stream"
RANGE = re.compile(r"bytes=\s*(\d*)\s*-\s*(\d*)\s*", re.ASCII)
LONGEST_NUMBER = 19

BYTES: dict[str, Any] = {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
FILE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", **BYTES},
    206: {"description": "The part of it that was asked for.", **BYTES},
    304: {"description": "It is what If-None-Match names."},
    409: CONFLICT,
    416: {"description": "The range lies outside the file.", "content": PROBLEM},
}
"""What a route that hands out a file can answer."""


@dataclass(frozen=True)
class Span:
    """Bytes from `start` up to but not including `stop`."""

    start: int
    stop: int


def send_file(request: Request, store: Store, file: Stored) -> Response:
    """Hand out a file: whole, or the single range that is asked for.

    Args:
        request: its `Range`, `If-Range` and `If-None-Match` count.
        store: where the file lies.
        file: which.

    Raises:
        Corrupt: the file is not what it was. Beyond `VERIFY_FIRST_BYTES` a whole file breaks off before its end instead, and a
            range is not checked: whoever puts ranges together has the SHA-256 to check the whole by.
        HTTPException: 416, the range lies outside the file.
    """
    headers = _headers(file.name, file.sha256) | {"Accept-Ranges": "bytes"}
    if _is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    span = _wanted(request, file.bytes, headers["ETag"])
    status, length = 200, file.bytes
    if span is not None:
        status, length = 206, span.stop - span.start
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{file.bytes}"
    headers["Content-Length"] = str(length)
    if request.method == "HEAD":
        check_sizes(store, [file])
        return Response(status_code=status, headers=headers, media_type=MEDIA_TYPE)
    return StreamingResponse(_content(store, file, span), status, headers, MEDIA_TYPE)


def send_made(request: Request, name: str, etag: str, length: int, content: Iterator[bytes]) -> Response:
    """Hand out a file that is made while it is sent, and comes out the same every time.

    Args:
        request: its `If-None-Match` counts.
        name: what to call the file.
        etag: hexadecimal, tells its content.
        length: its size in bytes.
        content: its bytes; an error in between breaks the reply off.
    """
    headers = _headers(name, etag) | {"Accept-Ranges": "none"}
    if _is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    headers["Content-Length"] = str(length)
    if request.method == "HEAD":
        return Response(headers=headers, media_type=MEDIA_TYPE)
    return StreamingResponse(content, 200, headers, MEDIA_TYPE)


def _headers(name: str, etag: str) -> dict[str, str]:
    # Never shown by a browser as a page of ours: what a job writes is its user's.
    file_name = quote(name.rpartition("/")[2], safe="")
    return {
        "ETag": f'"{etag}"',
        "Content-Disposition": f"attachment; filename*=UTF-8''{file_name}",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
    }


def _is_known(request: Request, etag: str) -> bool:
    given = request.headers.get("if-none-match")
    if given is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return "*" in tags or etag in tags


def _wanted(request: Request, size: int, etag: str) -> Span | None:
    """The one range to send; None for the whole file, also where several are asked for or the header means nothing."""
    given = request.headers.get("range")
    condition = request.headers.get("if-range")
    if given is None or request.method != "GET" or (condition is not None and condition.strip() != etag):
        return None
    match = RANGE.fullmatch(given.strip())
    if match is None or not any(match.groups()) or max(map(len, match.groups())) > LONGEST_NUMBER:
        return None
    first, last = (int(number) if number else None for number in match.groups())
    if first is not None and last is not None and last < first:
        return None
    return _within(first, last, size)


def _within(first: int | None, last: int | None, size: int) -> Span:
    if first is None:
        start, stop = max(0, size - (last or 0)), size
    else:
        start, stop = first, size if last is None else min(last + 1, size)
    if start >= size:
        raise HTTPException(416, f"The file has {size} bytes.", {"Content-Range": f"bytes */{size}"})
    return Span(start, stop)


def _content(store: Store, file: Stored, span: Span | None) -> Iterator[bytes]:
    """The bytes to send; checks before it returns, so that a fault is told before the reply begins."""
    if file.bytes <= CHUNK_BYTES:
        content = b"".join(verified(store, file))
        return iter([content if span is None else content[span.start : span.stop]])
    check_first(store, [file])
    if span is not None:
        return store.read(file.key, span.start, span.stop - span.start)
    # Checked a moment ago where it is not too large: then it is not read for that a second time.
    return store.read(file.key) if file.bytes <= VERIFY_FIRST_BYTES else verified(store, file)
