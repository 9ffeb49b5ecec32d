"""How the service holds up: points of metrics per second, long series, long tables, a crowd of workers.

MLflow's server is the peer for metrics, asked the same in turns: one point, a hundred, a thousand at a time, over one connection,
on SQLite both. `MESHYARD_MLFLOW` names its program (`…/bin/mlflow`); without it our side alone is measured.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.table import quantile, show, spread
from jobs.ids import new_id
from meshyard.local import LocalStack

BATCHES = (1, 100, 1_000)
ROUNDS = 3
TURN_SECONDS = 2.0
POINTS = 1_000_000
MOST_POINTS = 2_000
ROWS = int(os.environ.get("MESHYARD_SCALE_ROWS", "100000"))
WORKERS = int(os.environ.get("MESHYARD_SCALE_WORKERS", "1000"))
BEAT_SECONDS = 5.0
CROWD_SECONDS = 20.0
JOB = {"kind": "mcmc", "model": {"type": "eight_schools"}, "data": {"builtin": "eight_schools"}, "num_chains": 1}
WORKER = {
    "platform": "cpu",
    "device_kind": "cpu",
    "device_count": 1,
    "memory_bytes": 2**33,
    "slots": 1,
    "labels": {},
    "offers": ["models/eight_schools", "kernels/NUTS", "datasets/eight_schools"],
    "catalog_digest": "0" * 64,
}


def done(reply: httpx.Response) -> Any:
    """The document of an answer that must be a success."""
    if reply.status_code >= 300:
        raise RuntimeError(f"{reply.request.url}: {reply.status_code} {reply.text}")
    return reply.json() if reply.content else None


class Ours:
    """A job's attempt that reports metrics."""

    def __init__(self, server: str) -> None:
        self.client = httpx.Client(base_url=server, timeout=60, trust_env=False)
        self.job = done(self.client.post("/v1/jobs", json=JOB))["id"]
        worker = done(self.client.post("/v1/workers", json=WORKER))["id"]
        self.given = done(self.client.post(f"/v1/workers/{worker}/claim", json={"devices": 1, "wait_seconds": 10}))
        self.batch = 0
        self.step = 0

    def log(self, count: int) -> None:
        """Report so many points."""
        self.batch += 1
        steps = list(range(self.step, self.step + count))
        self.step += count
        body = {"series": [{"name": "train/loss", "steps": steps, "values": [1.0 / (1 + step) for step in steps]}]}
        path = f"/v1/attempts/{self.given['attempt_id']}"
        done(self.client.post(f"{path}/report", json={"fence": self.given["fence"], "batch": self.batch, **body}))
        if self.batch % 500 == 0:
            done(self.client.post(f"{path}/heartbeat", json={"fence": self.given["fence"], "step": 0, "phase": "sampling"}))


class Theirs:
    """A run of MLflow."""

    def __init__(self, server: str) -> None:
        self.client = httpx.Client(base_url=f"{server}/api/2.0/mlflow", timeout=60, trust_env=False)
        made = done(self.client.post("/experiments/create", json={"name": "scale"}))
        self.run = done(self.client.post("/runs/create", json={"experiment_id": made["experiment_id"], "start_time": 0}))
        self.run_id = self.run["run"]["info"]["run_id"]
        self.step = 0

    def log(self, count: int) -> None:
        """Log so many points, by the call that is meant for so many."""
        now = int(time.time() * 1000)
        points = [
            {"key": "loss", "value": 1.0 / (1 + step), "timestamp": now, "step": step}
            for step in range(self.step, self.step + count)
        ]
        self.step += count
        if count == 1:
            done(self.client.post("/runs/log-metric", json={"run_id": self.run_id, **points[0]}))
        else:
            done(self.client.post("/runs/log-batch", json={"run_id": self.run_id, "metrics": points, "params": [], "tags": []}))


def rate(log: Callable[[int], None], count: int) -> float:
    """Points per second for a turn."""
    began, points = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < TURN_SECONDS:
        log(count)
        points += count
    return points / spent


@contextmanager
def mlflow(program: str, folder: Path) -> Iterator[str]:
    """MLflow's server on SQLite; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    store, artifacts = f"sqlite:///{folder / 'mlflow.db'}", str(folder / "mlartifacts")
    command = [program, "server", "--backend-store-uri", store, "--default-artifact-root", artifacts, "--port", str(port)]
    with (folder / "mlflow.log").open("w") as log:
        process = subprocess.Popen([*command, "--workers", "1"], stdout=log, stderr=log, start_new_session=True)
        try:
            address = f"http://127.0.0.1:{port}"
            until = time.monotonic() + 180
            while time.monotonic() < until:
                try:
                    if httpx.get(f"{address}/health", timeout=2, trust_env=False).status_code == 200:
                        break
                except httpx.HTTPError:
                    time.sleep(0.5)
            yield address
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def metrics(server: str, folder: Path) -> None:
    """Points per second, in turns with the peer."""
    program = os.environ.get("MESHYARD_MLFLOW") or shutil.which("mlflow")
    ours = Ours(server)
    rates: dict[tuple[str, int], list[float]] = {}
    if program is None:
        for count in BATCHES:
            rates["ours", count] = [rate(ours.log, count) for _ in range(ROUNDS)]
    else:
        with mlflow(program, folder) as address:
            theirs = Theirs(address)
            for count in BATCHES:
                for _ in range(ROUNDS):
                    rates.setdefault(("ours", count), []).append(rate(ours.log, count))
                    rates.setdefault(("theirs", count), []).append(rate(theirs.log, count))
    rows: list[list[str]] = []
    for count in BATCHES:
        mine, other = rates["ours", count], rates.get(("theirs", count))
        ratio = spread([a / b for a, b in zip(mine, other, strict=True)], " x", 1) if other else "-"
        rows.append([str(count), spread(mine, digits=0), spread(other, digits=0) if other else "-", ratio])
    show("Points of metrics per second over HTTP", ["points a request", "Meshyard", "MLflow", "ratio"], rows)


def timed(ask: Callable[[], httpx.Response], times: int = 20) -> list[float]:
    """Milliseconds of each of several requests."""
    found: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        done(ask())
        found.append(1000 * (time.perf_counter() - began))
    return found


def long_series(server: str) -> None:
    """A job of a million points, asked for two thousand."""
    ours = Ours(server)
    while ours.step < POINTS:
        ours.log(1_000)
    query = {"max_points": MOST_POINTS}
    took = timed(lambda: ours.client.get(f"/v1/jobs/{ours.job}/metrics", params=query))
    row = [f"{POINTS:,}", str(MOST_POINTS), spread(took, " ms", 1), f"{quantile(took, 0.95):.1f} ms"]
    show("A long series (goal: 200 ms)", ["points stored", "points asked for", "median (min to max)", "p95"], [row])


def long_tables(server: str, database: Path) -> None:
    """Pages and claims with an empty table and with many rows of history and queue."""
    with httpx.Client(base_url=server, timeout=60, trust_env=False) as client:
        job = done(client.post("/v1/jobs", json=JOB))["id"]
        asks: dict[str, Callable[[], httpx.Response]] = {
            "list of jobs": lambda: client.get("/v1/jobs?limit=100"),
            "list of one status": lambda: client.get("/v1/jobs?status=succeeded&limit=100"),
            "a job": lambda: client.get(f"/v1/jobs/{job}"),
            "events of a job": lambda: client.get(f"/v1/jobs/{job}/events"),
            "submit": lambda: client.post("/v1/jobs", json=JOB),
        }
        few = {name: timed(ask) for name, ask in asks.items()}
        multiply(database, job, "succeeded", ROWS)
        multiply(database, job, "queued", ROWS)
        many = {name: timed(ask) for name, ask in asks.items()}
    rows = [[name, spread(few[name], " ms", 1), spread(many[name], " ms", 1)] for name in asks]
    title = f"An empty table and one of {ROWS:,} jobs that have ended and {ROWS:,} that are queued"
    show(title, ["request", "empty", "full"], rows)


def multiply(database: Path, job: str, status: str, count: int) -> None:
    """Copy a job many times, row by row as they would have been made."""
    connection = sqlite3.connect(database, timeout=60)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(jobs)")]
    template = dict(zip(columns, connection.execute("SELECT * FROM jobs WHERE id = ?", [job]).fetchone(), strict=True))
    template |= {"status": status, "finished_at": template["created_at"] if status == "succeeded" else None}
    statement = f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608  (names of columns)
    rows = ([{**template, "id": new_id("job")}[column] for column in columns] for _ in range(count))
    with connection:
        connection.executemany(statement, rows)
    connection.close()


async def crowd(server: str) -> tuple[list[float], list[float], int]:
    """Milliseconds of beats and of a user's reads while many workers beat, and how many beats there were."""
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=server, timeout=60, trust_env=False, limits=limits) as client:
        attempts = [await begun(client) for _ in range(WORKERS)]
        beats: list[float] = []
        reads: list[float] = []
        until = time.perf_counter() + CROWD_SECONDS
        beating = [beat(client, given, BEAT_SECONDS * index / WORKERS, until, beats) for index, given in enumerate(attempts)]
        await asyncio.gather(*beating, read(client, attempts[0]["job_id"], until, reads))
        return beats, reads, len(beats)


async def begun(client: httpx.AsyncClient) -> Any:
    """A worker with an attempt."""
    done(await client.post("/v1/jobs", json=JOB))
    worker = done(await client.post("/v1/workers", json=WORKER))["id"]
    return done(await client.post(f"/v1/workers/{worker}/claim", json={"devices": 1, "wait_seconds": 10}))


async def beat(client: httpx.AsyncClient, given: Any, delay: float, until: float, took: list[float]) -> None:
    """Beat like a worker, every so many seconds."""
    await asyncio.sleep(delay)
    body = {"fence": given["fence"], "step": 1, "phase": "sampling"}
    while (began := time.perf_counter()) < until:
        done(await client.post(f"/v1/attempts/{given['attempt_id']}/heartbeat", json=body))
        took.append(1000 * (time.perf_counter() - began))
        await asyncio.sleep(max(0.0, BEAT_SECONDS - (time.perf_counter() - began)))


async def read(client: httpx.AsyncClient, job: str, until: float, took: list[float]) -> None:
    """Read a job over and over, as a page that polls."""
    while (began := time.perf_counter()) < until:
        done(await client.get(f"/v1/jobs/{job}"))
        took.append(1000 * (time.perf_counter() - began))
        await asyncio.sleep(0.05)


def many_workers(server: str) -> None:
    """A crowd of workers that beat every five seconds."""
    beats, reads, count = asyncio.run(crowd(server))
    rows = [
        [name, f"{quantile(took, 0.5):.1f} ms", f"{quantile(took, 0.95):.1f} ms", f"{quantile(took, 0.99):.1f} ms"]
        for name, took in (("heartbeat", beats), ("a job", reads))
    ]
    title = f"{WORKERS:,} workers beating every {BEAT_SECONDS:.0f} s, {count / CROWD_SECONDS:.0f} beats a second (goal: p95 100 ms)"
    show(title, ["request", "median", "p95", "p99"], rows)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {"MESHYARD_LEASE_SECONDS": "600", "MESHYARD_MAX_POINTS_PER_JOB": str(10**9)}
        os.environ.update(environment)
        with LocalStack(folder) as stack:
            metrics(stack.server, folder)
            long_series(stack.server)
            many_workers(stack.server)
            long_tables(stack.server, next(folder.rglob("*.db")))


if __name__ == "__main__":
    main()
