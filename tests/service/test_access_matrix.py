"""Every operation of /openapi.json under every kind of caller: what each may do is told by the one table of needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.db.queries import keys as key_rows
from service.db.transaction import Write
from service.domain.callers import Scope, widened
from service.http.access import NEEDS, Need
from tests.service.access_driver import Bearer, House, house
from tests.service.core_driver import sampling

METHODS = {"get", "head", "put", "post", "delete", "patch"}
UNKNOWN = {
    "job_id": f"job_{'0' * 32}",
    "attempt_id": f"att_{'0' * 32}",
    "worker_id": f"wrk_{'0' * 32}",
    "key_id": f"key_{'0' * 32}",
    "dataset_id": f"ds_{'0' * 32}",
    "code_id": f"code_{'0' * 32}",
    "preflight_id": f"pre_{'0' * 32}",
    "step": "1",
    "project_id": f"prj_{'0' * 32}",
    "section": "models",
    "path": "outputs/a.txt",
}
ATTEMPT = {"fence": 1}
BODIES: dict[str, dict[str, Any]] = {
    "claim_attempt": {"devices": 1, "wait_seconds": 0},
    "renew_lease": {**ATTEMPT, "step": 1, "phase": "sampling"},
    "report_progress": {**ATTEMPT, "batch": 1},
    "finish_attempt": {**ATTEMPT, "ending": "succeeded", "step": 1},
    "renew_preflight": ATTEMPT,
    "finish_preflight": {**ATTEMPT, "error": {"code": "oom", "message": "It was too much."}},
    "create_project": {"name": "made by nobody", "weight": -1},
}
"""The least that each operation reads. Nothing is meant to come of it, so what makes something out of nothing is given a fault."""
HEADERS = {"put_file": {"X-Meshyard-Fence": "1", "X-Content-SHA256": "0" * 64}}
QUERIES = {"upload_dataset": {"format": "text"}}
Operation = tuple[str, str, str]


def operations(document: dict[str, Any]) -> list[Operation]:
    """Name, method and path of every operation."""
    found = [
        (operation["operationId"], method.upper(), path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    ]
    return sorted(found)


def ask(caller: Bearer, operation: Operation, known: dict[str, str] | None = None) -> httpx.Response:
    name, method, path = operation
    ids = UNKNOWN | (known or {})
    path = re.sub(r"{(\w+)(:path)?}", lambda match: ids.get(match[1], "nothing"), path)
    body = BODIES.get(name, {}) if method in ("POST", "PATCH") and not name.startswith("upload") else None
    return caller.request(method, path, json=body, headers=HEADERS.get(name), params=QUERIES.get(name))


@pytest.fixture
def home(start) -> Iterator[House]:
    with house(start, failures_per_minute=0) as found:
        yield found


def test_every_operation_says_what_it_asks_for(home: House):
    document = home.api.get("/openapi.json").json()
    named = {name for name, _, _ in operations(document)}
    assert named - set(NEEDS) == set(), "give each new operation a row in service/http/access.py"
    assert set(NEEDS) - named == set(), "rows without an operation"
    for methods in document["paths"].values():
        for operation in (one for method, one in methods.items() if method in METHODS):
            rights = NEEDS[operation["operationId"]].rights
            assert operation.get("x-scopes") == (None if rights is None else sorted(rights))


def strangers(home: House) -> dict[str, Bearer]:
    """Callers whom no key lets in."""
    expired, revoked, rotated = (home.bearer("admin", all_projects=True) for _ in range(3))
    with Write(home.api.app.state.context.database) as write:
        key_rows.change(write.connection, expired.made["id"], {"expires_at": 1})
    assert home.operator.delete(f"/v1/keys/{revoked.made['id']}").status_code == 204
    assert home.operator.post(f"/v1/keys/{rotated.made['id']}/rotate", json={"overlap_seconds": 0}).status_code == 200
    wrong = {"empty": "", "short": "x", "mistyped": expired.key[:-1] + "_", "another's": expired.key.replace("my_", "my_0")}
    return {name: Bearer(home.api, key) for name, key in wrong.items()} | {
        "expired": expired,
        "revoked": revoked,
        "rotated": rotated,
    }


def test_no_key_no_answer(home: House):
    callers = strangers(home)
    found = [
        (operation[0], kind, reply.status_code)
        for operation in operations(home.api.get("/openapi.json").json())
        for kind, caller in callers.items()
        if ((reply := ask(caller, operation)).status_code == 401) == (NEEDS[operation[0]].rights is None)
    ]
    assert found == []


def refusal(need: Need, scopes: list[str], *, all_projects: bool) -> str | None:
    """The code with which a caller is refused; None if they may ask."""
    if need.rights is None:
        return None
    if not need.rights & widened(scopes):
        return "missing_scope"
    return "bound_to_project" if need.everywhere and not all_projects else None


ROLES = [[scope.value] for scope in Scope] + [["jobs:read", "worker"], ["jobs:write", "code:write"]]


@pytest.mark.parametrize("all_projects", [False, True], ids=["of-one-project", "of-all"])
def test_each_scope_opens_what_it_should_and_no_more(home: House, *, all_projects: bool):
    wrong: list[Any] = []
    for scopes in ROLES:
        caller = home.bearer(*scopes, all_projects=all_projects)
        for operation in operations(home.api.get("/openapi.json").json()):
            reply = ask(caller, operation)
            expected = refusal(NEEDS[operation[0]], scopes, all_projects=all_projects)
            code = reply.json()["code"] if reply.status_code in (401, 403) and reply.content else None
            if reply.request.method == "HEAD" and expected is not None:
                code = expected if reply.status_code == 403 else None
            if code not in (expected, "code_disabled") or reply.status_code >= 500:
                wrong.append((operation[0], scopes, reply.status_code, code, expected))
    assert wrong == []


def test_what_belongs_to_another_is_as_if_it_were_not_there(home: House):
    worker = home.worker(home.bearer("worker"))
    dataset = home.operator.request("POST", "/v1/datasets", params={"format": "text"}, content=b"abc" * 100).json()
    job = home.operator.submit(sampling())
    attempt = worker.claim()
    assert attempt.beat(1).status_code == 200
    key = home.bearer("jobs:read")
    there = {"job_id": job["id"], "attempt_id": attempt.id, "worker_id": worker.id, "dataset_id": dataset["id"]}
    there |= {"key_id": key.made["id"], "project_id": "default"}
    beta = home.project("beta")
    others = {
        "user of another project": home.bearer("jobs:write", "code:write", "worker", project=beta),
        "administrator of another project": home.bearer("admin", project=beta),
    }
    before = home.operator.events(job["id"])
    found = [
        (operation[0], who, theirs.status_code)
        for operation in operations(home.api.get("/openapi.json").json())
        if "{" in operation[2]
        for who, caller in others.items()
        if shape(theirs := ask(caller, operation, there)) != shape(ask(caller, operation))
    ]
    assert found == []
    assert home.operator.events(job["id"]) == before
    assert home.operator.get(f"/v1/keys/{key.made['id']}").json()["status"] == "active"


def shape(reply: httpx.Response) -> tuple[int, Any]:
    """A reply but for what tells one request from another."""
    if not reply.content or "json" not in reply.headers["content-type"]:
        return reply.status_code, reply.content
    return reply.status_code, {key: value for key, value in reply.json().items() if key != "request_id"}


def test_a_worker_key_touches_its_own_attempts_alone(home: House):
    ours, theirs = home.bearer("worker"), home.bearer("worker")
    home.operator.submit(sampling())
    worker = home.worker(ours)
    attempt = worker.claim()
    known = {"worker_id": worker.id, "attempt_id": attempt.id}
    steering = [one for one in operations(home.api.get("/openapi.json").json()) if "attempt_id" in one[2] or "worker_id" in one[2]]
    refused = {operation[0]: ask(theirs, operation, known).status_code for operation in steering if operation[0] != "get_worker"}
    listed = {"list_attempts"} & set(refused)
    assert {name: status for name, status in refused.items() if status != 404 and name not in listed} == {}
    assert home.operator.job(attempt.job_id)["status"] == "running"
    assert attempt.beat(1).json()["command"] == "continue"
    assert theirs.get(f"/v1/workers/{worker.id}").status_code == 404
    assert ours.get(f"/v1/workers/{worker.id}").status_code == 200
