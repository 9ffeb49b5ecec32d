"""A service in a few lines, to test the client against: it answers as the contract says, and fails when it is told to.

It keeps jobs in memory and runs nothing; a test moves a job along by changing its document.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from jobs.ids import new_id

NOW = "2026-11-20T10:00:00.000000Z"
TERMINAL = {"succeeded", "failed", "cancelled"}
FILES = {"state/params": bytes(range(256)) * 3000, "meta/info.json": b"{}", "data/empty": b""}


def new_job(**fields: Any) -> dict[str, Any]:
    """A job document with every key of the contract."""
    document: dict[str, Any] = {
        "object": "job", "id": new_id("job"), "kind": "train", "name": None, "metadata": {}, "priority": 0, "project": "default",
        "spec": {}, "resolved_spec": {}, "spec_version": 1, "status": "queued", "phase": "waiting_capacity", "status_reason": None,
        "queue_position": 1, "progress": {"step": 0, "total": 100, "unit": "step"}, "attempt": None, "parent": None, "group": None,
        "error": None, "created_at": NOW, "started_at": None, "finished_at": None,
    }  # fmt: skip
    return document | fields


def problem(status: int, code: str, detail: str, **members: Any) -> Response:
    """A refusal."""
    content = {"type": "about:blank", "title": "Refused", "status": status, "detail": detail, "code": code, "errors": [], **members}
    return JSONResponse(content, status, {"X-Request-Id": "req_1"}, "application/problem+json")


@dataclass
class Fault:
    """What to do instead, for the next `times` requests that a test picks: an answer, or None to break the connection."""

    matches: Callable[[Request], bool]
    answer: Response | None
    times: int = 1


@dataclass
class World:
    """What the stand-in knows, and what it has been asked."""

    key: str | None = None
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    series: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    logs: str = "line one\nline two\n"
    result: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    uploads: list[bytes] = field(default_factory=list)
    break_files_after: list[int] = field(default_factory=list)
    break_stream_after: list[int] = field(default_factory=list)
    mute_stream: bool = False
    flip: bool = False

    def add(self, **fields: Any) -> dict[str, Any]:
        """A new job."""
        job = new_job(**fields)
        self.jobs[job["id"]], self.events[job["id"]] = job, []
        self.tell(job["id"], "job.queued")
        return job

    def tell(self, job_id: str, kind: str, **data: Any) -> None:
        """Append an event."""
        events = self.events[job_id]
        events.append(
            {"object": "event", "id": new_id("evt"), "seq": len(events) + 1, "created_at": NOW, "type": kind, "data": data}
        )

    def end(self, job_id: str, status: str, **fields: Any) -> None:
        """End a job."""
        self.jobs[job_id].update(status=status, phase=None, queue_position=None, started_at=NOW, finished_at=NOW, **fields)
        self.tell(job_id, f"job.{status}")

    def asked(self, method: str, ending: str) -> list[dict[str, str]]:
        """Headers of every request of that kind."""
        return [headers for verb, path, headers in self.requests if verb == method and path.endswith(ending)]


def make_app(world: World) -> Starlette:
    """The stand-in as an application."""
    routes = [Route(path, partial(_gate, world, handler), methods=[method]) for (method, path), handler in ROUTES.items()]
    return Starlette(routes=routes)


async def _gate(world: World, handler: Any, request: Request) -> Response:
    world.requests.append((request.method, request.url.path, dict(request.headers)))
    for fault in world.faults:
        if fault.times and fault.matches(request):
            fault.times -= 1
            return fault.answer or StreamingResponse(_broken(), headers={"Content-Length": "1000"})
    is_open = request.url.path in ("/healthz", "/readyz", "/openapi.json")
    if world.key and not is_open and request.headers.get("authorization") != f"Bearer {world.key}":
        return problem(401, "unauthorized", "Give a key.")
    return await handler(world, request)


async def _broken() -> AsyncIterator[bytes]:
    yield b"{"
    raise ConnectionAbortedError


def _page(request: Request, rows: list[dict[str, Any]], key: str) -> Response:
    limit, after = int(request.query_params.get("limit", "20")), request.query_params.get("after")
    start = 1 + next((index for index, row in enumerate(rows) if str(row[key]) == after), -1)
    page, more = rows[start : start + limit], start + limit < len(rows)
    return JSONResponse({"object": "list", "data": page, "has_more": more, "next": str(page[-1][key]) if more else None})


def _whole(rows: list[Any]) -> Response:
    return JSONResponse({"object": "list", "data": rows, "has_more": False, "next": None})


def _faults_of(spec: Any) -> list[dict[str, str]]:
    found = [
        {"pointer": f"/{name}", "code": "unknown_field", "detail": "There is no such field."} for name in spec if name == "bogus"
    ]
    if spec.get("optimizer", {}).get("type") == "adamx":
        found.append({"pointer": "/optimizer/type", "code": "unknown_value", "detail": "Did you mean adam?"})
    return found


async def submit(world: World, request: Request) -> Response:
    spec, key = json.loads(await request.body()), request.headers.get("idempotency-key")
    if faults := _faults_of(spec):
        return problem(422, "invalid_spec", "The job's spec cannot be accepted; see errors.", errors=faults)
    if key in world.keys:
        return JSONResponse(world.keys[key], 201, {"Idempotent-Replayed": "true"})
    job = world.add(kind=spec["kind"], name=spec.get("name"), spec=spec)
    if key:
        world.keys[key] = job
    return JSONResponse(job, 201)


async def validate(_world: World, request: Request) -> Response:
    faults = _faults_of(await request.json())
    return JSONResponse({"valid": not faults, "errors": faults, "report": None})


async def list_jobs(world: World, request: Request) -> Response:
    statuses, name = request.query_params.getlist("status"), request.query_params.get("name")
    rows = [job for job in reversed(world.jobs.values()) if not statuses or job["status"] in statuses]
    return _page(request, [job for job in rows if name is None or job["name"] == name], "id")


async def get_job(world: World, request: Request) -> Response:
    job = world.jobs.get(request.path_params["job"])
    return NO_JOB if job is None else JSONResponse(job)


async def change_job(world: World, request: Request) -> Response:
    job = world.jobs[request.path_params["job"]]
    job.update(await request.json())
    return JSONResponse(job)


async def delete_job(world: World, request: Request) -> Response:
    job = world.jobs.get(request.path_params["job"])
    if job is None:
        return NO_JOB
    if job["status"] not in TERMINAL:
        return problem(409, "conflict", "The job has not ended.", current_status=job["status"])
    del world.jobs[job["id"]]
    return Response(status_code=204)


async def steer(world: World, request: Request) -> Response:
    job, word = world.jobs.get(request.path_params["job"]), request.path_params["word"]
    if job is None:
        return NO_JOB
    if word in {"retry", "clone", "extend"}:
        return JSONResponse(world.add(parent={"job": job["id"], "relation": word}), 201)
    if job["status"] in TERMINAL:
        return problem(409, "illegal_transition", f"The job is {job['status']}.", current_status=job["status"])
    job["status"] = {"cancel": "cancelled", "pause": "paused", "resume": "queued"}.get(word, job["status"])
    return JSONResponse(job, 202)


async def events(world: World, request: Request) -> Response:
    return _page(request, world.events[request.path_params["job"]], "seq")


async def stream(world: World, request: Request) -> Response:
    seq = int(request.headers.get("last-event-id", "0"))
    return StreamingResponse(_stream(world, request.path_params["job"], seq), media_type="text/event-stream")


async def metrics(world: World, request: Request) -> Response:
    names, step = request.query_params.get("names"), int(request.query_params.get("from_step", "0"))
    wanted = names.split(",") if names else None
    series = world.series.get(request.path_params["job"], [])
    shown = [_from(one, step) for one in series if wanted is None or one["name"] in wanted]
    return JSONResponse({"object": "metrics", "series": shown})


async def logs(world: World, request: Request) -> Response:
    lines, tail = world.logs.splitlines(keepends=True), request.query_params.get("tail")
    return Response("".join(lines if tail is None else lines[-int(tail) :]), media_type="text/plain")


async def attempts(_world: World, _request: Request) -> Response:
    cause = {"code": "child_killed", "message": "killed by signal 9"}
    first = {"id": new_id("att"), "number": 1, "workers": ["wrk_1"], "started_at": NOW, "ended_at": NOW, "ending": "failed"}
    return _whole([first | {"cause": cause, "step": 60, "steps_lost": 10}])


async def program(_world: World, request: Request) -> Response:
    model = {"type": "program", "data": {}, "body": [{"sample": "mu", "distribution": {"type": "Normal", "loc": 0, "scale": 1}}]}
    return JSONResponse({"object": "program", "job": request.path_params["job"], "model": model, "design": None})


async def place(_world: World, request: Request) -> Response:
    reason = {
        "code": "NoMatchingWorker",
        "message": "No worker is connected.",
        "hint": "Start one with: meshyard work",
        "since": NOW,
    }
    worker = {"id": "wrk_1", "platform": "cpu", "device_count": 1, "free_devices": 1, "lacks": ["8 devices"], "kept_for": None}
    job = {"job_id": request.path_params["job"], "status": "queued", "status_reason": reason, "queue_position": 2}
    ahead = [{"id": new_id("job"), "name": "first", "priority": 1, "devices": 1, "queued_at": NOW}]
    return JSONResponse({"object": "queue_place", **job, "ahead": ahead, "workers": [worker]})


async def result(world: World, _request: Request) -> Response:
    return JSONResponse(world.result) if world.result else problem(409, "conflict", "The job has no result yet.")


async def checkpoints(world: World, _request: Request) -> Response:
    return _whole(world.checkpoints)


async def pin(world: World, request: Request) -> Response:
    found = next(item for item in world.checkpoints if item["step"] == int(request.path_params["step"]))
    return JSONResponse({**found, **await request.json()})


async def manifest(world: World, _request: Request) -> Response:
    return _whole([{"path": path, "bytes": len(data), "sha256": sha256(data)} for path, data in world.files.items()])


async def archive(_world: World, request: Request) -> Response:
    return Response(b"an archive as " + request.query_params["format"].encode())


async def file(world: World, request: Request) -> Response:
    return _ranged(world, world.files[request.path_params["path"]], request)


async def upload(world: World, request: Request) -> Response:
    data = await request.body()
    world.uploads.append(data)
    world.files["dataset"] = data
    return JSONResponse(_dataset(world) | dict(request.query_params), 201)


async def datasets(world: World, _request: Request) -> Response:
    return _whole([_dataset(world)])


async def dataset(world: World, _request: Request) -> Response:
    return JSONResponse(_dataset(world))


async def content(world: World, request: Request) -> Response:
    return _ranged(world, world.files.get("dataset", b"abc"), request)


async def workers(_world: World, _request: Request) -> Response:
    worker = {"id": "wrk_1", "platform": "cpu", "device_kind": "cpu", "device_count": 8, "status": "active", "labels": {}}
    return _whole([worker])


async def drain(_world: World, request: Request) -> Response:
    return JSONResponse({"id": request.path_params["worker"], "status": "draining"}, 202)


async def catalog(_world: World, _request: Request) -> Response:
    return _whole([{"type": "adamw", "doc": "Adam with decoupled weight decay.", "schema": {"type": "object"}}])


async def ready(_world: World, _request: Request) -> Response:
    return JSONResponse({"status": "ready"})


async def schema(_world: World, _request: Request) -> Response:
    return JSONResponse({"openapi": "3.1.0", "info": {"title": "Meshyard", "version": "0"}, "paths": {}})


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _dataset(world: World) -> dict[str, Any]:
    data = world.files.get("dataset", b"abc")
    return {"id": "ds_1", "name": "words.txt", "format": "text", "sha256": sha256(data), "bytes": len(data), "rows": 3}


def _from(series: dict[str, Any], step: int) -> dict[str, Any]:
    kept = [index for index, candidate in enumerate(series["steps"]) if candidate >= step]
    return {**series, "steps": [series["steps"][index] for index in kept], "values": [series["values"][index] for index in kept]}


async def _stream(world: World, job_id: str, seq: int) -> AsyncIterator[str]:
    left = world.break_stream_after.pop(0) if world.break_stream_after else None
    if world.mute_stream:
        await asyncio.Event().wait()
    while True:
        for event in world.events[job_id][seq:]:
            if left == 0:
                raise ConnectionAbortedError
            left = None if left is None else left - 1
            seq = event["seq"]
            yield f"id: {seq}\nevent: {event['type']}\ndata: {json.dumps(event)}\n\n"
        if world.jobs[job_id]["status"] in TERMINAL and seq == len(world.events[job_id]):
            yield "event: end\ndata: {}\n\n"
            return
        yield ": ping\n\n"
        await asyncio.sleep(0.01)


def _ranged(world: World, data: bytes, request: Request) -> Response:
    start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
    body = bytearray(data[start:])
    if world.flip and body:
        body[-1] ^= 1
    left = world.break_files_after.pop(0) if world.break_files_after else len(body)

    async def send() -> AsyncIterator[bytes]:
        for at in range(0, min(left, len(body)), 1000):
            yield bytes(body[at : min(at + 1000, left)])
        if left < len(body):
            raise ConnectionAbortedError

    return StreamingResponse(send(), 206 if start else 200, {"Content-Length": str(len(body))})


WEBHOOK = {
    "id": "whk_1",
    "url": "https://example.com/",
    "events": ["*"],
    "enabled": True,
    "secret": "whsec_eA==",
    "created_at": NOW,
}
DELIVERY = {"id": "whd_1", "type": "job.failed", "status": "pending", "attempts": 1, "last_error": "refused", "created_at": NOW}


async def webhook(_world: World, _request: Request) -> Response:
    return JSONResponse(WEBHOOK, 201)


async def webhooks(_world: World, _request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [WEBHOOK], "has_more": False, "next": None})


async def delete_webhook(_world: World, _request: Request) -> Response:
    return Response(status_code=204)


async def delivery(_world: World, _request: Request) -> Response:
    return JSONResponse(DELIVERY, 202)


async def deliveries(_world: World, _request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [DELIVERY], "has_more": False, "next": None})


KEY = {"id": "key_1", "name": "x", "project": "default", "prefix": "abc", "scopes": ["worker"], "status": "active", "key": "my_"}
PROJECT = {
    "id": "prj_1",
    "name": "vision",
    "weight": 2.0,
    "quotas": {"max_running_jobs": 4, "max_devices": None},
    "created_at": NOW,
}
USED = {"object": "usage", "project": "prj_1", "day": "2026-11-23", "device_seconds": 7200.0, "stored_bytes": 10}
HELD = {"queued_jobs": 1, "running_jobs": 2, "devices": 8, "device_seconds": 9.5, "stored_bytes": 10}
AUDITED = {"id": "aud_1", "key_id": "key_1", "action": "cancel_job", "target": "/v1/jobs/job_1/cancel", "created_at": NOW}


def giving(document: dict[str, Any], status: int = 200) -> Any:
    """A route that always gives this."""

    async def give(_world: World, _request: Request) -> Response:
        return JSONResponse(document, status)

    return give


def listing(*found: dict[str, Any], **more: Any) -> Any:
    """A route that always gives this list."""
    return giving({"object": "list", "data": list(found), "has_more": False, "next": None, **more})


NO_JOB = problem(404, "not_found", "There is no such job.")
ROUTES: dict[tuple[str, str], Any] = {
    ("POST", "/v1/jobs"): submit,
    ("POST", "/v1/jobs:validate"): validate,
    ("GET", "/v1/jobs"): list_jobs,
    ("GET", "/v1/jobs/{job}"): get_job,
    ("PATCH", "/v1/jobs/{job}"): change_job,
    ("DELETE", "/v1/jobs/{job}"): delete_job,
    ("POST", "/v1/jobs/{job}/{word}"): steer,
    ("GET", "/v1/jobs/{job}/events"): events,
    ("GET", "/v1/jobs/{job}/stream"): stream,
    ("GET", "/v1/jobs/{job}/metrics"): metrics,
    ("GET", "/v1/jobs/{job}/logs"): logs,
    ("GET", "/v1/jobs/{job}/attempts"): attempts,
    ("GET", "/v1/jobs/{job}/program"): program,
    ("GET", "/v1/jobs/{job}/queue"): place,
    ("GET", "/v1/jobs/{job}/result"): result,
    ("GET", "/v1/jobs/{job}/checkpoints"): checkpoints,
    ("PATCH", "/v1/jobs/{job}/checkpoints/{step}"): pin,
    ("GET", "/v1/jobs/{job}/checkpoints/{step}/files"): manifest,
    ("GET", "/v1/jobs/{job}/checkpoints/{step}/archive"): archive,
    ("GET", "/v1/jobs/{job}/checkpoints/{step}/files/{path:path}"): file,
    ("GET", "/v1/jobs/{job}/artifacts"): manifest,
    ("GET", "/v1/jobs/{job}/artifacts/{path:path}"): file,
    ("POST", "/v1/datasets"): upload,
    ("GET", "/v1/datasets"): datasets,
    ("GET", "/v1/datasets/{dataset}"): dataset,
    ("GET", "/v1/datasets/{dataset}/content"): content,
    ("GET", "/v1/workers"): workers,
    ("POST", "/v1/workers/{worker}/drain"): drain,
    ("POST", "/v1/keys"): giving(KEY, 201),
    ("GET", "/v1/keys"): listing(KEY),
    ("POST", "/v1/keys/{key}/rotate"): giving(KEY),
    ("DELETE", "/v1/keys/{key}"): delete_webhook,
    ("POST", "/v1/projects"): giving(PROJECT, 201),
    ("GET", "/v1/projects"): listing(PROJECT),
    ("PATCH", "/v1/projects/{project}"): giving(PROJECT),
    ("DELETE", "/v1/projects/{project}"): delete_webhook,
    ("GET", "/v1/usage"): listing(USED, now=HELD, quotas={}),
    ("GET", "/v1/audit"): listing(AUDITED),
    ("POST", "/v1/webhooks"): webhook,
    ("GET", "/v1/webhooks"): webhooks,
    ("PATCH", "/v1/webhooks/{webhook}"): webhook,
    ("DELETE", "/v1/webhooks/{webhook}"): delete_webhook,
    ("POST", "/v1/webhooks/{webhook}/rotate"): webhook,
    ("POST", "/v1/webhooks/{webhook}/test"): delivery,
    ("GET", "/v1/webhooks/{webhook}/deliveries"): deliveries,
    ("POST", "/v1/webhooks/{webhook}/deliveries/{delivery}/redeliver"): delivery,
    ("GET", "/v1/catalog/{section}"): catalog,
    ("GET", "/readyz"): ready,
    ("GET", "/healthz"): ready,
    ("GET", "/openapi.json"): schema,
}


class Server:
    """An application on a port of this machine, in a thread of its own."""

    def __init__(self, app: Any) -> None:
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def start(self) -> str:
        """Begin to answer; gives the address."""
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server has not started"
            self._thread.join(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        """End, open streams and all."""
        self._server.should_exit = True
        self._thread.join(30)
