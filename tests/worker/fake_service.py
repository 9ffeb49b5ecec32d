"""The service as a worker sees it, in memory, on a real socket, with faults on demand."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from jobs.protocol import Claim, Finish, Heartbeat, Register, Report
from tests.worker.polling import until

TOKEN = "the token of the probe file"


@dataclass
class Fault:
    """Answers for the next requests whose path holds `part`."""

    part: str
    times: int
    status: int
    after: bool = False
    """Answer so only when the request has taken effect: its reply is lost."""

    code: str = "unavailable"


@dataclass
class Attempt:
    """What the service has heard of one attempt."""

    fence: int
    beats: list[Heartbeat] = field(default_factory=list[Heartbeat])
    reports: list[Report] = field(default_factory=list[Report])
    bodies: dict[int, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    finish: Finish | None = None
    finishes: int = 0
    finish_headers: dict[str, str] = field(default_factory=dict[str, str])
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    parts: dict[str, bytes] = field(default_factory=dict[str, bytes])
    command: str = "continue"
    sequence: int = 0
    save: bool = True
    superseded: bool = False

    @property
    def log(self) -> str:
        return "".join(report.logs for report in self.reports)

    @property
    def checkpoints(self) -> list[int]:
        return [committed.step for report in self.reports for committed in report.checkpoints]

    def points(self, name: str) -> list[tuple[int, float | None]]:
        found = [series for report in self.reports for series in report.series if series.name == name]
        return [point for series in found for point in zip(series.steps, series.values, strict=True)]


class Problem(Exception):
    def __init__(self, status: int, code: str) -> None:
        self.status = status
        self.code = code


class FakeService:
    """Start it with `up`, stop it with `down`; it keeps its port and what it knows.

    Args:
        root: the artifact folder, shared with workers if `shared`.
    """

    def __init__(self, root: Path, *, shared: bool = True, lease_seconds: float = 3.0, api_key: str | None = None) -> None:
        self.root = root
        self.shared = shared
        self.lease_seconds = lease_seconds
        self.api_key = api_key
        self.queue: deque[dict[str, Any]] = deque()
        self.attempts: dict[str, Attempt] = {}
        self.workers: list[Register] = []
        self.known: set[str] = set()
        self.draining: set[str] = set()
        self.claims = 0
        self.faults: list[Fault] = []
        self.contents: dict[str, bytes] = {}
        self.traces: list[bytes] = []
        self.cut_downloads_at: int | None = None
        self.cut_uploads_at: int | None = None
        self.offsets_asked: list[str] = []
        self.says_draining = True
        self.ranges: list[str] = []
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        root.mkdir(parents=True, exist_ok=True)
        (root / "probe").write_text(TOKEN)
        (root / "jobs").mkdir(exist_ok=True)

    # -- what a test does ----------------------------------------------------------------------------------------------------

    def submit(self, script: list[list[Any]], devices: int = 1, **more: Any) -> Attempt:
        """Queue a job for the fake child. Gives what will be heard of it."""
        number = len(self.attempts) + 1
        attempt_id = f"att_{number}"
        storage = {"type": "file", "root": str(self.root)} if self.shared else {"type": "http"}
        assignment = {
            "job_id": f"job_{number}",
            "attempt_id": attempt_id,
            "number": 1,
            "fence": number,
            "lease_seconds": self.lease_seconds,
            "spec": {"script": script},
            "mesh_axes": {"data": devices},
            "devices": devices,
            "prefix": f"jobs/job_{number}/{attempt_id}",
            "storage": storage,
            "dataset": None,
            "resume": None,
            "a field of a newer service": True,
        }
        self.attempts[attempt_id] = Attempt(fence=number)
        self.queue.append(assignment | more)
        return self.attempts[attempt_id]

    def fail(self, part: str, times: int, status: int, *, after: bool = False, code: str = "unavailable") -> Fault:
        """Make requests fail."""
        fault = Fault(part, times, status, after, code)
        self.faults.append(fault)
        return fault

    def up(self) -> None:
        """Serve."""
        config = uvicorn.Config(self.app(), host="127.0.0.1", port=self.port, log_level="critical", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until(lambda: self._server is not None and self._server.started)

    def down(self) -> None:
        """Stop serving; whoever waits for an answer gets none."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
            self._server = None

    @contextmanager
    def running(self) -> Iterator[FakeService]:
        self.up()
        try:
            yield self
        finally:
            self.down()

    # -- the routes ----------------------------------------------------------------------------------------------------------

    def app(self) -> FastAPI:
        app = FastAPI()
        app.middleware("http")(self._with_faults)
        app.post("/v1/workers")(self._register)
        app.post("/v1/workers/{worker_id}/claim")(self._claim)
        app.post("/v1/workers/{worker_id}/drain")(self._drain)
        app.post("/v1/attempts/{attempt_id}/heartbeat")(self._heartbeat)
        app.post("/v1/attempts/{attempt_id}/report")(self._report)
        app.post("/v1/attempts/{attempt_id}/finish")(self._finish)
        app.put("/v1/attempts/{attempt_id}/files/{path:path}")(self._put)
        app.head("/v1/attempts/{attempt_id}/files/{path:path}")(self._head)
        app.get("/v1/workers/{worker_id}")(self._worker)
        app.post("/v1/traces")(self._collect)
        app.get("/v1/{path:path}")(self._content)
        app.exception_handler(Problem)(_problem)
        return app

    async def _with_faults(self, request: Request, call_next: Any) -> Response:
        if self.api_key is not None and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return _document(401, "unauthorized")
        fault = next((fault for fault in self.faults if fault.times and fault.part in request.url.path), None)
        if fault is None:
            return await call_next(request)
        fault.times -= 1
        if fault.after:
            await call_next(request)
        return _document(fault.status, fault.code)

    async def _register(self, request: Request) -> dict[str, Any]:
        self.workers.append(Register.model_validate_json(await request.body()))
        worker_id = f"wrk_{len(self.workers)}"
        self.known.add(worker_id)
        probe = {"path": str(self.root / "probe"), "token": TOKEN} if self.shared else None
        return {"id": worker_id, "lease_seconds": self.lease_seconds, "probe": probe}

    async def _claim(self, worker_id: str, request: Request) -> Response:
        claim = Claim.model_validate_json(await request.body())
        self.claims += 1
        for _ in range(int(claim.wait_seconds / 0.02)):
            if worker_id not in self.known:
                raise Problem(404, "not_found")
            if worker_id in self.draining and self.says_draining:
                raise Problem(409, "worker_draining")
            if self._server is None or self._server.should_exit or await request.is_disconnected():
                break
            if "attempt" in claim.takes and self.queue and self.queue[0]["devices"] <= claim.devices:
                return JSONResponse(self.queue.popleft())
            await asyncio.sleep(0.02)
        return Response(status_code=204)

    async def _drain(self, worker_id: str) -> dict[str, Any]:
        self.draining.add(worker_id)
        return {}

    def _held(self, attempt_id: str, fence: int) -> Attempt:
        attempt = self.attempts.get(attempt_id)
        if attempt is None:
            raise Problem(404, "not_found")
        if attempt.superseded or fence != attempt.fence:
            raise Problem(409, "attempt_superseded")
        return attempt

    async def _heartbeat(self, attempt_id: str, request: Request) -> dict[str, Any]:
        beat = Heartbeat.model_validate_json(await request.body())
        attempt = self._held(attempt_id, beat.fence)
        attempt.beats.append(beat)
        command = attempt.command if attempt.sequence > beat.handled else "continue"
        return {"command": command, "sequence": attempt.sequence, "save": attempt.save, "lease_seconds": self.lease_seconds}

    async def _report(self, attempt_id: str, request: Request) -> dict[str, Any]:
        body = await request.body()
        report = Report.model_validate_json(body)
        attempt = self._held(attempt_id, report.fence)
        attempt.bodies[report.batch].add(body)
        if report.batch == len(attempt.reports) + 1:
            for committed in report.checkpoints:
                self._require(attempt_id, attempt, committed.model_dump())
            attempt.reports.append(report)
        elif report.batch > len(attempt.reports):
            raise Problem(422, "batch_left_out")
        return {"batch": report.batch}

    def _require(self, attempt_id: str, attempt: Attempt, committed: dict[str, Any]) -> None:
        """A checkpoint's files are there, byte for byte."""
        named = [(f"checkpoints/{committed['step']}/{file['path']}", file) for file in committed["files"]]
        named += [(f"outputs/{file['path']}", file) for file in committed["fresh"]]
        for path, file in named:
            content = self.stored(attempt_id, path) if self.shared else attempt.files.get(path)
            if content is None or (len(content), hashlib.sha256(content).hexdigest()) != (file["bytes"], file["sha256"]):
                raise Problem(422, "file_missing")

    def stored(self, attempt_id: str, path: str) -> bytes | None:
        """A file of an attempt in the artifact folder."""
        source = self.root / "jobs" / attempt_id.replace("att", "job") / attempt_id / path
        return source.read_bytes() if source.is_file() else None

    async def _finish(self, attempt_id: str, request: Request) -> dict[str, Any]:
        finish = Finish.model_validate_json(await request.body())
        attempt = self._held(attempt_id, finish.fence)
        attempt.finish_headers = dict(request.headers)
        attempt.finish = finish
        attempt.finishes += 1
        return {"status": "succeeded"}

    async def _collect(self, request: Request) -> Response:
        """What a collector of OpenTelemetry does, at the same address."""
        self.traces.append(await request.body())
        return Response(media_type="application/x-protobuf")

    async def _put(self, attempt_id: str, path: str, request: Request) -> dict[str, Any]:
        attempt = self._held(attempt_id, int(request.headers["X-Meshyard-Fence"]))
        first = int(request.headers.get("Content-Range", "bytes 0-").removeprefix("bytes ").partition("-")[0])
        held = attempt.parts.get(path, b"") if first else b""
        if first != len(held):
            raise Problem(409, "conflict")
        async for chunk in request.stream():
            if self.cut_uploads_at is not None and len(held) + len(chunk) > self.cut_uploads_at:
                attempt.parts[path], self.cut_uploads_at = held, None
                raise Problem(503, "unavailable")
            held += chunk
        if hashlib.sha256(held).hexdigest() != request.headers["X-Content-SHA256"]:
            raise Problem(422, "invalid_request")
        attempt.files[path] = held
        return {"bytes": len(held), "complete": True}

    async def _head(self, attempt_id: str, path: str) -> Response:
        attempt = self.attempts[attempt_id]
        self.offsets_asked.append(path)
        whole = path in attempt.files
        held = attempt.files[path] if whole else attempt.parts.get(path, b"")
        return Response(headers={"Upload-Offset": str(len(held)), "Upload-Complete": "?1" if whole else "?0"})

    async def _worker(self, worker_id: str) -> dict[str, Any]:
        return {"id": worker_id, "status": "draining" if worker_id in self.draining else "active"}

    async def _content(self, path: str, request: Request) -> Response:
        content = self.contents.get(path)
        if content is None:
            raise Problem(404, "not_found")
        header = request.headers.get("Range", "")
        self.ranges.append(header)
        start = int(header.removeprefix("bytes=").removesuffix("-") or 0)
        body = content[start:]
        headers = {"Content-Length": str(len(body))}
        if self.cut_downloads_at is not None and len(body) > self.cut_downloads_at:
            body, self.cut_downloads_at = body[: self.cut_downloads_at], None
        return Response(body, 206 if header else 200, headers)


def _document(status: int, code: str) -> JSONResponse:
    document = {"status": status, "code": code, "detail": f"a fault called {code}"}
    return JSONResponse(document, status, media_type="application/problem+json")


async def _problem(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, Problem):
        raise error
    return _document(error.status, error.code)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
