"""Generated requests to every operation of `/openapi.json`: none may be answered with a 5xx, and the server's memory stays flat.

`MESHYARD_FUZZ_CASES` says how many in all; `make fuzz CASES=10000` sets it. Ids in paths are often those of things that exist,
else every answer would be 404.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.core.errors import UnsupportedSchema
from schemathesis.core.result import Ok

from meshyard.local import LocalStack
from tests import specs

CASES = int(os.environ.get("MESHYARD_FUZZ_CASES", "2000"))
GROWTH_BYTES = 100 * 1024 * 1024
"""What the server's peak memory may grow by between the first tenth of the requests and the last."""
SERVER_FAULT = 500
ODD: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**31,
        2**63,
        10**30,
        -0.0,
        1e-300,
        1e308,
        0.5,
        "",
        "adamw",
        "NaN",
        "\x00",
        "é" * 500,
        "../../etc",
    ),
    *(
        [],
        {},
        [[]],
        [None],
        [1, "a"],
        {"type": "adamw"},
        {"type": "chain", "transforms": []},
        {"": ""},
        "1" * 20_000,
        list(range(2000)),
    ),
]
UNSENDABLE = 0
"""In place of a status: no client could have sent it."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A service in a process of its own."""
    settings = {"MESHYARD_POLL_SECONDS": "0.1", "MESHYARD_PREFLIGHT_WAIT_SECONDS": "0.05"}
    with LocalStack(tmp_path_factory.mktemp("fuzz"), settings) as running:
        yield running


def existing_ids(http: httpx.Client) -> dict[str, str]:
    """Ids of things that exist, by the name of the path parameter."""
    dataset = http.post("/v1/datasets?format=text", content=b"zero one two three " * 3000).raise_for_status().json()["id"]
    job = (
        http.post("/v1/jobs", json=specs.transformer(data={"dataset": dataset, "batch_size": 8, "eval_fraction": 0.1}))
        .raise_for_status()
        .json()["id"]
    )
    worker = {"platform": "cpu", "device_kind": "cpu", "device_count": 4, "memory_bytes": 0, "catalog_digest": "x", "offers": []}
    return {
        "job_id": job,
        "dataset_id": dataset,
        "worker_id": http.post("/v1/workers", json=worker).raise_for_status().json()["id"],
    }


def test_no_request_is_answered_with_a_fault_of_ours(stack: LocalStack) -> None:
    schema = schemathesis.openapi.from_url(f"{stack.server}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    chance, answers, pid = random.Random(0), Counter[int](), stack.service.process.pid
    with httpx.Client(base_url=stack.server, timeout=30) as http:
        ids = existing_ids(http)

        def send(case: Case) -> None:
            for name in set(ids) & set(case.path_parameters or {}):
                if chance.random() < 0.7:
                    case.path_parameters[name] = ids[name]
            if case.path.endswith("/claim") and isinstance(case.body, dict):
                case.body["wait_seconds"] = 0.0
            status = ask(http, case)
            answers[status] += 1
            assert status < SERVER_FAULT, f"{case.as_curl_command()} → {status}"

        sweep(operations, send, max(1, CASES // 10))
        early = peak_bytes(pid)
        sweep(operations, send, CASES - CASES // 5)
        send_mutants(http, ids, chance, answers, CASES // 10)
    grown = peak_bytes(pid) - early
    told = f"{answers.total()} requests to {len(operations)} operations: {dict(sorted(answers.items()))}"
    print(f"{told}; memory grew by {grown >> 20} MiB")  # noqa: T201
    assert answers.total() >= 0.8 * CASES
    assert any(200 <= status < 300 for status in answers)
    assert grown < GROWTH_BYTES


def sweep(operations: list[Any], send: Callable[[Case], None], count: int) -> None:
    """Send `count` generated cases in all, as many to each operation as to every other."""
    for i, operation in enumerate(operations):
        share = (i + 1) * count // len(operations) - i * count // len(operations)
        with contextlib.suppress(UnsupportedSchema):
            if share:
                run(operation.as_strategy(), send, share)


def send_mutants(http: httpx.Client, ids: dict[str, str], chance: random.Random, answers: Counter[int], count: int) -> None:
    """Job documents with one part of a sound one put out of joint: the schema is recursive, and no generator follows it far."""
    sound = [specs.transformer, specs.regression, specs.spirals, specs.schools, specs.line]
    for _ in range(count):
        document = json.loads(json.dumps(chance.choice(sound)()).replace("ds_text", ids["dataset_id"]))
        spoil(document, chance)
        route = chance.choice(["/v1/jobs", *(f"/v1/jobs:validate?level={level}" for level in ("schema", "shapes", "compile"))])
        status = http.post(route, json=document).status_code
        answers[status] += 1
        assert status < SERVER_FAULT, f"{route}: {json.dumps(document)} → {status}"


def spoil(document: Any, chance: random.Random) -> None:
    """Put something odd in one place of a document, at any depth."""
    while isinstance(document, dict | list) and document:
        keys = list(document) if isinstance(document, dict) else range(len(document))
        key = chance.choice(list(keys))
        if not isinstance(document[key], dict | list) or chance.random() < 0.3:
            document[key] = chance.choice(ODD)
            return
        document = document[key]


def run(strategy: Any, send: Callable[[Case], None], count: int) -> None:
    """Send so many generated cases of one operation."""

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        phases=[Phase.generate],
    )
    @given(case=strategy)
    def test(case: Case) -> None:
        send(case)

    test()


def ask(http: httpx.Client, case: Case) -> int:
    """The status of the answer; a stream is left once its head is there."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parts = case.as_transport_kwargs(base_url=str(http.base_url))
            kept = {
                name: value
                for name, value in parts.items()
                if name in ("method", "url", "params", "headers", "json") and value is not None
            }
            content = parts.get("data")
            with http.stream(**kept, content=content if isinstance(content, bytes | str) else None) as response:
                return response.status_code
    except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeError, ValueError, TypeError):
        return UNSENDABLE


def peak_bytes(pid: int) -> int:
    """The most memory a process has held so far."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
