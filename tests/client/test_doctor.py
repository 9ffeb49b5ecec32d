"""`meshyard doctor`: what is wrong is told, with what to do, and the exit code says so."""

from __future__ import annotations

import json

import pytest

from meshyard.cli import run
from service.db import migration
from service.db.engine import Database
from tests.client.standin import Fault, World, problem


@pytest.fixture
def world():
    return World()


@pytest.fixture
def examined(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MESHYARD_SERVER", server)
    monkeypatch.setenv("MESHYARD_DATABASE_URL", f"sqlite:///{tmp_path / 'meshyard.db'}")
    monkeypatch.setenv("MESHYARD_ARTIFACT_ROOT", str(tmp_path / "artifacts"))
    monkeypatch.setenv("MESHYARD_MIN_FREE_BYTES", "1")

    def examine(*more):
        code = run(["doctor", "--no-devices", "-o", "json", *more])
        document = json.loads(capsys.readouterr().out)
        return code, document, {one["name"]: one for one in document["findings"]}

    return examine


def test_all_is_well(examined, tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'meshyard.db'}")
    migration.upgrade(database)
    database.close()
    (tmp_path / "artifacts").mkdir()
    code, document, found = examined()
    assert (code, document["healthy"]) == (0, True)
    words = {name: one["status"] for name, one in found.items()}
    assert {name for name, status in words.items() if status == "ok"} >= {
        "service",
        "clock",
        "key",
        "workers",
        "database",
        "migrations",
    }
    assert words["artifacts"] == words["room"] == "ok"


def test_what_is_not_there_yet_is_no_fault(examined):
    code, _, found = examined()
    assert code == 0
    assert found["database"]["status"] == found["artifacts"]["status"] == "skipped"


def test_a_service_that_does_not_answer(examined):
    code, _, found = examined("--server", "http://127.0.0.1:1")
    assert code == 1
    assert found["service"]["status"] == "failed"
    assert "meshyard serve" in found["service"]["remedy"]


def test_a_service_that_is_not_ready(examined, world):
    world.faults.append(Fault(lambda request: request.url.path == "/readyz", problem(503, "unavailable", "no"), times=100))
    code, _, found = examined()
    assert (code, found["readiness"]["status"]) == (1, "failed")


def test_a_wrong_key(examined, world):
    world.key = "secret"
    code, _, found = examined()
    assert (code, found["key"]["status"]) == (1, "failed")
    assert "MESHYARD_API_KEY" in found["key"]["remedy"]


def test_a_database_of_another_version_and_one_that_cannot_be_read(examined, tmp_path):
    (tmp_path / "meshyard.db").touch()
    code, _, found = examined()
    assert (code, found["migrations"]["status"], found["migrations"]["remedy"]) == (1, "failed", "Run: meshyard migrate")
    (tmp_path / "meshyard.db").write_bytes(b"no database" * 1000)
    code, _, found = examined()
    assert (code, found["database"]["status"]) == (1, "failed")


def test_no_room(examined, monkeypatch):
    monkeypatch.setenv("MESHYARD_MIN_FREE_BYTES", str(2**62))
    code, _, found = examined()
    assert (code, found["room"]["status"]) == (1, "failed")


def test_a_person_sees_what_to_do(examined, capsys):
    assert run(["doctor", "--no-devices", "--server", "http://127.0.0.1:1"]) == 1
    shown = capsys.readouterr().out
    assert "✗ service" in shown
    assert "Start it" in shown
