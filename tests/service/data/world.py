"""The real app behind an in-process transport, with jobs and attempts put straight into its tables."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal
from fastapi import FastAPI
from sqlalchemy import insert, update
from sqlalchemy.engine import Row

from jobs.ids import new_id
from jobs.protocol import Committed, File
from service.context import Context
from service.db.engine import now_us
from service.db.queries import attempts as attempt_rows
from service.db.queries import jobs as job_rows
from service.db.tables import attempts, jobs
from service.db.transaction import Write
from service.domain import checkpoints
from service.storage.store import Store
from tests.service.core_driver import Api

PROJECT = "default"
KEEP_ALL = {"keep_latest": None, "keep_best": None}
NO_BODY = {"type": "http.request", "body": b"", "more_body": False}


class World(Api):
    """One running service. The inherited methods speak to it over HTTP; these reach behind its back as well."""

    @property
    def context(self) -> Context:
        return self.app.state.context

    @property
    def store(self) -> Store:
        return self.context.store

    def put(self, path: str, **options: Any) -> httpx.Response:
        return self.request("PUT", path, **options)

    def head(self, path: str, **options: Any) -> httpx.Response:
        return self.request("HEAD", path, **options)

    def call(
        self, method: str, path: str, messages: Sequence[Mapping[str, Any]] = (NO_BODY,), headers: Mapping[str, str] | None = None
    ) -> Exchange:
        """Send a request as a server would pass it on, message by message; after the last the client is gone."""
        return self.begin(method, path, messages, headers, stays=False).end()

    def begin(
        self,
        method: str,
        path: str,
        messages: Sequence[Mapping[str, Any]] = (NO_BODY,),
        headers: Mapping[str, str] | None = None,
        *,
        stays: bool = True,
    ) -> Exchange:
        """Begin a request whose reply is looked at while it comes."""
        exchange = Exchange(self._portal, messages, stays=stays)
        exchange.task = self._portal.start_task_soon(exchange.run, self.app, method, path, headers or {})
        return exchange

    @contextmanager
    def write(self) -> Iterator[Write]:
        with Write(self.context.database) as write:
            yield write

    def new_job(self, checkpoint: Mapping[str, Any] = KEEP_ALL, source: tuple[str, int, str] | None = None, **columns: Any) -> str:
        """A running job."""
        job_id = new_id("job")
        start = {"job": source[0], "step": source[1], "what": source[2]} if source else None
        row = {
            "id": job_id,
            "project": PROJECT,
            "kind": "train",
            "metadata": {},
            "spec": {},
            "resolved_spec": {"checkpoint": dict(checkpoint), "init_from": start},
            "spec_version": 1,
            "platform": "any",
            "devices": 1,
            "devices_open": False,
            "status": "running",
            "total": 100,
            "unit": "step",
            "init_from_job": source[0] if source else None,
            "init_from_step": source[1] if source else None,
            "queued_at": now_us(),
            "available_at": now_us(),
            "created_at": now_us(),
            **columns,
        }
        with self.write() as write:
            write.connection.execute(insert(jobs).values(**row))
        return job_id

    def attempt(self, job_id: str, number: int = 1, storage: str = "file") -> str:
        """The attempt that now holds the job, its fence being its number."""
        attempt_id = new_id("att")
        row = {
            "id": attempt_id,
            "job_id": job_id,
            "number": number,
            "fence": number,
            "mesh_axes": {},
            "storage": storage,
            "step": 0,
        }
        with self.write() as write:
            write.connection.execute(insert(attempts).values(**row, started_at=now_us()))
            write.connection.execute(update(jobs).where(jobs.c.id == job_id).values(attempt_id=attempt_id, fence=number))
        return attempt_id

    def change_job(self, job_id: str, **values: Any) -> None:
        with self.write() as write:
            job_rows.change(write.connection, job_id, values)
        self.context.signals.wake(job_id)

    def put_file(self, key: str, content: bytes) -> None:
        """Write a file into the artifact folder, as a worker that shares it does."""
        path = self.store.shared_folder() / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def commit(
        self,
        job_id: str,
        attempt_id: str,
        step: int,
        files: Mapping[str, bytes] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        outputs: list[File] | None = None,
        fresh: list[File] | None = None,
        *,
        write_files: bool = True,
    ) -> None:
        """Put files there and have the service list them as a checkpoint."""
        content = {"state/a": f"state of {step}".encode()} if files is None else files
        if write_files:
            for path, data in content.items():
                self.put_file(f"jobs/{job_id}/{attempt_id}/checkpoints/{step}/{path}", data)
        told = Committed(
            step=step,
            metrics=dict(metrics or {}),
            files=[described(path, data) for path, data in content.items()],
            outputs=outputs or [],
            fresh=fresh or [],
        )
        with self.write() as write:
            job, attempt = held(write, job_id, attempt_id)
            checkpoints.commit(write, self.context, job, attempt, told, attempt.storage == "file")

    def steps(self, job_id: str) -> list[int]:
        return [one["step"] for one in self.get(f"/v1/jobs/{job_id}/checkpoints?limit=100").json()["data"]]

    def history(self, job_id: str) -> list[tuple[str, dict[str, Any]]]:
        return [(event["type"], event["data"]) for event in self.events(job_id)]


def held(write: Write, job_id: str, attempt_id: str) -> tuple[Row[Any], Row[Any]]:
    """The rows of a job and an attempt, the job's locked."""
    job = job_rows.lock(write.connection, PROJECT, job_id)
    attempt = attempt_rows.get(write.connection, attempt_id)
    assert job is not None
    assert attempt is not None
    return job, attempt


def described(path: str, content: bytes) -> File:
    return File(path=path, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


class Exchange:
    """A request and what came back, as far as it came. `error`: what the application raised instead of going on."""

    task: Future[None]

    def __init__(self, portal: BlockingPortal, messages: Sequence[Mapping[str, Any]], *, stays: bool) -> None:
        self._portal, self._messages, self._stays = portal, iter(messages), stays
        self._gone = asyncio.Event()
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""
        self.whole = False
        self.error: BaseException | None = None

    def leave(self) -> Exchange:
        """Go away."""
        self._portal.call(self._gone.set)
        return self

    def end(self) -> Exchange:
        """Wait until the application has done with it."""
        self.task.result(timeout=60)
        return self

    async def run(self, app: FastAPI, method: str, path: str, headers: Mapping[str, str]) -> None:
        try:
            await app(_scope(method, path, headers), self._receive, self._send)
        except Exception as error:  # noqa: BLE001  (what a server would log)
            self.error = error

    async def _receive(self) -> Any:
        for message in self._messages:
            return dict(message)
        if self._stays:
            await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")
            self.whole = not message.get("more_body", False)


def _scope(method: str, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
    bare, _, query = path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": bare,
        "raw_path": bare.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in {"host": "127.0.0.1", **headers}.items()],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }
