from __future__ import annotations

import hashlib
import itertools
import os
from urllib.parse import unquote

import pytest

from service.db.queries import uploads
from service.storage.local import PARTS
from service.storage.store import CHUNK_BYTES

CONTENT = os.urandom(2 * CHUNK_BYTES + 123)
PATH = "checkpoints/10/state/params.blocks.0.kernel/c/0/0"


class Sender:
    """A worker's end: one attempt, one fence."""

    def __init__(self, world, *, number=1, job_id=None):
        self.world = world
        self.job_id = job_id or world.new_job()
        self.attempt_id = world.attempt(self.job_id, number, storage="http")
        self.number = number

    def url(self, path=PATH):
        return f"/v1/attempts/{self.attempt_id}/files/{path}"

    def key(self, path=PATH):
        return f"jobs/{self.job_id}/{self.attempt_id}/{path}"

    def headers(self, whole=CONTENT, span=None, fence=None):
        headers = {"X-Meshyard-Fence": str(fence or self.number), "X-Content-SHA256": hashlib.sha256(whole).hexdigest()}
        if span is not None:
            headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{len(whole)}"
        return headers

    def put(self, whole=CONTENT, span=None, path=PATH, body=None, fence=None):
        sent = whole if span is None else whole[span[0] : span[1]]
        return self.world.put(self.url(path), content=sent if body is None else body, headers=self.headers(whole, span, fence))

    def offset(self, path=PATH):
        reply = self.world.head(self.url(path))
        assert (reply.status_code, reply.content) == (200, b"")
        return int(reply.headers["upload-offset"]), reply.headers["upload-complete"]

    def stored(self, path=PATH):
        if self.world.store.size(self.key(path)) is None:
            return None
        return b"".join(self.world.store.read(self.key(path)))


@pytest.fixture
def sender(world):
    return Sender(world)


def parts(world):
    return len(list((world.store.shared_folder() / PARTS).iterdir()))


@pytest.mark.parametrize("content", [CONTENT, b"", b"x", b"a" * CHUNK_BYTES])
def test_a_whole_file_is_kept(world, sender, content):
    assert sender.offset() == (0, "?0")
    reply = sender.put(content)
    assert (reply.status_code, reply.json()) == (200, {"bytes": len(content), "complete": True})
    assert sender.stored() == content
    assert sender.offset() == (len(content), "?1")
    assert parts(world) == 0


def test_parts_make_a_file(world, sender):
    cuts = [0, 5, CHUNK_BYTES + 7, len(CONTENT)]
    for start, stop in itertools.pairwise(cuts):
        assert sender.offset() == (start, "?0")
        assert sender.stored() is None
        reply = sender.put(span=(start, stop))
        assert reply.json() == {"bytes": stop, "complete": stop == len(CONTENT)}
    assert sender.stored() == CONTENT
    assert sender.offset() == (len(CONTENT), "?1")


@pytest.mark.parametrize("span", [(5, 10), (101, 200), (99, 200)])
def test_a_part_that_belongs_elsewhere_is_refused(sender, span):
    sender.put(span=(0, 100))
    reply = sender.put(span=span)
    assert (reply.status_code, reply.json()["code"]) == (409, "conflict")
    assert "100" in reply.json()["detail"]
    assert sender.offset() == (100, "?0")
    assert sender.put(span=(100, len(CONTENT))).json()["complete"]
    assert sender.stored() == CONTENT


def test_a_sender_that_was_cut_off_goes_on_where_it_stood(world, sender):
    body = {"type": "http.request", "body": CONTENT[: CHUNK_BYTES + 5], "more_body": True}
    world.call("PUT", sender.url(), [body], sender.headers())
    held, complete = sender.offset()
    assert (held, complete) == (CHUNK_BYTES + 5, "?0")
    assert sender.put(span=(held, len(CONTENT))).json() == {"bytes": len(CONTENT), "complete": True}
    assert sender.stored() == CONTENT


def test_starting_again_forgets_what_came_before(sender):
    sender.put(span=(0, 100))
    assert sender.put(b"other").json() == {"bytes": 5, "complete": True}
    assert sender.stored() == b"other"


@pytest.mark.parametrize("spans", [[None], [(0, 100), (100, len(CONTENT))]])
def test_other_bytes_than_announced_are_discarded(world, sender, spans):
    bodies = [bytes(len(CONTENT)) if span is None else bytes(span[1] - span[0]) for span in spans]
    replies = [sender.put(span=span, body=body) for span, body in zip(spans, bodies, strict=True)]
    assert (replies[-1].status_code, replies[-1].json()["code"]) == (422, "invalid_request")
    assert sender.stored() is None
    assert sender.offset() == (0, "?0")
    assert parts(world) == 0


def test_more_bytes_than_announced_are_discarded(world, sender):
    assert sender.put(span=(0, 100), body=bytes(101)).status_code == 422
    assert sender.offset() == (0, "?0")
    assert parts(world) == 0


def test_fewer_bytes_than_announced_stay_as_a_part(sender):
    assert sender.put(span=(0, 100), body=CONTENT[:60]).json() == {"bytes": 60, "complete": False}
    assert sender.offset() == (60, "?0")


def test_the_same_file_again_is_taken_as_done(sender):
    first = sender.put()
    assert sender.put().json() == first.json()
    assert sender.put(span=(0, 100)).json() == {"bytes": len(CONTENT), "complete": True}


def test_a_stale_fence_is_refused(world, sender):
    assert sender.put(span=(0, 100)).status_code == 200
    later = Sender(world, number=2, job_id=sender.job_id)
    for reply in (sender.put(span=(100, 200)), sender.put(), later.put(fence=1)):
        assert (reply.status_code, reply.json()["code"]) == (409, "attempt_superseded")
    assert later.put().status_code == 200
    assert sender.stored() is None


def test_a_fence_that_goes_stale_while_bytes_come_is_refused(world, sender):
    def messages():
        yield {"type": "http.request", "body": CONTENT[:5], "more_body": True}
        Sender(world, number=2, job_id=sender.job_id)
        yield {"type": "http.request", "body": CONTENT[5:]}

    exchange = world.call("PUT", sender.url(), list(messages()), sender.headers())
    assert exchange.status == 409
    assert sender.stored() is None
    with world.write() as write:
        assert uploads.get(write.connection, sender.key()) is None


PATHS = [
    ("outputs/draws/1.npz", 200),
    ("outputs/a", 200),
    ("checkpoints/0/x", 200),
    ("checkpoints/10", 422),
    ("checkpoints/x/state", 422),
    ("checkpoints/010/state", 422),
    ("checkpoints/-1/state", 422),
    ("checkpoints/99999999999999999/state", 422),
    ("outputs", 422),
    ("outputs/", 422),
    ("other/x", 422),
    ("outputs/../checkpoints/1/x", 422),
    ("outputs/..%2f..%2fx", 422),
    ("outputs/%2e%2e/x", 422),
    ("outputs//x", 422),
    ("outputs/./x", 422),
    ("outputs/a%00b", 422),
    ("outputs/a%5cb", 422),
    ("outputs/" + "n" * 256, 422),
    ("outputs/" + "é" * 200, 422),
    ("outputs/" + "/".join(["d"] * 600), 422),
    ("%2fetc%2fpasswd", 422),
]


def test_only_paths_below_the_attempt_s_folders(world, sender, subtests):
    """As a server gives the path to the application: decoded, and with its dots."""
    body = {"type": "http.request", "body": b"x"}
    for path, status in PATHS:
        with subtests.test(path[:40]):
            exchange = world.call("PUT", sender.url(unquote(path)), [body], sender.headers(b"x"))
            assert (exchange.error, exchange.status) == (None, status)


def test_a_file_where_a_folder_is_is_refused(world, sender):
    assert sender.put(b"x", path="outputs/a/b").status_code == 200
    assert sender.put(b"x", path="outputs/a").status_code == 409
    assert sender.put(b"x", path="outputs/a/b/c").status_code == 409
    assert sender.stored("outputs/a/b") == b"x"
    assert parts(world) == 0


WRONG_HEADERS = [
    {"X-Meshyard-Fence": None},
    {"X-Meshyard-Fence": "0"},
    {"X-Meshyard-Fence": "x"},
    {"X-Meshyard-Fence": "9" * 400},
    {"X-Content-SHA256": None},
    {"X-Content-SHA256": "0" * 63},
    {"X-Content-SHA256": "G" * 64},
    {"Content-Range": "bytes 0-5"},
    {"Content-Range": "bytes 5-0/10"},
    {"Content-Range": "bytes 0-10/10"},
    {"Content-Range": "bytes */10"},
    {"Content-Range": "items 0-5/10"},
    {"Content-Range": "bytes 0-5/" + "9" * 400},
]


def test_wrong_headers_are_refused(world, sender, subtests):
    for change in WRONG_HEADERS:
        headers = {name: value for name, value in {**sender.headers(b"x"), **change}.items() if value is not None}
        with subtests.test(str(change)[:60]):
            assert world.put(sender.url(), content=b"x", headers=headers).status_code == 422


def test_an_unknown_attempt_is_not_found(world, sender):
    for attempt_id in ("att_" + "0" * 32, "att_x"):
        url = f"/v1/attempts/{attempt_id}/files/{PATH}"
        assert world.put(url, content=b"x", headers=sender.headers(b"x")).status_code == 404
        assert world.head(url).status_code == 404


def test_what_came_whole_can_be_committed_and_then_not_be_replaced(world, sender):
    sender.put(b"content", path="checkpoints/10/state/a")
    world.commit(sender.job_id, sender.attempt_id, 10, {"state/a": b"content"}, write_files=False)
    assert world.steps(sender.job_id) == [10]
    assert sender.put(b"content", path="checkpoints/10/state/a").status_code == 200
    assert sender.put(b"another", path="checkpoints/10/state/a").status_code == 409
    assert world.get(f"/v1/jobs/{sender.job_id}/checkpoints/10/files/state/a").content == b"content"


def test_what_retention_deletes_must_be_sent_again(world):
    job_id = world.new_job({"keep_latest": 1})
    sender = Sender(world, job_id=job_id)
    for step in (10, 20):
        sender.put(b"content", path=f"checkpoints/{step}/a")
        world.commit(job_id, sender.attempt_id, step, {"a": b"content"}, write_files=False)
    assert sender.offset("checkpoints/10/a") == (0, "?0")
    assert sender.offset("checkpoints/20/a") == (7, "?1")
