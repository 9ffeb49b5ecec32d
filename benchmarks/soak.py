"""A service under a steady load for as long as is wanted: does anything grow that should not?

`python -m benchmarks.soak --minutes 60`: a user submits and reads, a worker by requests claims, reports and finishes, a reader
follows each stream. Memory, open files, threads, the write-ahead log and the database are told in a table as time goes on.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

import httpx

from benchmarks.scale import JOB, WORKER, done
from benchmarks.table import show
from meshyard.local import LocalStack

MEBIBYTE = 2**20
LINES = 12
HEADER = ["minutes", "jobs done", "memory MiB", "open files", "threads", "WAL MiB", "database MiB", "bytes of database a job"]


class Load:
    """A user, a worker and a reader."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.finished = 0
        self.over = threading.Event()
        self.faults: list[str] = []

    def run(self) -> None:
        """Submit, claim, report, finish and follow, one job after another."""
        with httpx.Client(base_url=self.server, timeout=60, trust_env=False) as client:
            worker = done(client.post("/v1/workers", json=WORKER))["id"]
            while not self.over.is_set():
                try:
                    self._one(client, worker)
                except (RuntimeError, httpx.HTTPError) as error:
                    self.faults.append(str(error))

    def _one(self, client: httpx.Client, worker: str) -> None:
        done(client.post("/v1/jobs", json=JOB))
        given = done(client.post(f"/v1/workers/{worker}/claim", json={"devices": 1, "wait_seconds": 10}))
        path, fence = f"/v1/attempts/{given['attempt_id']}", given["fence"]
        for batch in (1, 2, 3):
            series = [{"name": "train/loss", "steps": [batch], "values": [1.0]}]
            done(client.post(f"{path}/report", json={"fence": fence, "batch": batch, "series": series, "logs": "a line\n"}))
            done(client.post(f"{path}/heartbeat", json={"fence": fence, "step": batch, "phase": "sampling"}))
        done(client.post(f"{path}/finish", json={"fence": fence, "ending": "succeeded", "step": 1500}))
        if not client.get(f"/v1/jobs/{given['job_id']}/stream").text.rstrip().endswith("}"):
            self.faults.append("a stream without its end")
        done(client.get("/v1/jobs?limit=20"))
        self.finished += 1


def sample(pid: int, database: Path, began: float, finished: int) -> list[str]:
    """A line of the table."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    memory = int(status["VmRSS"].split()[0]) / 1024
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    log = database.with_name(f"{database.name}-wal")
    wal = log.stat().st_size / MEBIBYTE if log.exists() else 0.0
    size = database.stat().st_size
    each = f"{size / finished:,.0f}" if finished else "-"
    minutes = (time.monotonic() - began) / 60
    numbers = [f"{minutes:.1f}", f"{finished:,}", f"{memory:.0f}", str(files), status["Threads"].strip()]
    return [*numbers, f"{wal:.1f}", f"{size / MEBIBYTE:.1f}", each]


def main() -> None:
    """Load, look, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    minutes: float = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as name, LocalStack(Path(name)) as stack:
        load = Load(stack.server)
        thread = threading.Thread(target=load.run)
        thread.start()
        began, rows = time.monotonic(), list[list[str]]()
        for _ in range(LINES):
            time.sleep(60 * minutes / LINES)
            rows.append(sample(stack.service.process.pid, Path(name) / "meshyard.db", began, load.finished))
        load.over.set()
        thread.join()
    show(f"{minutes:.0f} minutes of load, {len(load.faults)} faults", HEADER, rows)
    for fault in load.faults[:5]:
        print(fault)


if __name__ == "__main__":
    main()
