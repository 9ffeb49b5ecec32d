"""Several processes of the service on one database: what one writes the others see within their polling interval.

On SQLite the two are in one process, as in production only PostgreSQL has several; the way is the same.
"""

from __future__ import annotations

import threading
from importlib.resources import as_file, files
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect
from sqlalchemy.engine import Connection

from service.db.engine import Database
from tests.service.core_driver import Attempt, wait_for


def test_a_claim_that_waits_on_one_hears_of_a_job_submitted_to_another(start):
    with start() as first, start() as second:
        worker = first.worker()
        found: list[dict] = []
        waiting = threading.Thread(target=lambda: found.append(worker.ask(wait_seconds=60).json()))
        waiting.start()
        wait_for(lambda: first.app.state.context.signals.waiting("queue") == 1)
        job = second.submit()
        waiting.join()
        assert found[0]["job_id"] == job["id"]


def test_an_attempt_may_change_its_service_at_every_request(start):
    with start() as first, start() as second:
        job = second.submit()
        worker = first.worker()
        given = Attempt(second, worker.claim().given)
        assert given.beat(1).json()["command"] == "continue"
        first.post(f"/v1/jobs/{job['id']}/cancel")
        assert given.beat(1).json()["command"] == "cancel"
        given.api = first
        assert given.report(logs="a\n").status_code == 200
        given.api = second
        assert given.report(batch=1, logs="a\n").status_code == 200  # the same batch again, to the other: taken once
        assert given.finish("cancelled", 1).status_code == 200
        assert first.job(job["id"])["status"] == "cancelled"
        assert first.get(f"/v1/jobs/{job['id']}/logs").text == "a\n"


def test_a_log_that_is_followed_on_one_tells_what_is_reported_to_another_and_its_end(start):
    with start() as first, start() as second:
        job = first.submit()
        attempt = second.worker().claim()
        texts: list[str] = []
        follow = f"/v1/jobs/{job['id']}/logs?follow=true"
        following = threading.Thread(target=lambda: texts.append(first.get(follow).text))
        following.start()
        wait_for(lambda: first.app.state.context.telemetry.readers == 1)
        attempt.report(logs="from elsewhere\n")
        attempt.finish("failed", 1, error={"code": "nan_loss", "message": "It broke."})
        following.join()
        assert texts == ["from elsewhere\n"]
        stream = first.get(f"/v1/jobs/{job['id']}/stream").text
        assert "job.failed" in stream
        assert "event: end" in stream


def test_two_that_submit_under_one_key_make_one_job(start):
    with start() as first, start() as second:
        replies = [one.submit(**{"Idempotency-Key": "k"})["id"] for one in (first, second, first)]
        assert len(set(replies)) == 1
        assert len(first.get("/v1/jobs").json()["data"]) == 1


def test_migrations_only_add(tmp_path):
    """The version before goes on serving while, and after, a database is migrated.

    So nothing that it names may go, and what is new must not be asked of its INSERTs. What is no longer used goes a version later.
    """
    database = Database(f"sqlite:///{tmp_path / 'steps.db'}")
    before: dict[str, dict[str, Any]] = {}
    with as_file(files("migrations")) as folder, database.exclusive() as connection:
        config = Config()
        config.set_main_option("script_location", str(folder))
        config.attributes["connection"] = connection
        script = ScriptDirectory.from_config(config)
        for revision in reversed([one.revision for one in script.walk_revisions()]):
            command.upgrade(config, revision)
            now = columns_of(connection)
            for table, columns in before.items():
                assert columns.keys() <= now[table].keys(), f"{revision} takes columns of {table} away"
                for name in now[table].keys() - columns.keys():
                    new = now[table][name]
                    assert new["nullable"] or new["default"] is not None, f"{revision}: {table}.{name} needs a default"
                for name, column in columns.items():
                    assert str(now[table][name]["type"]) == str(column["type"]), f"{revision} changes {table}.{name}"
            before = now
    database.close()
    assert {"jobs", "webhooks"} < before.keys()


def columns_of(connection: Connection) -> dict[str, dict[str, Any]]:
    inspector = inspect(connection)
    names = inspector.get_table_names()
    return {table: {str(column["name"]): column for column in inspector.get_columns(table)} for table in names}
