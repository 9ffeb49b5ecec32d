"""Requests as values, and flows that ask for them.

Everything the client does is written once, as a *flow*: a generator that yields effects (send this, read on, sleep) and is sent
back what they gave. It asks for all network I/O this way. `transport.py` holds the two drivers that carry effects out, one for
threads and one for asyncio, so there is no second copy of any logic, and a test can drive a flow by hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from meshyard.errors import APIResponseError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Upload:
    """A file to be sent as it lies on disk; opened anew for every try. `on_bytes` is told how many bytes have just gone out."""

    path: Path
    on_bytes: Callable[[int], None] = lambda _count: None


@dataclass(frozen=True)
class Request:
    """One HTTP request.

    Attributes:
        path: below the server's address, parts already quoted.
        query: in order; a name may come more than once.
        read_seconds: how long to wait for the next byte; None is the client's own limit.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | Upload | None = None
    read_seconds: float | None = None


@dataclass(frozen=True)
class Reply:
    """A whole answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """The body as JSON. Raises APIResponseError if it is none."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            message = "the answer is not JSON: is this the address of a Meshyard service?"
            raise APIResponseError(message, request_id=self.headers.get("x-request-id")) from None


@dataclass(frozen=True)
class Stream:
    """An answer whose body is still to be read, chunk by chunk. `handle` is the driver's own."""

    status: int
    headers: Mapping[str, str]
    handle: Any


@dataclass(frozen=True)
class Once:
    """Send a request a single time → `Reply`, or `Stream` if `stream` is set and the status is below 400."""

    request: Request
    stream: bool = False


@dataclass(frozen=True)
class Send:
    """Send a request, again where it may help → as `Once`. A status of 400 or more is raised."""

    request: Request
    stream: bool = False


@dataclass(frozen=True)
class Read:
    """Read on → bytes, empty at the end."""

    stream: Stream


@dataclass(frozen=True)
class Close:
    """Drop a stream → None. What a flow leaves open its driver closes."""

    stream: Stream


@dataclass(frozen=True)
class Sleep:
    """Wait → None."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Call a function that blocks on the local disk → what it returns."""

    call: Callable[[], Any]


@dataclass(frozen=True)
class Emit(Generic[T_co]):
    """Hand an item to whoever iterates → None."""

    item: T_co


Effect: TypeAlias = Once | Send | Read | Close | Sleep | Work
Flow: TypeAlias = Generator[Effect, Any, T]
"""Comes to one result."""
Items: TypeAlias = Generator[Effect | Emit[T], Any, None]
"""Comes to many, one after the other."""


def send(request: Request) -> Flow[Reply]:
    """Send a request and take the whole answer."""
    reply: Reply = yield Send(request)
    return reply


def open_stream(request: Request) -> Flow[Stream]:
    """Send a request and leave its body to be read."""
    stream: Stream = yield Send(request, stream=True)
    return stream


def read(stream: Stream) -> Flow[bytes]:
    """Read on; empty at the end."""
    chunk: bytes = yield Read(stream)
    return chunk


def work(call: Callable[[], T]) -> Flow[T]:
    """Do something on the local disk."""
    result: T = yield Work(call)
    return result
