"""What a claim, pages of the list and one job's page cost with many jobs queued and ended, beside a database of one page's jobs.

`MESHYARD_BENCH_ROWS` of each, 100 000 unless set. SQLite; with the address of a server in
MESHYARD_BENCH_POSTGRESQL on PostgreSQL too.
Both have a page of queued jobs to show, so that both pages say the same of each. They are used in turn, call by call, so that
whatever else the machine does strikes both.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, insert, select
from sqlalchemy.engine import make_url

from benchmarks.table import quantile, show
from jobs.ids import new_id
from jobs.protocol import Claim
from service.app import build_context
from service.context import Context
from service.db import migration
from service.db.queries import jobs as job_queries
from service.db.queries import workers as worker_rows
from service.db.tables import job_needs, jobs
from service.db.transaction import Read, Write
from service.domain import conclusion, queue, submission
from service.domain.callers import local
from service.domain.idempotency import ticket
from service.domain.job_object import describe, describe_one
from service.domain.lifecycle import Change
from service.settings import Settings

ROWS = int(os.environ.get("MESHYARD_BENCH_ROWS", "100000"))
ROUNDS = int(os.environ.get("MESHYARD_BENCH_ROUNDS", "300"))
CHUNK = 5000
PAGE = 20
LISTS: dict[str, dict[str, Any]] = {
    "list page": {},
    "list of two statuses, seldom": {"statuses": ["running", "failed"]},
    "list by a name that none has": {"name": "nobody"},
    "list by a label that none has": {"metadata": {"team": "nobody"}},
}
DOCUMENT: dict[str, Any] = {"kind": "mcmc", "model": {"type": "eight_schools"}, "data": {"builtin": "eight_schools"}}
SMALL: dict[str, Any] = {"retries": {"max_failures": 0, "max_infra_retries": 100}}
OFFERS = ["models/eight_schools", "datasets/eight_schools", "kernels/NUTS"]


@dataclass
class Side:
    """A database, and a worker of it."""

    context: Context
    worker: str = ""

    def submit(self) -> str:
        """Queue a job, behind all others."""
        with Write(self.context.database) as write:
            asked = ticket("default", "POST /v1/jobs", None, DOCUMENT)
            return submission.submit(Change(write, self.context), "default", DOCUMENT, asked).body["id"]

    def register(self) -> None:
        """Make the worker."""
        row = {"id": new_id("wrk"), "project": "default", "platform": "cpu", "device_kind": "cpu", "device_count": 8, "slots": 1}
        row |= {"memory_bytes": 2**36, "labels": {}, "versions": {}, "catalog_digest": "0", "status": "active"}
        with Write(self.context.database) as write:
            worker_rows.add(write.connection, row, OFFERS)
        self.worker = row["id"]

    def claim(self) -> None:
        """Claim a job."""
        with Write(self.context.database) as write:
            self.given = queue.claim(Change(write, self.context), local(), self.worker, Claim(devices=8))

    def finish(self) -> None:
        """End what was claimed."""
        given: Any = self.given
        outcome = conclusion.Finish(fence=given.fence, ending="succeeded", step=0)
        with Write(self.context.database) as write:
            conclusion.finish(Change(write, self.context), given.attempt_id, outcome)

    def list_page(self, **wanted: Any) -> None:
        """The first page of the list."""
        with Read(self.context.database) as read:
            found = job_queries.page(read.connection, job_queries.Filter("default", **wanted), None, PAGE)
            describe(read.connection, self.context, found)

    def one_page(self, job_id: str) -> None:
        """One job, which waits behind all others."""
        with Read(self.context.database) as read:
            row = job_queries.get(read.connection, "default", job_id)
            if row is not None:
                describe_one(read.connection, self.context, row)


def fill(side: Side) -> None:
    """Put as many queued jobs before the next one, and as many that have ended."""
    model = side.submit()
    with Read(side.context.database) as read:
        row: dict[str, Any] = dict(read.connection.execute(select(jobs).where(jobs.c.id == model)).one()._mapping)  # noqa: SLF001
    for status in ("queued", "succeeded"):
        for start in range(0, ROWS, CHUNK):
            few = status == "queued" and start == 0  # those that will be claimed have their whole spec
            specs = {} if few else {"spec": SMALL, "resolved_spec": SMALL}
            turns = range(row["turn"] - ROWS + start, row["turn"] - ROWS + start + CHUNK)
            rows = [row | specs | {"id": new_id("job"), "status": status, "turn": turn} for turn in turns]
            with Write(side.context.database) as write:
                write.connection.execute(insert(jobs), rows)
                if status == "queued":
                    needs = [{"job_id": each["id"], "need": need} for each in rows for need in OFFERS]
                    write.connection.execute(insert(job_needs), needs)


def timed(act: Callable[[], None]) -> float:
    """Milliseconds that it takes."""
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1e3


def compare(empty: Side, full: Side) -> list[list[str]]:
    """Rows of the table: each call on both, in turn."""
    calls: dict[str, list[tuple[float, float]]] = {name: [] for name in ("claim", "one job", *LISTS)}
    for side in (empty, full):
        for _ in range(PAGE):
            side.submit()
    for _ in range(ROUNDS):
        first, last = empty.submit(), full.submit()
        for name, wanted in LISTS.items():
            calls[name].append((timed(partial(empty.list_page, **wanted)), timed(partial(full.list_page, **wanted))))
        calls["one job"].append((timed(lambda job=first: empty.one_page(job)), timed(lambda job=last: full.one_page(job))))
        calls["claim"].append((timed(empty.claim), timed(full.claim)))
        empty.finish()
        full.finish()
    return [line(name, pairs) for name, pairs in calls.items()]


def line(name: str, pairs: list[tuple[float, float]]) -> list[str]:
    """Median and p99 of both, and their ratios."""
    sides = list(zip(*pairs, strict=True))
    figures = [[quantile(side, q) for side in sides] for q in (0.5, 0.99)]
    cells = [f"{small:.1f} / {large:.1f} ms ({large / small:.1f} times)" for small, large in figures]
    return [name, *cells]


@contextmanager
def side_of(url: str, folder: Path) -> Iterator[Side]:
    """A migrated database with a worker."""
    context = build_context(Settings(database_url=url, artifact_root=folder))
    migration.upgrade(context.database)
    side = Side(context)
    side.register()
    yield side
    context.database.close()


def urls_of(kind: str, folder: Path) -> list[str]:
    """An empty database and one to be filled."""
    if kind == "SQLite":
        return [f"sqlite:///{folder / name}.db" for name in ("empty", "full")]
    server = make_url(os.environ["MESHYARD_BENCH_POSTGRESQL"])
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    names = [f"bench_{os.getpid()}_{name}" for name in ("empty", "full")]
    with engine.connect() as connection:
        for name in names:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return [server.set(database=name).render_as_string(hide_password=False) for name in names]


def main() -> None:
    """Measure and print."""
    for kind in ("SQLite", "PostgreSQL") if "MESHYARD_BENCH_POSTGRESQL" in os.environ else ("SQLite",):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            empty, full = urls_of(kind, folder)
            with side_of(empty, folder / "a") as small, side_of(full, folder / "b") as large:
                fill(large)
                title = f"{kind}: empty / {ROWS:,} queued and {ROWS:,} ended"
                show(title, ["", "median", "p99"], compare(small, large))


if __name__ == "__main__":
    main()
