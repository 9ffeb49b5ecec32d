from __future__ import annotations

import os
from urllib.parse import unquote

import pytest

from service.domain import artifacts
from service.domain.verification import VERIFY_FIRST_BYTES
from service.storage.store import CHUNK_BYTES
from tests.service.data.world import described, held

TEN = b"0123456789"
BIG = os.urandom(3 * CHUNK_BYTES + 77)

CLIMBERS = [
    "../../../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/state/a",
    "state/../state/a",
    "state/./a",
    "state//a",
    "/state/a",
    "%2fetc%2fpasswd",
    "state%5ca",
    "state/a%00",
    "%00",
    "state",
    "state/",
    "",
    "state/a/b",
    "STATE/A",
    "state/b",
    "stat%65/b",
    "\ud800".encode("utf-8", "surrogatepass").hex(),
    "%ff%fe",
    "a" * 5000,
]


@pytest.fixture
def url(world):
    job_id = world.new_job()
    attempt_id = world.attempt(job_id)
    world.commit(job_id, attempt_id, 200, {"state/a": TEN, "state/empty": b"", "data/big": BIG, "meta/é ü.json": b"{}"})
    world.put_file(f"jobs/{job_id}/{attempt_id}/checkpoints/200/state/b", b"there, but not listed")
    return f"/v1/jobs/{job_id}/checkpoints/200"


def test_the_manifest_names_every_file(world, url):
    listed = world.get(f"{url}/files").json()
    assert (listed["object"], listed["has_more"], listed["next"]) == ("list", False, None)
    expected = [described(*pair) for pair in (("data/big", BIG), ("meta/é ü.json", b"{}"), ("state/a", TEN), ("state/empty", b""))]
    assert listed["data"] == [{"object": "file", **file.model_dump()} for file in expected]


def test_a_file_comes_with_its_digest_as_etag(world, url):
    reply = world.get(f"{url}/files/state/a")
    assert (reply.status_code, reply.content) == (200, TEN)
    assert reply.headers["etag"] == f'"{described("a", TEN).sha256}"'
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["content-length"] == "10"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-disposition"].startswith("attachment")
    assert world.get(f"{url}/files/data/big").content == BIG
    assert world.get(f"{url}/files/state/empty").content == b""
    assert world.get(f"{url}/files/meta/é ü.json").content == b"{}"


RANGES = [
    ("bytes=0-0", b"0", "bytes 0-0/10"),
    ("bytes=0-", TEN, "bytes 0-9/10"),
    ("bytes=3-5", b"345", "bytes 3-5/10"),
    ("bytes=5-999", b"56789", "bytes 5-9/10"),
    ("bytes=9-9", b"9", "bytes 9-9/10"),
    ("bytes=-3", b"789", "bytes 7-9/10"),
    ("bytes=-999", TEN, "bytes 0-9/10"),
    (" bytes=3-5 ", b"345", "bytes 3-5/10"),
]
OUTSIDE = ["bytes=10-", "bytes=10-20", "bytes=999999999999-", "bytes=-0"]
MEANINGLESS = [
    *("bytes=", "bytes=-", "bytes=a-b", "bytes=5-3", "bytes=0-1,3-4", "items=0-1", "0-1", "bytes=0x1-2"),
    *("bytes=\u0663-\u0665", "bytes=" + "9" * 5000 + "-"),
]


def test_a_range(world, url, subtests):
    for wanted, content, told in RANGES:
        with subtests.test(wanted):
            reply = world.get(f"{url}/files/state/a", headers={"Range": wanted})
            assert (reply.status_code, reply.content, reply.headers["content-range"]) == (206, content, told)
            assert reply.headers["content-length"] == str(len(content))
            assert reply.headers["etag"] == f'"{described("a", TEN).sha256}"'


def test_a_range_outside_the_file(world, url, subtests):
    for wanted in OUTSIDE:
        with subtests.test(wanted):
            reply = world.get(f"{url}/files/state/a", headers={"Range": wanted})
            assert (reply.status_code, reply.headers["content-range"]) == (416, "bytes */10")
            assert reply.headers["content-type"] == "application/problem+json"
    assert world.get(f"{url}/files/state/empty", headers={"Range": "bytes=0-"}).status_code == 416


def test_a_range_that_means_nothing_is_ignored(world, url, subtests):
    for wanted in MEANINGLESS:
        with subtests.test(wanted[:40]):
            reply = world.get(f"{url}/files/state/a", headers={"Range": wanted.encode()})
            assert (reply.status_code, reply.content) == (200, TEN)


def test_a_range_of_a_large_file(world, url):
    reply = world.get(f"{url}/files/data/big", headers={"Range": f"bytes={CHUNK_BYTES - 5}-{2 * CHUNK_BYTES + 5}"})
    assert (reply.status_code, reply.content) == (206, BIG[CHUNK_BYTES - 5 : 2 * CHUNK_BYTES + 6])
    assert world.get(f"{url}/files/data/big", headers={"Range": "bytes=-7"}).content == BIG[-7:]


def test_a_download_can_be_gone_on_with(world, url):
    etag = world.get(f"{url}/files/data/big").headers["etag"]
    half = world.get(f"{url}/files/data/big", headers={"Range": "bytes=0-999999"}).content
    rest = world.get(f"{url}/files/data/big", headers={"Range": f"bytes={len(half)}-", "If-Range": etag})
    assert rest.status_code == 206
    assert half + rest.content == BIG


def test_conditions(world, url):
    etag = world.get(f"{url}/files/state/a").headers["etag"]
    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        reply = world.get(f"{url}/files/state/a", headers={"If-None-Match": known})
        assert (reply.status_code, reply.content, reply.headers["etag"]) == (304, b"", etag)
    assert world.get(f"{url}/files/state/a", headers={"If-None-Match": '"x"'}).status_code == 200
    for other in ('"x"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert world.get(f"{url}/files/state/a", headers={"Range": "bytes=0-1", "If-Range": other}).status_code == 200
    both = {"If-None-Match": etag, "Range": "bytes=99-"}
    assert world.get(f"{url}/files/state/a", headers=both).status_code == 304


def test_head_tells_the_same_without_the_bytes(world, url):
    get, head = world.get(f"{url}/files/data/big"), world.head(f"{url}/files/data/big")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "content-length", "accept-ranges", "content-type", "content-disposition"):
        assert head.headers[name] == get.headers[name]
    assert world.head(f"{url}/files/data/big", headers={"Range": "bytes=0-1"}).status_code == 200
    assert world.head(f"{url}/files/none").status_code == 404


def test_only_what_is_listed_exists(world, url, subtests):
    """Whether or not a server has decoded the path before the application gets it."""
    for path in CLIMBERS:
        for given in {path, unquote(path, errors="replace")}:
            with subtests.test(ascii(given[:40])):
                reply = world.call("GET", f"{url}/files/{given}")
                assert (reply.error, reply.status) == (None, 404)
                assert b"there" not in reply.body


def test_a_listed_file_that_became_a_link_is_not_followed(world, tmp_path):
    job_id = world.new_job()
    attempt_id = world.attempt(job_id)
    world.commit(job_id, attempt_id, 1, {"state/a": TEN})
    (tmp_path / "secret").write_bytes(TEN)
    file = world.store.shared_folder() / f"jobs/{job_id}/{attempt_id}/checkpoints/1/state/a"
    file.unlink()
    file.symlink_to(tmp_path / "secret")
    assert world.get(f"/v1/jobs/{job_id}/checkpoints/1/files/state/a").json()["code"] == "checkpoint_corrupt"


@pytest.mark.parametrize("path", ["state/a", "data/big"])
def test_damage_is_told_and_not_handed_out(world, url, path):
    [file] = world.store.shared_folder().glob(f"jobs/*/*/checkpoints/200/{path}")
    content = file.read_bytes()
    for damaged in (content[:-1] + bytes([content[-1] ^ 1]), content[:-1], None):
        if damaged is None:
            file.unlink()
        else:
            file.write_bytes(damaged)
        for headers in ({}, {"Range": "bytes=0-3"}):
            reply = world.get(f"{url}/files/{path}", headers=headers)
            assert (reply.status_code, reply.json()["code"]) == (409, "checkpoint_corrupt")
    assert world.head(f"{url}/files/{path}").status_code == 409


def test_a_file_too_large_to_read_twice_breaks_off_when_it_is_damaged(world):
    job_id = world.new_job()
    attempt_id = world.attempt(job_id)
    content = bytes(VERIFY_FIRST_BYTES + CHUNK_BYTES)
    world.commit(job_id, attempt_id, 1, {"a": content})
    path = f"/v1/jobs/{job_id}/checkpoints/1/files/a"
    whole = world.call("GET", path, [{"type": "http.request"}])
    assert (whole.status, whole.whole, len(whole.body)) == (200, True, len(content))
    file = world.store.shared_folder() / f"jobs/{job_id}/{attempt_id}/checkpoints/1/a"
    file.write_bytes(content[:-1] + b"x")
    broken = world.call("GET", path, [{"type": "http.request"}])
    assert broken.error is not None
    assert not broken.whole
    assert len(broken.body) < len(content)


def keep(world, job_id, attempt_id, files):
    with world.write() as write:
        job, attempt = held(write, job_id, attempt_id)
        artifacts.keep(write, world.context, job, attempt, files, True)


def test_artifacts_are_listed_and_served(world):
    job_id = world.new_job()
    attempt_id = world.attempt(job_id)
    world.put_file(f"jobs/{job_id}/{attempt_id}/outputs/posterior.nc", b"netcdf")
    world.put_file(f"jobs/{job_id}/{attempt_id}/outputs/plots/a b.html", b"<script>")
    keep(world, job_id, attempt_id, [described("posterior.nc", b"netcdf"), described("plots/a b.html", b"<script>")])
    listed = world.get(f"/v1/jobs/{job_id}/artifacts").json()
    assert [one["path"] for one in listed["data"]] == ["plots/a b.html", "posterior.nc"]
    assert {**listed["data"][1], "created_at": ""} == {
        "object": "artifact",
        **described("posterior.nc", b"netcdf").model_dump(),
        "created_at": "",
    }
    assert world.get(f"/v1/jobs/{job_id}/artifacts/posterior.nc", headers={"Range": "bytes=1-2"}).content == b"et"
    page = world.get(f"/v1/jobs/{job_id}/artifacts/plots/a b.html")
    assert (page.content, page.headers["content-type"]) == (b"<script>", "application/octet-stream")
    for path in ("none", "../posterior.nc", "%00", "plots"):
        assert world.get(f"/v1/jobs/{job_id}/artifacts/{path}").status_code == 404


def test_a_later_attempt_s_artifact_takes_the_place(world):
    job_id = world.new_job()
    for number, content in ((1, b"first"), (2, b"second")):
        attempt_id = world.attempt(job_id, number)
        world.put_file(f"jobs/{job_id}/{attempt_id}/outputs/x", content)
        keep(world, job_id, attempt_id, [described("x", content)])
    assert len(world.get(f"/v1/jobs/{job_id}/artifacts").json()["data"]) == 1
    assert world.get(f"/v1/jobs/{job_id}/artifacts/x").content == b"second"


def test_a_result_is_there_once_the_job_has_one(world):
    job_id = world.new_job()
    early = world.get(f"/v1/jobs/{job_id}/result")
    assert (early.status_code, early.json()["code"], early.json()["current_status"]) == (409, "not_finished", "running")
    result = {"final": {"step": 10, "eval/loss": 0.5}, "best": {"step": 5, "eval/loss": 0.4}}
    world.change_job(job_id, status="succeeded", result=result)
    assert world.get(f"/v1/jobs/{job_id}/result").json() == result
    failed = world.new_job(status="failed")
    assert world.get(f"/v1/jobs/{failed}/result").json()["current_status"] == "failed"
    assert world.get("/v1/jobs/job_" + "0" * 32 + "/result").status_code == 404
