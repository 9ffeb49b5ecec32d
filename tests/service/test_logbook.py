"""Log lines: JSON that parses, with the ids that a line is about."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest

from jobs.logbook import JsonLines, TextLines, about, ids_in


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    sink = io.StringIO()
    handler = logging.StreamHandler(sink)
    handler.setFormatter(JsonLines())
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield sink
    root.removeHandler(handler)
    root.setLevel(level)


def lines(sink: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in sink.getvalue().splitlines()]


def test_a_line_bears_the_ids_of_what_it_is_about(written):
    log = logging.getLogger("meshyard.test")
    with about(job_id="job_1"), about(attempt_id="att_1"):
        log.info("said %d\nand more", 1, extra={"fields": {"x": 2}})
    log.warning("outside")
    first, second = lines(written)
    assert (first["message"], first["level"], first["x"]) == ("said 1\nand more", "info", 2)
    assert (first["job_id"], first["attempt_id"]) == ("job_1", "att_1")
    assert "job_id" not in second
    with about(job_id="job_1"):
        record = logging.LogRecord("n", logging.INFO, "", 0, "said", (), None)
        assert TextLines().format(record).endswith("n: said [job_id=job_1]")


def test_an_exception_is_one_line(written):
    try:
        int("on purpose")
    except ValueError:
        logging.getLogger("meshyard.test").exception("it broke")
    (line,) = lines(written)
    assert "\n" in line["error"]
    assert line["error"].endswith("'on purpose'")


def test_requests_are_told_where_the_operator_wants_it(start, written):
    with start(log_requests=True) as api:
        job = api.submit()
        reply = api.get(f"/v1/jobs/{job['id']}?secret=x")
        api.get("/nothing/here")
    told = [line for line in lines(written) if line["logger"] == "service.http.journal"]
    read = next(line for line in told if line["request_id"] == reply.headers["x-request-id"])
    assert (read["route"], read["status"], read["job_id"]) == ("/v1/jobs/{job_id}", 200, job["id"])
    assert read["milliseconds"] >= 0
    assert "secret" not in json.dumps(told)
    assert told[-1]["route"] == "unmatched"
    with start() as api:
        api.get("/healthz")
    assert len([line for line in lines(written) if line["logger"] == "service.http.journal"]) == len(told)


def test_threads_of_their_own_bear_none():
    found: list[str] = []
    with about(job_id="job_1"):
        record = logging.LogRecord("n", logging.INFO, "", 0, "said", (), None)
        thread = threading.Thread(target=lambda: found.append(JsonLines().format(record)))
        thread.start()
        thread.join()
    assert "job_id" not in json.loads(found[0])
    assert ids_in("/v1/jobs/job_" + "0" * 32 + "/x") == {"job_id": "job_" + "0" * 32}
