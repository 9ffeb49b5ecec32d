"""The service as its workers see it. The one module of the worker that knows HTTP.

Three things can come of a call that fails: `Unreachable` (try again, unchanged), `Refused` (trying again will not help) and
`AttemptSuperseded` (stop this attempt).
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from jobs.errors import AttemptSuperseded, MeshyardError
from jobs.protocol import (
    Assignment,
    Beat,
    Claim,
    File,
    Finish,
    Finished,
    Heartbeat,
    Preflight,
    PreflightBeat,
    PreflightFinish,
    PreflightKept,
    Register,
    Registered,
    Taken,
    Uploaded,
)

Answer = TypeVar("Answer", bound=BaseModel)

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
BEAT_SECONDS = 5.0
JSON = {"Content-Type": "application/json"}
PASSING = frozenset({408, 425, 429})
"""Statuses below 500 that say "not now" and nothing about the request."""


class Unreachable(MeshyardError):
    """No answer, or one that says the service is in trouble. The same request may be sent again."""


class Refused(MeshyardError):
    """The service understood the request and said no."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{detail} ({status} {code})")
        self.status = status
        self.code = code
        self.detail = detail


class Problem(BaseModel):
    """What this module reads of a refusal (RFC 9457)."""

    code: str = "unknown"
    detail: str = ""


class Standing(BaseModel):
    """What this module reads of a worker as the service shows it."""

    status: str = "active"


class Given(BaseModel):
    """What tells the two answers to a claim apart."""

    preflight_id: str | None = None


class Service:
    """Calls of the workers' API, each tried once.

    Args:
        server: address of the service.
        api_key: bearer key, if the service has one.
        transport: another way to carry requests (tests).
    """

    def __init__(self, server: str, api_key: str | None, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.server = server.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=self.server,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=_timeout(ANSWER_SECONDS),
            # Beats must never queue behind uploads for a connection.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=30.0),
            trust_env=not _is_loopback(self.server),
            transport=transport,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def register(self, document: Register) -> Registered:
        """Introduce this process."""
        return await self._post("/v1/workers", document, Registered)

    async def drain(self, worker_id: str) -> None:
        """Tell the service that this worker takes nothing more."""
        await self._request("POST", f"/v1/workers/{worker_id}/drain")

    async def claim(self, worker_id: str, document: Claim) -> Assignment | Preflight | None:
        """Ask for work; None when there is nothing to do."""
        path = f"/v1/workers/{worker_id}/claim"
        response = await self._request("POST", path, document, seconds=document.wait_seconds + ANSWER_SECONDS)
        if response.status_code == 204:
            return None
        given = _parsed(response, Given)
        return _parsed(response, Assignment if given.preflight_id is None else Preflight)

    async def renew_preflight(self, preflight_id: str, fence: int) -> PreflightKept:
        """Say that a spec is still being looked at. Raises AttemptSuperseded when nobody waits any more."""
        path = f"/v1/preflights/{preflight_id}/heartbeat"
        return await self._post(path, PreflightBeat(fence=fence), PreflightKept, BEAT_SECONDS)

    async def finish_preflight(self, preflight_id: str, document: PreflightFinish) -> PreflightKept:
        """Tell what a look at a spec came to. Raises AttemptSuperseded when nobody waits any more."""
        return await self._post(f"/v1/preflights/{preflight_id}/finish", document, PreflightKept)

    async def heartbeat(self, attempt_id: str, document: Heartbeat) -> Beat:
        """Renew the lease. Raises AttemptSuperseded when it is held no more."""
        return await self._post(f"/v1/attempts/{attempt_id}/heartbeat", document, Beat, BEAT_SECONDS)

    async def report(self, attempt_id: str, body: bytes) -> Taken:
        """Send one batch, already written as JSON. Raises AttemptSuperseded when the fence is stale."""
        response = await self._request("POST", f"/v1/attempts/{attempt_id}/report", body)
        return _parsed(response, Taken)

    async def finish(self, attempt_id: str, document: Finish, traceparent: str | None = None) -> Finished:
        """Tell how the attempt ended, as a part of its trace if it has one. Raises AttemptSuperseded when the fence is stale."""
        path, headers = f"/v1/attempts/{attempt_id}/finish", dict(JSON)
        if traceparent is not None:
            headers["traceparent"] = traceparent
        return _parsed(await self._request("POST", path, document, headers=headers), Finished)

    async def upload(self, attempt_id: str, fence: int, file: File, offset: int, content: AsyncIterator[bytes]) -> Uploaded:
        """Send the bytes of `file` from `offset` on, which must be where the upload stands. 0 begins anew.

        Args:
            attempt_id: whose file it is.
            fence: the right to write it.
            file: its path relative to the attempt's folder, its size and digest.
            offset: where `content` begins.
            content: the bytes to the end of the file.
        """
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(file.bytes - offset),
            "X-Meshyard-Fence": str(fence),
            "X-Content-SHA256": file.sha256,
        }
        if offset:
            headers["Content-Range"] = f"bytes {offset}-{file.bytes - 1}/{file.bytes}"
        return _parsed(await self._request("PUT", _upload_path(attempt_id, file), content, headers=headers), Uploaded)

    async def uploaded(self, attempt_id: str, file: File) -> Uploaded:
        """Ask how far the upload of a file has come."""
        headers = (await self._request("HEAD", _upload_path(attempt_id, file))).headers
        held = headers.get("Upload-Offset", "0")
        return Uploaded(bytes=int(held) if held.isdecimal() else 0, complete=headers.get("Upload-Complete") == "?1")

    async def is_draining(self, worker_id: str) -> bool:
        """Whether the service wants this worker to take nothing more."""
        return _parsed(await self._request("GET", f"/v1/workers/{worker_id}"), Standing).status == "draining"

    @asynccontextmanager
    async def content(self, path: str, offset: int) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open a file of the service from `offset` on: an iterator of its bytes, which raises Unreachable when it breaks off."""
        # Compressed on the way, the bytes could not be counted.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        try:
            async with self._http.stream("GET", path, headers=headers) as response:
                if response.status_code != (206 if offset else 200):
                    await response.aread()
                    _check(response)
                    raise Refused(response.status_code, "no_range", "the service did not give the part of the file asked for")
                yield response.aiter_raw()
        except httpx.RequestError as error:
            raise Unreachable(_sentence(error)) from error

    async def _post(self, path: str, document: BaseModel, answer: type[Answer], seconds: float = ANSWER_SECONDS) -> Answer:
        return _parsed(await self._request("POST", path, document, seconds=seconds), answer)

    async def _request(
        self,
        method: str,
        path: str,
        body: BaseModel | bytes | AsyncIterator[bytes] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> httpx.Response:
        content = body.model_dump_json().encode() if isinstance(body, BaseModel) else body
        headers = JSON if headers is None and content is not None else headers
        try:
            response = await self._http.request(method, path, content=content, headers=headers, timeout=_timeout(seconds))
        except httpx.RequestError as error:
            raise Unreachable(_sentence(error)) from error
        _check(response)
        return response


def dataset_content(dataset_id: str) -> str:
    """Where the service gives a dataset's bytes."""
    return f"/v1/datasets/{quote(dataset_id)}/content"


def code_content(code_id: str) -> str:
    """Where the service gives a bundle's bytes."""
    return f"/v1/code/{quote(code_id)}/content"


def checkpoint_file(job_id: str, step: int, path: str) -> str:
    """Where the service gives a file of a checkpoint."""
    return f"/v1/jobs/{quote(job_id)}/checkpoints/{step}/files/{quote(path)}"


def artifact(job_id: str, path: str) -> str:
    """Where the service gives an artifact of a job."""
    return f"/v1/jobs/{quote(job_id)}/artifacts/{quote(path)}"


def _upload_path(attempt_id: str, file: File) -> str:
    return f"/v1/attempts/{attempt_id}/files/{quote(file.path)}"


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=CONNECT_SECONDS)


def _is_loopback(server: str) -> bool:
    # A proxy of the environment cannot reach this machine's own loopback.
    host = urlsplit(server).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _sentence(error: httpx.RequestError) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _check(response: httpx.Response) -> None:
    """Raise what a status that is no success means."""
    if response.is_success:
        return
    code, detail = _problem(response)
    if response.status_code >= 500 or response.status_code in PASSING:
        raise Unreachable(f"the service answers {response.status_code} {detail}")
    # An attempt that the service does not know at all (its job deleted, an older database) is as good as superseded.
    held = any(part in response.url.path for part in ("/v1/attempts/", "/v1/preflights/"))
    lost = response.status_code == 404 and code == "not_found" and held
    if lost or (response.status_code == 409 and code == "attempt_superseded"):
        raise AttemptSuperseded(detail)
    raise Refused(response.status_code, code, detail)


def _problem(response: httpx.Response) -> tuple[str, str]:
    """Code and detail of a problem document; plain words where the answer is none."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        problem = Problem()
    return problem.code, problem.detail or response.reason_phrase


def _parsed(response: httpx.Response, answer: type[Answer]) -> Answer:
    try:
        # A newer service may say more than this worker knows.
        return answer.model_validate_json(response.content, extra="ignore")
    except ValidationError as error:
        raise Unreachable(f"the answer was not understood: {error.error_count()} faults in {answer.__name__}") from error
