"""`serve`, `work`, `up` and `migrate`."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meshyard import Client
from meshyard.cli.pair import seen_from_here

MESHYARD = [sys.executable, "-m", "meshyard"]
BOUND_SECONDS = 90.0


def settings(folder, **more):
    place = {"MESHYARD_DATABASE_URL": f"sqlite:///{folder / 'a.db'}", "MESHYARD_ARTIFACT_ROOT": str(folder / "artifacts")}
    return {**os.environ, **place, "MESHYARD_WORK_DIR": str(folder / "work"), **more}


@pytest.fixture
def start(tmp_path):
    running = []

    def begin(*words, **more):
        process = subprocess.Popen(
            [*MESHYARD, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings(tmp_path, **more)
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def first_line(process):
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return line


def finish(process):
    out, err = process.communicate(timeout=BOUND_SECONDS)
    return process.returncode, out, err


def until(condition):
    deadline = time.monotonic() + BOUND_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "what was waited for has not come about"
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_where_and_ends_cleanly(start, number):
    process = start("serve", "--port", "0")
    address = first_line(process).split()[-1]
    with Client(address) as client:
        assert client.service.ready()
    process.send_signal(number)
    code, out, _ = finish(process)
    assert (code, out) == (0, "")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--host", "0.0.0.0"], 1, "listens on loopback only"),
        (["--database-url", "nonsense"], 2, "settings cannot be used"),
        (["--lease-seconds", "0"], 2, "--lease-seconds"),
    ],
)
def test_serve_says_why_it_cannot_start(start, words, code, sentence):
    found, out, err = finish(start("serve", "--port", "0", *words))
    assert (found, out) == (code, "")
    assert sentence in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--labels", "nonsense"], "labels are written name=value"),
        (["--cpu-devices", "5000"], "cpu_devices must be"),
        (["--server", "ftp://x"], "address"),
    ],
)
def test_work_says_why_it_cannot_start(start, words, sentence):
    code, out, err = finish(start("work", *words))
    assert (code, out) == (2, "")
    assert sentence in err


def test_migrate_makes_a_database(start, tmp_path):
    for _ in range(2):
        code, _, err = finish(start("migrate"))
        assert code == 0, err
    with sqlite3.connect(tmp_path / "a.db") as database:
        assert database.execute("select count(*) from jobs").fetchone() == (0,)


def children_of(pid):
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if parent == pid and "meshyard" in words:
            found[words[words.index("meshyard") + 1]] = int(entry.name)
    return found


def connected(address):
    with Client(address) as client:
        return [worker for worker in client.workers.list() if worker.status == "active"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_runs_both_and_ends_both(start, number):
    process = start("up", "--port", "0", "--cpu-devices", "2")
    address = first_line(process).split()[-1]
    (worker,) = until(lambda: connected(address))
    assert (worker.platform, worker.device_count) == ("cpu", 2)
    children = children_of(process.pid)
    assert sorted(children) == ["serve", "work"]
    process.send_signal(number)
    code, _, _ = finish(process)
    assert code == 0
    assert not any(Path(f"/proc/{child}").exists() for child in children.values())


@pytest.mark.parametrize("victim", ["serve", "work"])
def test_up_ends_when_either_ends(start, victim):
    process = start("up", "--port", "0", "--cpu-devices", "1")
    first_line(process)
    children = until(lambda: len(found := children_of(process.pid)) == 2 and found)
    os.kill(children[victim], signal.SIGKILL)
    code, _, err = finish(process)
    assert code == 1
    assert f"meshyard up: {victim} ended with -9" in err
    assert not any(Path(f"/proc/{child}").exists() for child in children.values())


def test_up_says_why_the_service_cannot_start(start):
    code, _, err = finish(start("up", "--port", "0", "--host", "0.0.0.0"))
    assert code == 1
    assert "listens on loopback only" in err
    assert "meshyard up: serve ended with 1" in err


@pytest.mark.parametrize(("command", "missing", "extra"), [("serve", "uvicorn", "service"), ("migrate", "alembic", "service")])
def test_a_part_that_is_not_installed_is_named(command, missing, extra):
    code = f"import sys; sys.modules[{missing!r}] = None; from meshyard.cli import run; sys.exit(run([{command!r}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{missing} is not installed here" in done.stderr
    assert f"'meshyard[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_service_on_all_addresses_is_found_on_this_machine():
    assert seen_from_here("http://0.0.0.0:8642") == "http://127.0.0.1:8642"
    assert seen_from_here("http://[::]:8642") == "http://[::1]:8642"
    assert seen_from_here("http://lab:8642") == "http://lab:8642"
