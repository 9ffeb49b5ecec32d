"""The only module that knows HTTP: two drivers that carry out a flow's effects, one for threads and one for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from meshyard.effects import Close, Effect, Emit, Flow, Items, Once, Read, Reply, Request, Send, Sleep, Stream, Upload, Work
from meshyard.errors import APIConnectionError, APIError, APIResponseError, APITimeoutError
from meshyard.retries import Policy, persist

T = TypeVar("T")
CHUNK_BYTES = 1024 * 1024
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Connection:
    """Where the service is and how to speak to it.

    Attributes:
        timeout_seconds: for connecting, and between any two bytes.
    """

    server: str
    headers: dict[str, str]
    timeout_seconds: float = 30.0
    policy: Policy = field(default_factory=Policy)

    def options(self) -> dict[str, Any]:
        """Arguments that both kinds of httpx client take."""
        # A proxy from the environment has no business between a user and this machine.
        local = urlsplit(self.server).hostname in LOOPBACK
        return {"base_url": self.server, "headers": self.headers, "timeout": self.timeout_seconds, "trust_env": not local}


@contextmanager
def _translated(server: str) -> Generator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise APITimeoutError(f"{server} did not answer in time ({type(error).__name__})") from error
    except (httpx.TransportError, httpx.StreamError) as error:
        raise APIConnectionError(f"cannot reach {server}: {error or type(error).__name__}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise APIResponseError(f"{server}: {error}") from error


def _message(client: httpx.Client | httpx.AsyncClient, request: Request, body: Any, seconds: float) -> httpx.Request:
    headers = dict(request.headers)
    if isinstance(request.body, Upload) and request.body.path.is_file():  # of a pipe nobody knows the length
        headers["Content-Length"] = str(request.body.path.stat().st_size)
    timeout = httpx.Timeout(seconds, read=seconds if request.read_seconds is None else request.read_seconds)
    return client.build_request(request.method, request.path, params=request.query, content=body, headers=headers, timeout=timeout)


def _read_file(upload: Upload) -> Iterator[bytes]:
    with upload.path.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk
            upload.on_bytes(len(chunk))


async def _read_file_async(upload: Upload) -> AsyncIterator[bytes]:
    for chunk in _read_file(upload):
        yield chunk


@dataclass
class _Handle:
    response: Any
    chunks: Any


class _Progress:
    """A flow and the answer it waits for: what both drivers do between two effects."""

    def __init__(self, flow: Flow[Any] | Items[Any]) -> None:
        self._flow = flow
        self._answer: Any = None
        self._error: APIError | None = None

    def advance(self) -> Effect | Emit[Any]:
        """The flow's next effect. Raises StopIteration with its result."""
        answer, error = self._answer, self._error
        self._answer = self._error = None
        return self._flow.send(answer) if error is None else self._flow.throw(error)

    def answer(self, value: Any) -> None:
        """What the flow is sent next."""
        self._answer = value

    def fail(self, error: APIError) -> None:
        """What the flow is to see raised next."""
        self._error = error

    def close(self) -> None:
        """Leave the flow where it stands."""
        self._flow.close()


class SyncDriver:
    """Carries flows out in the calling thread. Safe to share between threads."""

    def __init__(self, connection: Connection, transport: httpx.BaseTransport | None = None) -> None:
        self.connection = connection
        self._client = httpx.Client(transport=transport, **connection.options())

    def run(self, flow: Flow[T]) -> T:
        """Carry a flow to its end and give its result."""
        items = self._steps(flow)
        while True:
            try:
                next(items)
            except StopIteration as end:
                return end.value

    def iterate(self, flow: Items[T]) -> Iterator[T]:
        """Carry a flow out as its items are asked for."""
        yield from self._steps(flow)

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def _steps(self, flow: Flow[Any] | Items[Any]) -> Iterator[Any]:
        progress, opened = _Progress(flow), list[Stream]()
        try:
            while True:
                effect = progress.advance()
                if isinstance(effect, Emit):
                    yield effect.item
                    continue
                try:
                    progress.answer(self._perform(effect, opened))
                except APIError as error:
                    progress.fail(error)
        except StopIteration as end:
            return end.value
        finally:
            progress.close()
            for stream in opened:
                stream.handle.response.close()

    def _perform(self, effect: Effect, opened: list[Stream]) -> Any:
        match effect:
            case Send():
                answer = self.run(persist(effect, self.connection.policy))
                opened.extend([answer] if isinstance(answer, Stream) else [])
                return answer
            case Once():
                return self._once(effect)
            case Read(stream):
                with _translated(self.connection.server):
                    return next(stream.handle.chunks, b"")
            case Close(stream):
                return stream.handle.response.close()
            case Sleep(seconds):
                return time.sleep(seconds)
            case Work(call):
                return call()

    def _once(self, effect: Once) -> Reply | Stream:
        request, server = effect.request, self.connection.server
        with _translated(server):
            body = _read_file(request.body) if isinstance(request.body, Upload) else request.body
            message = _message(self._client, request, body, self.connection.timeout_seconds)
            response = self._client.send(message, stream=True)
            if effect.stream and response.status_code < 400:
                return Stream(response.status_code, response.headers, _Handle(response, response.iter_bytes()))
            try:
                return Reply(response.status_code, response.headers, response.read())
            finally:
                response.close()


async def _release(progress: _Progress, opened: list[Stream]) -> None:
    progress.close()
    for stream in opened:
        await stream.handle.response.aclose()


class AsyncDriver:
    """Carries flows out on the running event loop."""

    def __init__(self, connection: Connection, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.connection = connection
        self._client = httpx.AsyncClient(transport=transport, **connection.options())

    def run(self, flow: Flow[T]) -> Coroutine[Any, Any, T]:
        """Carry a flow to its end and give its result."""
        return self._run(flow)

    async def iterate(self, flow: Items[T]) -> AsyncIterator[T]:
        """Carry a flow out as its items are asked for."""
        progress, opened = _Progress(flow), list[Stream]()
        try:
            while True:
                effect = progress.advance()
                if isinstance(effect, Emit):
                    yield effect.item
                else:
                    await self._answer(progress, effect, opened)
        except StopIteration:
            return
        finally:
            await _release(progress, opened)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _run(self, flow: Flow[T]) -> T:
        progress, opened = _Progress(flow), list[Stream]()
        try:
            while True:
                effect = progress.advance()
                if not isinstance(effect, Emit):
                    await self._answer(progress, effect, opened)
        except StopIteration as end:
            return end.value
        finally:
            await _release(progress, opened)

    async def _answer(self, progress: _Progress, effect: Effect, opened: list[Stream]) -> None:
        try:
            progress.answer(await self._perform(effect, opened))
        except APIError as error:
            progress.fail(error)

    async def _perform(self, effect: Effect, opened: list[Stream]) -> Any:
        match effect:
            case Send():
                answer = await self._run(persist(effect, self.connection.policy))
                opened.extend([answer] if isinstance(answer, Stream) else [])
                return answer
            case Once():
                return await self._once(effect)
            case Read(stream):
                with _translated(self.connection.server):
                    return await anext(stream.handle.chunks, b"")
            case Close(stream):
                return await stream.handle.response.aclose()
            case Sleep(seconds):
                return await asyncio.sleep(seconds)
            case Work(call):
                return await asyncio.to_thread(call)

    async def _once(self, effect: Once) -> Reply | Stream:
        request, server = effect.request, self.connection.server
        with _translated(server):
            body = _read_file_async(request.body) if isinstance(request.body, Upload) else request.body
            message = _message(self._client, request, body, self.connection.timeout_seconds)
            response = await self._client.send(message, stream=True)
            if effect.stream and response.status_code < 400:
                return Stream(response.status_code, response.headers, _Handle(response, response.aiter_bytes()))
            try:
                return Reply(response.status_code, response.headers, await response.aread())
            finally:
                await response.aclose()
