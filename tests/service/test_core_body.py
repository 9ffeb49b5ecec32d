"""What is sent by mistake or in malice is refused with a problem; nothing that is sent makes the service fail."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from service.domain.errors import Invalid
from service.http.body import parse
from tests.service.core_driver import Api, assert_problem, sampling

JSON = {"content-type": "application/json"}

HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "white space": b"  \n",
    "NaN": b'{"kind": NaN}',
    "Infinity": b'{"kind": Infinity}',
    "-Infinity": b'{"steps": -Infinity}',
    "1e999": b'{"steps": 1e999}',
    "-1e999": b'{"steps": -1e999}',
    "5000 digits": b'{"steps": ' + b"1" * 5000 + b"}",
    "300 digits": b'{"priority": ' + b"1" * 300 + b"}",
    "negative zero": b'{"steps": -0}',
    "lone surrogate": b'{"name": "\\ud800"}',
    "lone surrogate as a key": b'{"\\udc00": 1}',
    "reversed surrogates": b'{"name": "\\udc00\\ud800"}',
    "NUL in a text": b'{"name": "a\\u0000b"}',
    "NUL in a key": b'{"metadata": {"a\\u0000": "b"}}',
    "raw NUL": b'{"name": "a\x00b"}',
    "raw control character": b'{"name": "a\x01b"}',
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "overlong UTF-8": b'{"name": "\xc0\xaf"}',
    "surrogate in UTF-8": b'{"name": "\xed\xa0\x80"}',
    "byte order mark": b'\xef\xbb\xbf{"kind": "mcmc"}',
    "UTF-16": '{"kind": "mcmc"}'.encode("utf-16"),
    "arrays 100 000 deep": b"[" * 100_000,
    "arrays 100 000 deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "objects 100 000 deep": b'{"a":' * 100_000,
    "arrays 1 000 deep": b'{"metadata": ' + b"[" * 1000 + b"]" * 1000 + b"}",
    "arrays 65 deep": b'{"metadata": ' + b"[" * 65 + b"]" * 65 + b"}",
    "repeated key": b'{"kind": "mcmc", "kind": "train"}',
    "repeated key inside": b'{"kind": "mcmc", "model": {"type": "a", "type": "b"}}',
    "cut off": b'{"kind": "mcmc"',
    "two documents": b"{} {}",
    "trailing comma": b'{"kind": "mcmc",}',
    "single quotes": b"{'kind': 'mcmc'}",
    "comment": b'{} // {"kind": "mcmc"}',
    "array": b"[]",
    "array of jobs": b'[{"kind": "mcmc"}]',
    "number": b"1",
    "string": b'"mcmc"',
    "null": b"null",
    "true": b"true",
    "empty object": b"{}",
    "kind of a wrong type": b'{"kind": {"kind": []}}',
    "unknown fields": json.dumps({**sampling(), "__proto__": {"x": 1}, "shell": "rm -rf /"}).encode(),
    "boolean for a number": json.dumps(sampling(num_samples=True)).encode(),
    "text for a number": json.dumps(sampling(num_samples="7")).encode(),
    "number beyond a database": json.dumps(sampling(priority=2**40)).encode(),
    "name of 20 000 characters": json.dumps(sampling(name="x" * 20_000)).encode(),
    "metadata that is no text": json.dumps(sampling(metadata={"a": {"b": 1}})).encode(),
    "id of no dataset": json.dumps(sampling(data={"dataset": "ds_" + "0" * 32})).encode(),
    "id that is none": json.dumps(sampling(data={"dataset": "../../etc/passwd"})).encode(),
    "job to start from that is none": json.dumps(sampling(init_from={"job": "'; DROP TABLE jobs; --", "step": 1})).encode(),
}


def refused(api: Api, method: str, path: str, name: str) -> bool:
    """Whether a hostile body is refused as it should be, with what is wrong pointed at."""
    reply = api.request(method, path, content=HOSTILE[name], headers=JSON)
    return reply.status_code == 422 and bool(assert_problem(reply, 422)["errors"])


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs:validate", "/v1/workers"])
def test_hostile_bodies_are_refused(api: Api, path: str):
    accepted = [name for name in HOSTILE if not refused(api, "POST", path, name)]
    validated = [name for name in HOSTILE if path == "/v1/jobs:validate" and name in accepted]
    assert accepted == validated
    for name in validated:
        assert api.post(path, content=HOSTILE[name], headers=JSON).json()["valid"] is False, name
    assert api.get("/v1/jobs").json()["data"] == []


def test_hostile_bodies_are_refused_where_a_job_is_changed(api: Api):
    path = f"/v1/jobs/{api.submit()['id']}"
    assert [name for name in HOSTILE if not refused(api, "PATCH", path, name)] == ["empty object"]


@pytest.mark.parametrize("what", ["heartbeat", "report", "finish"])
def test_hostile_bodies_are_refused_from_workers(api: Api, what: str):
    api.submit()
    path = f"/v1/attempts/{api.worker().claim().id}/{what}"
    # Reports can be large: keys are not looked through for repetition there, and the model refuses what is left.
    assert [name for name in HOSTILE if not refused(api, "POST", path, name)] == []


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        (b'{"a": "\\u0000"}', "/a", "nul_character"),
        (b'{"a": {"b": ["x", {"c": "\\u0000"}]}}', "/a/b/1/c", "nul_character"),
        (b'{"a": {"b\\u0000": 1}}', "/a", "nul_character"),
        (b'{"x/y": {"~": "\\u0000"}}', "/x~1y/~0", "nul_character"),
        (b'{"a": [{"b": 1, "b": 2}]}', "/a/0", "repeated_key"),
        (b'"\\u0000"', "", "nul_character"),
        (b'{"a": ' + b"[" * 9 + b"]" * 9 + b"}", "/a", "too_deep"),
        (b"{", "", "invalid_json"),
    ],
)
def test_the_fault_is_pointed_at(body: bytes, pointer: str, code: str):
    with pytest.raises(Invalid) as caught:
        parse(body, max_depth=8)
    assert [(issue.pointer, issue.code) for issue in caught.value.issues] == [(pointer, code)]


def test_documents_are_read_as_they_are():
    document = {"a": [1, 2.5, None, True, "é\u20ac\U0001f600", {"b": {}}], "": []}
    assert parse(json.dumps(document).encode(), max_depth=8) == document


def test_nothing_that_was_sent_comes_back(api: Api):
    secret = "hunter2-hunter2"
    body = {"platform": {"a": secret}, "device_kind": [secret], "device_count": secret, "memory_bytes": -1, "catalog_digest": ""}
    reply = api.post("/v1/workers", json=body)
    assert len(assert_problem(reply, 422)["errors"]) == 5
    assert secret not in reply.text


def test_every_fault_of_a_document_is_told_at_once(api: Api):
    reply = api.post("/v1/workers", json={"platform": 1, "device_kind": "", "device_count": 0, "extra": 1})
    faults = {(error["pointer"], error["code"]) for error in assert_problem(reply, 422)["errors"]}
    assert faults == {
        ("/platform", "wrong_type"),
        ("/device_kind", "out_of_range"),
        ("/device_count", "out_of_range"),
        ("/memory_bytes", "missing"),
        ("/catalog_digest", "missing"),
        ("/extra", "unknown_field"),
    }


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_only_json_is_read(api: Api, kind: str):
    reply = api.post("/v1/jobs", content=json.dumps(sampling()), headers={"content-type": kind})
    assert_problem(reply, 415)


def test_a_body_of_no_named_type_is_json(api: Api):
    assert api.post("/v1/jobs", content=json.dumps(sampling()).encode()).status_code == 201
    (fault,) = assert_problem(api.post("/v1/jobs", content=b"{"), 422)["errors"]
    assert (fault["pointer"], fault["code"]) == ("", "invalid_json")
    assert_problem(api.post("/v1/jobs", content=b"{}", headers={"origin": "null"}), 403)


def test_json_by_another_name_is_read(api: Api):
    kind = "Application/vnd.meshyard+JSON; charset=utf-8"
    assert api.post("/v1/jobs", content=json.dumps(sampling()), headers={"content-type": kind}).status_code == 201


def test_a_compressed_body_is_refused(api: Api):
    assert_problem(api.post("/v1/jobs", content=b"\x1f\x8b", headers={**JSON, "content-encoding": "gzip"}), 415)


def test_a_large_body_is_refused(start):
    with start(max_body_bytes=10_000) as api:
        fitting = sampling(metadata={"a": "x" * 9000})
        assert api.post("/v1/jobs", json=fitting).status_code == 201
        assert_problem(api.post("/v1/jobs", json=sampling(metadata={"a": "x" * 10_000})), 413)


def test_a_large_body_of_unknown_length_is_refused(start):
    async def pieces():
        for _ in range(200):
            yield b" " * 1000

    with start(max_body_bytes=10_000) as api:
        assert_problem(api.post("/v1/jobs", content=pieces(), headers=JSON), 413)


@pytest.mark.parametrize("promised", [None, 10, 10_000_000])
def test_the_length_that_a_client_tells_is_not_believed(start, promised: int | None):
    """Straight to the application: no client would send this."""
    sent = iter([{"type": "http.request", "body": b" " * 5_000, "more_body": True}] * 1000)
    replies: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return next(sent)

    async def send(message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        replies.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    headers += [(b"content-length", str(promised).encode())] if promised is not None else []
    scope = {"type": "http", "method": "POST", "path": "/v1/jobs", "raw_path": b"/v1/jobs", "query_string": b"", "headers": headers}
    with start(max_body_bytes=10_000) as api:
        asyncio.run(api.app({**scope, "http_version": "1.1", "scheme": "http", "root_path": ""}, receive, send))
    assert replies[0]["status"] == 413


def test_unknown_paths_are_problems(api: Api):
    for path in ("/", "/v1", "/v1/nothing", "/v1/jobs/", "/v1/jobs/x/y/z", "/favicon.ico", "/v1/sweeps", "/v1/keys/x/y"):
        assert_problem(api.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/jobs", {"GET", "POST"}),
        ("DELETE", "/v1/jobs", {"GET", "POST"}),
        ("POST", f"/v1/jobs/job_{'0' * 32}", {"GET", "PATCH", "DELETE"}),
        ("GET", f"/v1/jobs/job_{'0' * 32}/cancel", {"POST"}),
        ("OPTIONS", "/v1/jobs", {"GET", "POST"}),
        ("PURGE", "/healthz", {"GET"}),
    ],
)
def test_a_wrong_method_names_all_that_are_right(api: Api, method: str, path: str, allowed: set[str]):
    reply = api.request(method, path)
    assert_problem(reply, 405)
    assert set(reply.headers["allow"].split(", ")) == allowed


IDS = [
    "nonsense",
    "job_",
    "job_" + "0" * 31,
    "job_" + "G" * 32,
    "JOB_" + "0" * 32,
    "%00",
    "job_%00",
    "%ff",
    "a" * 5000,
    "ds_" + "0" * 32,
]


def test_an_id_in_the_path_that_is_not_known_is_404(api: Api):
    jobs = [("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/attempts"), ("GET", "/stream"), ("POST", "/cancel")]
    jobs += [("POST", f"/{verb}") for verb in ("pause", "resume", "checkpoint", "retry", "clone")]
    for name in (*IDS, "job_" + "0" * 32):
        for method, rest in jobs:
            assert_problem(api.request(method, f"/v1/jobs/{name}{rest}"), 404)
        assert_problem(api.patch(f"/v1/jobs/{name}", json={"name": "x"}), 404)
        assert_problem(api.get(f"/v1/workers/{name}"), 404)
        assert_problem(api.post(f"/v1/workers/{name}/drain"), 404)
        assert_problem(api.post(f"/v1/workers/{name}/claim", json={"devices": 1, "wait_seconds": 0}), 404)
        assert_problem(api.post(f"/v1/attempts/{name}/heartbeat", json={"fence": 1, "step": 0, "phase": "training"}), 404)


def test_a_query_that_cannot_be_read_is_refused(api: Api):
    faulty = ["limit=0", "limit=101", "limit=x", "limit=1e1", "limit=" + "9" * 5000, "after=x", "after=%00", "status=nonsense"]
    faulty += ["name=%00", "kind=%00", "group=%00", "metadata[a]=%00", "metadata[%00]=a"]
    for query in faulty:
        assert_problem(api.get(f"/v1/jobs?{query}"), 422)
    for query in ("after=x", "after=-1", "after=" + "9" * 400, "limit=0"):
        assert_problem(api.get(f"/v1/jobs/{'job_' + '0' * 32}/events?{query}"), 422)


def test_a_switch_that_is_none_is_refused(api: Api):
    job = api.submit()
    assert_problem(api.post(f"/v1/jobs/{job['id']}/cancel?checkpoint=perhaps"), 422)
    assert api.job(job["id"])["status"] == "queued"


def test_every_reply_has_an_id(api: Api):
    ids = {api.get(path).headers["x-request-id"] for path in ("/v1/jobs", "/healthz", "/nothing", "/v1/jobs/x")}
    assert len(ids) == 4
    assert all(name.startswith("req_") for name in ids)
