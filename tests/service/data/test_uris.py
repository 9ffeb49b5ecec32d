"""Files that jobs name by a URI: only what the operator allows, whatever the path goes through."""

from __future__ import annotations

import os

import pytest

from service.app import create_app
from tests import specs
from tests.service.data.world import World

TEXT = b"a few words to learn from. " * 200


@pytest.fixture
def folder(tmp_path):
    """A folder that is allowed, beside one that is not."""
    (tmp_path / "allowed" / "deep").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "allowed" / "deep" / "words of mine.txt").write_bytes(TEXT)
    (tmp_path / "secret" / "key.txt").write_bytes(TEXT)
    return tmp_path / "allowed"


@pytest.fixture
def world(settings, folder):
    uris = f"/nowhere:file://{folder}"
    with World(create_app(settings.model_copy(update={"data_uris": uris, "max_dataset_bytes": 2**20}))) as running:
        yield running


def job(uri):
    optimizer = {"type": "adamw", "learning_rate": 1e-3}
    return specs.transformer(data={"uri": uri, "eval_fraction": 0.1}, optimizer=optimizer)


def refusal(world, uri):
    reply = world.post("/v1/jobs", json=job(uri))
    assert reply.status_code == 422, reply.text
    (error,) = reply.json()["errors"]
    assert error["pointer"] == "/data/uri"
    return error["code"]


def test_a_file_that_is_allowed_becomes_a_dataset_once(world, folder):
    uri = f"file://{folder}/deep/words%20of%20mine.txt"
    first, second = (world.submit(job(uri))["resolved_spec"]["data"] for _ in range(2))
    assert (first["uri"], first["dataset"]) == (uri, second["dataset"])
    made = world.get(f"/v1/datasets/{first['dataset']}").json()
    assert (made["name"], made["format"], made["bytes"]) == ("words of mine.txt", "text", len(TEXT))
    (folder / "deep" / "words of mine.txt").write_bytes(TEXT + b"more")
    assert world.get(f"/v1/datasets/{first['dataset']}/content").content == TEXT
    assert world.submit(job(uri))["resolved_spec"]["data"]["dataset"] != first["dataset"]
    assert world.worker().claim().given["dataset"]["id"] == first["dataset"]


def test_a_job_that_is_only_looked_at_keeps_nothing(world, folder):
    reply = world.post("/v1/jobs:validate", json=job(f"file://{folder}/deep/words%20of%20mine.txt"))
    assert reply.json()["valid"], reply.text
    assert world.get("/v1/datasets").json()["data"] == []


def test_nothing_outside_is_read_by_any_path(world, folder, subtests):
    (folder / "link.txt").symlink_to(folder.parent / "secret" / "key.txt")
    (folder / "door").symlink_to(folder.parent / "secret")
    (folder / "loop.txt").symlink_to(folder / "loop.txt")
    os.mkfifo(folder / "pipe.txt")
    (folder / "folder.txt").mkdir()
    (folder / "broken.csv").write_bytes(b"a,b\n1\n")
    (folder / "large.txt").write_bytes(b"a" * (2**20 + 1))
    secret = folder.parent / "secret" / "key.txt"
    wrong = {
        f"file://{secret}": "not_allowed",
        f"file://{folder}/../secret/key.txt": "not_allowed",
        f"file://{folder}/%2e%2e/secret/key.txt": "not_allowed",
        f"file://{folder}/link.txt": "not_allowed",
        f"file://{folder}/door/key.txt": "not_allowed",
        f"file://{folder.parent}/none.txt": "not_allowed",
        f"file://{folder}-beside/x.txt": "not_allowed",
        f"file://{world.context.settings.artifact_root}/x.txt": "not_allowed",
        "file:///etc/passwd.txt": "not_allowed",
        f"file://{folder}/none.txt": "not_found",
        f"file://{folder}/folder.txt": "not_found",
        f"file://{folder}/pipe.txt": "not_found",
        f"file://{folder}/%00.txt": "not_found",
        f"file://{folder}/{'n' * 300}.txt": "not_found",
        f"file://{folder}/loop.txt": "not_found",
        f"file://{folder}/broken.csv": "dataset_invalid",
        f"file://{folder}/large.txt": "too_large",
    }
    for uri, code in wrong.items():
        with subtests.test(uri):
            assert refusal(world, uri) == code
    assert world.get("/v1/datasets").json()["data"] == []


def test_a_service_that_allows_none_says_so(settings, folder):
    with World(create_app(settings)) as world:
        assert refusal(world, f"file://{folder}/deep/words%20of%20mine.txt") == "not_allowed"
