"""The service as a process: how it starts, how it refuses to, how it ends."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from migrations import versions
from service.app import create_app
from service.db import migration
from service.db.engine import Database
from service.db.tables import METADATA
from service.settings import Settings
from tests.service.core_driver import Api, assert_problem, sampling, wait_for

PYTHON = [sys.executable, "-m", "service"]


def environment(folder: Path, **variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MESHYARD_")}
    home = {"HOME": str(folder), "MESHYARD_ARTIFACT_ROOT": str(folder / "artifacts"), "MESHYARD_PORT": "0"}
    return {**kept, **home, "MESHYARD_DATABASE_URL": f"sqlite:///{folder}/deep/down/service.db", **variables}


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    command = [*PYTHON, *arguments]
    return subprocess.run(command, env=environment(folder, **variables), capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def serving(folder: Path, *arguments: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the service; gives the process and its address."""
    command = [*PYTHON, *arguments]
    with subprocess.Popen(
        command, env=environment(folder, **variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.fullmatch(r"meshyard service ready at (http://\S+)\n", line)
            assert match, (line, process.stderr.read() if process.stderr else "")
            yield process, match[1]
        finally:
            if process.poll() is None:
                process.kill()


def test_it_starts_from_nothing_and_ends_cleanly(tmp_path: Path):
    with serving(tmp_path, "serve") as (process, address):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address)
        assert httpx.get(f"{address}/healthz").json() == {"status": "ok"}
        assert httpx.get(f"{address}/readyz").json() == {"status": "ok"}
        job = httpx.post(f"{address}/v1/jobs", json=sampling()).json()["id"]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
    with serving(tmp_path) as (process, address):
        assert httpx.get(f"{address}/v1/jobs/{job}").json()["status"] == "queued"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_flags_come_before_the_environment(tmp_path: Path):
    arguments = [
        "--host",
        "localhost",
        "--database-url",
        f"sqlite:///{tmp_path}/other.db",
        "--artifact-root",
        str(tmp_path / "other"),
    ]
    with serving(tmp_path, "serve", *arguments) as (_, address):
        assert address.startswith("http://localhost:")
        assert (tmp_path / "other.db").exists()
        assert (tmp_path / "other" / ".probe").exists()


def test_open_polls_and_streams_do_not_hold_up_the_end(tmp_path: Path):
    worker = {"platform": "cpu", "device_kind": "cpu", "device_count": 1, "memory_bytes": 0, "catalog_digest": "0"}
    with serving(tmp_path) as (process, address), httpx.Client(base_url=address, timeout=60) as client, ExitStack() as stack:
        job = client.post("/v1/jobs", json=sampling()).json()["id"]
        streams = [stack.enter_context(client.stream("GET", f"/v1/jobs/{job}/stream")) for _ in range(5)]
        lines = [stream.iter_lines() for stream in streams]
        assert [next(one) for one in lines] == ["event: job.queued"] * 5
        threads = stack.enter_context(ThreadPoolExecutor(5))
        for _ in range(5):
            client.post("/v1/workers", json=worker)
        ids = [one["id"] for one in client.get("/v1/workers").json()["data"]]

        def claim(worker_id: str) -> int:
            return client.post(f"/v1/workers/{worker_id}/claim", json={"devices": 1, "wait_seconds": 60}).status_code

        claims = threads.map(claim, ids)
        wait_for(lambda: all(one["seen_at"] > one["registered_at"] for one in client.get("/v1/workers").json()["data"]))
        process.send_signal(signal.SIGTERM)
        assert list(claims) == [204] * 5
        # Cut, and no `end`: the job has not ended, and whoever follows it comes back.
        assert all("event: end" not in list(one) for one in lines)
        process.communicate(timeout=30)
        assert process.returncode == 0


def test_without_a_key_only_loopback_is_served(tmp_path: Path):
    done = run(tmp_path, "serve", "--host", "0.0.0.0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == "meshyard: Without MESHYARD_API_KEY the service listens on loopback only, not on 0.0.0.0."
    assert run(tmp_path, "serve", "--host", "0.0.0.0", MESHYARD_API_KEY="").returncode == 1


def test_with_a_key_every_address_can_be_served(tmp_path: Path):
    with serving(tmp_path, MESHYARD_HOST="0.0.0.0", MESHYARD_API_KEY="secret") as (_, address):
        listed = f"{address.replace('0.0.0.0', '127.0.0.1')}/v1/jobs"
        assert httpx.get(listed).status_code == 401
        assert httpx.get(listed, headers={"Authorization": "Bearer secret"}).status_code == 200


def test_a_port_that_is_taken_is_told(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(tmp_path, "serve", "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"meshyard: .*127\.0\.0\.1 port {port}: .*in use.*\n", done.stderr)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MESHYARD_PORT", "x", "port"),
        ("MESHYARD_PORT", "70000", "port"),
        ("MESHYARD_LEASE_SECONDS", "-1", "lease_seconds"),
        ("MESHYARD_LEASE_SECONDS", "nan", "lease_seconds"),
        ("MESHYARD_DATABASE_URL", "mysql://localhost/x", "database_url"),
        ("MESHYARD_DATABASE_URL", "sqlite://", "database_url"),
        ("MESHYARD_DATABASE_URL", "nonsense", "database_url"),
        ("MESHYARD_HOST", "no.such.host.invalid", "no.such.host.invalid"),
        ("MESHYARD_ARTIFACT_ROOT", "/proc/none", "/proc/none"),
        ("MESHYARD_DATABASE_URL", "sqlite:////proc/none/a.db", "/proc/none"),
        ("MESHYARD_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:1/none", "database"),
    ],
)
def test_settings_that_cannot_work_are_told_in_a_sentence(tmp_path: Path, variable: str, value: str, said: str):
    done = run(tmp_path, "serve", **{"MESHYARD_API_KEY": "secret", variable: value})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("meshyard: ")
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_file_that_is_no_database_is_told(tmp_path: Path):
    (tmp_path / "letter.db").write_text("Dear reader, this is not a database. " * 100)
    done = run(tmp_path, "serve", MESHYARD_DATABASE_URL=f"sqlite:///{tmp_path}/letter.db")
    assert done.returncode == 1
    assert "not a database" in done.stderr


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path):
    database = Database(f"sqlite:///{tmp_path}/newer.db")
    migration.upgrade(database)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    for command in ("serve", "migrate"):
        done = run(tmp_path, command, MESHYARD_DATABASE_URL=f"sqlite:///{tmp_path}/newer.db")
        assert done.returncode == 1
        assert "newer" in done.stderr


def test_processes_that_start_at_once_migrate_once(tmp_path: Path):
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: run(tmp_path, "migrate"), range(4)))
    assert [one.returncode for one in done] == [0] * 4, [one.stderr for one in done]
    told = sorted(one.stderr.strip().splitlines()[-1] for one in done)
    newest = max(path.name[:4] for path in Path(versions.__file__).parent.glob("0*.py"))
    assert told == [f"The database is now at version {newest}.", *[f"The database was at version {newest}."] * 3]


@pytest.fixture
def empty_url(database_url: str, database_kind: str, tmp_path: Path) -> str:
    """A database without a single table."""
    if database_kind == "sqlite":
        return f"sqlite:///{tmp_path}/empty.db"
    database = Database(database_url)
    with database.write() as connection:
        METADATA.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE alembic_version")
    database.close()
    return database_url


def test_postgresql_is_migrated_by_hand_and_sqlite_by_itself(tmp_path: Path, empty_url: str, database_kind: str):
    if database_kind == "postgresql":
        done = run(tmp_path, "serve", MESHYARD_DATABASE_URL=empty_url)
        assert (done.returncode, done.stdout) == (1, "")
        assert "meshyard migrate" in done.stderr
        assert run(tmp_path, "migrate", MESHYARD_DATABASE_URL=empty_url).returncode == 0
    with serving(tmp_path, MESHYARD_DATABASE_URL=empty_url) as (_, address):
        assert httpx.post(f"{address}/v1/jobs", json=sampling()).status_code == 201


def test_the_migrations_lead_to_the_tables_of_the_code(empty_url: str):
    database = Database(empty_url)
    assert migration.upgrade(database).found is None
    assert migration.upgrade(database).is_current
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        changes = [str(change) for change in compare_metadata(context, METADATA)]
    assert changes == []
    database.close()


def test_a_plain_postgresql_address_gets_the_driver():
    assert Settings(database_url="postgres://localhost/x").database_url == "postgresql+psycopg://localhost/x"


@pytest.mark.parametrize("url", ["sqlite:////proc/none/a.db", "postgresql+psycopg://nobody@127.0.0.1:1/none"])
def test_a_database_that_is_away_is_told_as_503(tmp_path: Path, url: str):
    app = create_app(Settings(database_url=url, artifact_root=tmp_path))

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            submitted = await client.post("/v1/jobs", json=sampling())
            return [submitted, await client.get("/readyz"), await client.get(f"/v1/jobs/job_{'0' * 32}")]

    for reply in asyncio.run(ask()):
        assert assert_problem(reply, 503)["code"] == "unavailable"
        assert reply.headers["retry-after"] == "1"


def test_an_artifact_folder_that_is_away_is_told_as_503(tmp_path: Path):
    with serving(tmp_path) as (_, address):
        (tmp_path / "artifacts").rename(tmp_path / "away")
        assert assert_problem(httpx.get(f"{address}/readyz"), 503)["code"] == "unavailable"
        (tmp_path / "away").rename(tmp_path / "artifacts")
        assert httpx.get(f"{address}/readyz").status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/keys", {"name": "one", "scopes": ["jobs:read"]}),
        ("/v1/projects", {"name": "lab"}),
        ("/v1/workers", {"platform": "cpu", "device_kind": "cpu", "device_count": 1, "memory_bytes": 1, "catalog_digest": "0"}),
    ],
    ids=["key", "project", "worker"],
)
def test_what_is_made_says_where_it_is(api: Api, path: str, body: dict[str, object]):
    made = api.post(path, json=body)
    assert (made.status_code, made.headers["location"]) == (201, f"{path}/{made.json()['id']}")
    assert api.get(made.headers["location"]).json()["id"] == made.json()["id"]
