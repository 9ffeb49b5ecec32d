"""The artifact store in a folder: durability of names, resumable parts, and nothing outside the root."""

import hashlib
import os
import threading

import pytest

from service.storage.local import PARTS, LocalStore
from service.storage.store import CHUNK_BYTES, safe_key

CLIMBERS = [
    "",
    ".",
    "..",
    "/etc/passwd",
    "../x",
    "a/../b",
    "a/..",
    "a//b",
    "a/",
    "/a",
    "a/./b",
    "a\\..\\b",
    "a\x00b",
    "a/" + "n" * 256,
    "a/" + "é" * 200,
    "/".join(["deep"] * 1000),
    "lone\ud800surrogate",
]


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "root")


def put(store, key, content):
    store.append(key, 0, content)
    store.commit(key)


@pytest.mark.parametrize("path", CLIMBERS)
def test_a_path_that_climbs_is_no_key(store, path):
    with pytest.raises(ValueError, match=r".*"):
        safe_key("jobs", path)
    with pytest.raises(ValueError, match=r".*"):
        store.size(f"jobs/{path}")
    with pytest.raises(ValueError, match=r".*"):
        store.append(f"jobs/{path}", 0, b"x")


def test_what_is_committed_can_be_read_in_chunks_and_from_any_offset(store):
    content = os.urandom(2 * CHUNK_BYTES + 17)
    put(store, "a/b/c.bin", content)
    assert store.size("a/b/c.bin") == len(content)
    chunks = list(store.read("a/b/c.bin"))
    assert b"".join(chunks) == content
    assert max(map(len, chunks)) <= CHUNK_BYTES
    assert b"".join(store.read("a/b/c.bin", 5, 7)) == content[5:12]
    assert b"".join(store.read("a/b/c.bin", len(content) - 3)) == content[-3:]
    assert b"".join(store.read("a/b/c.bin", len(content))) == b""
    assert b"".join(store.read("a/b/c.bin", 3, 0)) == b""
    with store.open("a/b/c.bin", 10) as stream:
        assert stream.read(4) == content[10:14]


def test_a_missing_file_has_no_size_and_cannot_be_opened(store):
    put(store, "a/file", b"x")
    for key in ("nothing", "a", "a/file/below", "no/such/folder"):
        assert store.size(key) is None
        with pytest.raises(FileNotFoundError):
            store.open(key)


def test_an_unfinished_upload_is_not_a_file(store):
    assert store.part("k") is None
    assert store.append("k", 0, b"half") == 4
    assert store.size("k") is None
    assert store.part("k") == 4
    with store.open_part("k") as stream:
        assert stream.read() == b"half"
    store.discard("k")
    store.discard("k")
    assert store.part("k") is None


def test_an_empty_file_can_be_committed(store):
    put(store, "empty", b"")
    assert store.size("empty") == 0


def test_an_upload_goes_on_only_where_it_stands(store):
    store.append("k", 0, b"half")
    for offset in (0, 3, 5):
        with pytest.raises(ValueError, match="stands at 4"):
            store.append("k", offset, b"rest")
    assert store.append("k", 4, b"rest") == 8
    store.commit("k")
    assert b"".join(store.read("k")) == b"halfrest"


def test_two_uploads_of_one_key_never_mix(store):
    refused = []

    def send(mark):
        for index in range(200):
            try:
                store.append("k", index * 64, mark * 64)
            except ValueError:
                refused.append(mark)

    threads = [threading.Thread(target=send, args=(mark,)) for mark in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.open_part("k") as stream:
        content = stream.read()
    assert len(content) % 64 == 0
    assert all(len(set(content[at : at + 64])) == 1 for at in range(0, len(content), 64))


def test_commit_replaces_and_may_name_another_target(store):
    put(store, "k", b"old")
    put(store, "k", b"new")
    assert b"".join(store.read("k")) == b"new"
    store.append("incoming/1", 0, b"data")
    store.commit("incoming/1", f"datasets/{hashlib.sha256(b'data').hexdigest()}")
    assert store.size("incoming/1") is None
    assert store.size(f"datasets/{hashlib.sha256(b'data').hexdigest()}") == 4


def test_a_reader_keeps_the_file_it_opened(store):
    put(store, "k", b"old")
    with store.open("k") as stream:
        put(store, "k", b"new")
        assert stream.read() == b"old"


def test_delete_takes_a_file_or_all_below_a_prefix(store):
    for key in ("a/b/1", "a/b/c/2", "a/d"):
        put(store, key, b"x")
    store.delete("a/b")
    store.delete("a/b")
    store.delete("never/was")
    assert [store.size(key) for key in ("a/b/1", "a/b/c/2", "a/d")] == [None, None, 1]
    store.delete("a/d")
    assert store.size("a/d") is None


def test_copy_gives_the_same_bytes_and_outlives_its_source(store):
    put(store, "a/1", b"content")
    store.copy("a/1", "b/c/1")
    store.copy("a/1", "b/c/1")
    store.delete("a")
    assert b"".join(store.read("b/c/1")) == b"content"
    with pytest.raises(FileNotFoundError):
        store.copy("a/1", "b/2")
    assert list((store.shared_folder() / PARTS).iterdir()) == []


def test_links_are_never_followed(store, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    root = store.shared_folder()
    put(store, "job/file", b"x")
    (root / "job" / "link").symlink_to(outside / "secret")
    (root / "job" / "folder").symlink_to(outside)
    for key in ("job/link", "job/folder/secret"):
        assert store.size(key) is None
        with pytest.raises(FileNotFoundError):
            store.open(key)
        with pytest.raises(FileNotFoundError):
            list(store.read(key))
    store.append("job/folder/new", 0, b"x")
    with pytest.raises(OSError, match=r".*"):
        store.commit("job/folder/new")
    store.delete("job/folder/secret")
    store.delete("job")
    assert (outside / "secret").read_text() == "secret"
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_a_named_pipe_hangs_nobody(store):
    put(store, "job/file", b"x")
    os.mkfifo(store.shared_folder() / "job" / "pipe")
    assert store.size("job/pipe") is None
    with pytest.raises(FileNotFoundError):
        store.open("job/pipe")


def test_prune_forgets_only_what_nobody_has_added_to(store):
    store.append("k", 0, b"x")
    assert store.prune(3600) == 0
    assert store.part("k") == 1
    assert store.prune(-3600) == 1
    assert store.part("k") is None


def test_check_tells_a_store_that_cannot_be_written(store):
    store.check()
    assert list((store.shared_folder() / PARTS).iterdir()) == []
    (store.shared_folder() / PARTS).rmdir()
    with pytest.raises(OSError, match=r".*"):
        store.check()
