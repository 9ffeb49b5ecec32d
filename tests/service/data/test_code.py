from __future__ import annotations

import pytest
from sqlalchemy import func, select

from service.db.tables import code_bundles as table
from service.storage.local import PARTS
from tests.jobs.spec.bundles import HOSTILE, NET, tarred, zipped


@pytest.fixture
def coding(start):
    with start(code="on") as api:
        yield api


def files_kept(root):
    return [path for path in root.rglob("*") if path.is_file() and path.name != ".probe" and PARTS not in path.parts]


def test_it_is_off_unless_the_operator_turns_it_on(api, tmp_path):
    answer = api.post("/v1/code", content=NET.encode())
    assert answer.status_code == 403
    assert answer.json()["code"] == "code_disabled"
    assert "MESHYARD_CODE=on" in answer.json()["detail"]
    assert files_kept(tmp_path / "artifacts") == []


@pytest.mark.parametrize("content", [zipped({"net.py": NET}), tarred({"net.py": NET})])
def test_a_bundle_is_read_and_described(coding, content):
    answer = coding.post("/v1/code?name=nets", content=content)
    found = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/code/{found['id']}"
    assert found["object"] == "code"
    assert found["id"].startswith("code_")
    assert found["bytes"] == len(content)
    assert found["files"] == [{"path": "net.py", "bytes": len(NET)}]
    assert found["modules"] == [{"name": "net", "defines": ["jax", "nnx", "Net", "loss"]}]
    assert coding.get(f"/v1/code/{found['id']}").json() == found
    assert coding.get("/v1/code").json()["data"] == [found]
    assert coding.get(f"/v1/code/{found['id']}/content").content == content


def test_the_same_bytes_keep_their_id(coding):
    first = coding.post("/v1/code", content=zipped({"net.py": NET}))
    again = coding.post("/v1/code?name=other&module=other", content=zipped({"net.py": NET}))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()


def test_a_single_file_is_told_by_its_module_name(coding):
    main, net = coding.post("/v1/code", content=NET.encode()), coding.post("/v1/code?module=net", content=NET.encode())
    assert [answer.json()["modules"][0]["name"] for answer in (main, net)] == ["main", "net"]
    assert main.json()["id"] != net.json()["id"]
    assert coding.post("/v1/code?module=a.b", content=NET.encode()).status_code == 422


def test_what_may_surprise_is_told(coding):
    source = b"import jax, time\ndef f(x):\n    return jax.tree_map(time.sleep, x), time.time()\n"
    warnings = coding.post("/v1/code", content=source).json()["warnings"]
    assert [(warning["code"], warning["file"], warning["line"]) for warning in warnings] == [
        ("impure_program", "main.py", 3),
        ("outdated_snippet", "main.py", 3),
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_upload_is_refused_and_nothing_is_kept(coding, context, tmp_path, name):
    content, code, detail = HOSTILE[name]
    answer = coding.post("/v1/code", content=content)
    problem = answer.json()
    assert answer.status_code == 422
    assert problem["code"] == "code_invalid"
    assert problem["errors"][0]["code"] == code
    assert detail in problem["errors"][0]["detail"]
    assert files_kept(tmp_path / "artifacts") == []
    with context.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 0


def test_an_upload_over_the_limit_is_refused(start, tmp_path):
    with start(code="on", max_code_bytes=1000) as api:
        assert api.post("/v1/code", content=b"x = 1\n" * 1000).status_code == 413
    assert files_kept(tmp_path / "artifacts") == []


def test_an_empty_upload_is_refused(coding):
    assert coding.post("/v1/code", content=b"").json()["errors"][0]["code"] == "empty"


def test_an_unknown_bundle_is_not_found(coding):
    assert coding.get(f"/v1/code/code_{'0' * 32}").status_code == 404
