"""Hostile paths against every route that takes one, and hostile archives against every reader: nothing from outside, nothing to it.

`MESHYARD_PATH_CASES` says how many of each; the seed is printed.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import secrets
import sys
import tarfile
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.errors import MeshyardError
from jobs.spec.bundle.archive import read_files
from tests.service.core_driver import Api, Attempt, training
from tests.service.test_retention import commit, context_of, folder_of, probe

CASES = int(os.environ.get("MESHYARD_PATH_CASES", "1000"))
SEED = int(os.environ.get("MESHYARD_SEED", "0")) or secrets.randbits(32)

CLIMBS = [
    *(
        "..",
        "../",
        "..\\",
        "%2e%2e",
        "%2e%2e/",
        "..%2f",
        "%2e%2e%2f",
        "..%5c",
        "%2e%2e%5c",
        "%252e%252e%252f",
        "..%252f",
        "..%c0%af",
    ),
    *("%c0%ae%c0%ae/", "....//", "....\\\\", "..;/", "../.", "./..", "．．/", "‥/", "..%00/", "..\x00/", "..\u2215", "..%u2215"),  # noqa: RUF001
]
STARTS = [
    "",
    "/",
    "//",
    "\\\\host\\",
    "C:\\",
    "file:",
    "file:///",
    "~/",
    "./",
    "checkpoints/5/",
    "outputs/",
    "outputs/link/",
    "state/",
]
NAMES = [
    *(
        "secret.txt",
        "outside/secret.txt",
        "etc/passwd",
        "proc/self/environ",
        "meshyard.db",
        "test.db",
        ".probe",
        "state",
        "state/../..",
        "x",
    ),
    *(
        "a" * 300,
        "é" * 200,
        "%00",
        "\x00",
        "nul\x00.txt",
        "link",
        "link/secret.txt",
        "datasets",
        "con",
        "x%0d%0aY: z",
        "x\r\nY: z",
        " ",
        ".",
    ),
]


def hostile(chance: random.Random) -> str:
    climbs = "".join(chance.choice(CLIMBS) + chance.choice(["", "", "/"]) for _ in range(chance.randrange(9)))
    path = chance.choice(STARTS) + climbs + chance.choice(NAMES)
    return path + chance.choice(["", "", "", "/", "#x", "?x=1", "%"])


async def ask(app: Any, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    """Send a request whose path no client has tidied up."""
    raw = path.encode("utf-8", "surrogatepass")
    head = [(b"host", b"127.0.0.1"), *((name.lower().encode(), value.encode()) for name, value in headers.items())]
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http", "path": path}
    scope |= {"raw_path": raw, "query_string": b"", "headers": head, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}
    status, content = 0, b""
    incoming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status, content
        status = message.get("status", status)
        content += message.get("body", b"")

    await app(scope | {"state": {}}, receive, send)
    return status, content


@pytest.fixture
def furnished(api: Api, tmp_path: Path) -> tuple[Attempt, Attempt, str]:
    """A job with a checkpoint, links that lead out of its folder, an upload under way; and a word that must never be read."""
    token = secrets.token_hex(16)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text(token)
    (tmp_path / "secret.txt").write_text(token)
    api.submit(training())
    attempt = api.worker(probe_token=probe(api)).claim()
    commit(attempt, 5)
    for place in (folder_of(attempt) / "checkpoints" / "5", folder_of(attempt) / "outputs", folder_of(attempt)):
        place.mkdir(exist_ok=True)
        (place / "link").symlink_to(tmp_path / "outside")
        (place / "secret.txt").symlink_to(tmp_path / "secret.txt")
    api.submit(training())
    return attempt, api.worker().claim(), token


def listing(folder: Path, besides: Path) -> dict[str, int]:
    inside = {*besides.rglob("*"), besides}
    return {
        str(path): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path not in inside and path.is_file() and not path.name.startswith("test.db")
    }


def test_hostile_paths_reach_nothing(api: Api, furnished: tuple[Attempt, Attempt, str], tmp_path: Path):
    sys.stdout.write(f"seed {SEED}\n")
    read, written, token = furnished
    root = context_of(api).settings.artifact_root
    before = listing(tmp_path, root)
    job, put = f"/v1/jobs/{read.job_id}", f"/v1/attempts/{written.id}/files/"
    places = [
        *(("GET", f"{job}/checkpoints/5/files/"), ("HEAD", f"{job}/checkpoints/5/files/"), ("GET", f"{job}/artifacts/")),
        *(
            ("PUT", put),
            ("PUT", put + "outputs/"),
            ("HEAD", put),
            ("GET", "/v1/datasets/"),
            ("GET", "/v1/code/"),
            ("GET", "/v1/jobs/"),
        ),
        *(("GET", f"{job}/checkpoints/"), ("GET", "/v1/catalog/"), ("GET", "/v1/webhooks/"), ("GET", "/"), ("DELETE", "/v1/jobs/")),
    ]
    chance = random.Random(SEED)
    body = secrets.token_hex(8).encode()
    headers = {"X-Meshyard-Fence": str(written.given["fence"]), "X-Content-SHA256": hashlib.sha256(body).hexdigest()}
    taken = 0
    for _ in range(CASES):
        method, prefix = chance.choice(places)
        path = prefix + hostile(chance)
        given = (headers, body) if method == "PUT" else ({}, b"")
        status, content = api._portal.call(partial(ask, api.app, method, path, *given))
        assert 200 <= status < 500, (method, path, status)
        assert token.encode() not in content, (method, path)
        assert b"root:" not in content, (method, path)
        taken += method == "PUT" and status == 200
    assert listing(tmp_path, root) == before
    own = root / "jobs" / written.job_id / written.id
    holding = {path for path in root.rglob("*") if path.is_file() and not path.is_symlink() and body in path.read_bytes()}
    assert all(own in path.parents or path.parent.name == ".parts" for path in holding)
    assert taken > 0  # some names that look odd are plain: the corpus does reach the store


def member_name(chance: random.Random) -> str:
    return hostile(chance).replace("\x00", "")[:400] if chance.random() < 0.8 else f"package/module{chance.randrange(4)}.py"


def zip_of(chance: random.Random) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])) as archive:
        for _ in range(chance.randrange(1, 5)):
            member = zipfile.ZipInfo(member_name(chance) or "x")
            member.external_attr = chance.choice([0, 0o100644, 0o120777, 0o060600, 0o020600, 0o010600, 0o040755]) << 16
            archive.writestr(member, chance.choice([b"x = 1\n", b"/etc/passwd", b"\0" * 10_000]))
    return damaged(chance, sink.getvalue())


def tar_of(chance: random.Random) -> bytes:
    kinds = [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=chance.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])) as archive:
        for _ in range(chance.randrange(1, 5)):
            member = tarfile.TarInfo(member_name(chance) or "x")
            member.type, member.linkname = chance.choice(kinds), chance.choice(["/etc/passwd", "../../x", member.name])
            content = b"x = 1\n"
            member.size = len(content) if member.type == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(content))
    return damaged(chance, gzip.compress(sink.getvalue(), 1))


def damaged(chance: random.Random, content: bytes) -> bytes:
    if chance.random() < 0.7:
        return content
    place = chance.randrange(len(content))
    return content[:place] + bytes([chance.randrange(256)]) + content[place + chance.choice([0, 1, 1, 40]) :]


def test_hostile_archives_give_plain_names_or_nothing():
    sys.stdout.write(f"seed {SEED}\n")
    chance = random.Random(SEED)
    read = 0
    for number in range(CASES):
        content = zip_of(chance) if number % 2 else tar_of(chance)
        try:
            found = read_files(content)
        except MeshyardError:
            continue
        read += 1
        for path, body in found.items():
            parts = path.split("/")
            assert not path.startswith(("/", "~/")) or path.startswith("~/")
            assert not {"", ".", ".."} & set(parts), path
            assert "\\" not in path, path
            assert path.isprintable(), path
            assert b"root:" not in body
    assert 0 < read < CASES


def bomb(kind: str) -> bytes:
    sink = io.BytesIO()
    if kind == "a zip that unpacks to 96 MiB":
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.py", "w", force_zip64=True) as member:
            for _ in range(96):
                member.write(bytes(2**20))
    elif kind == "a zip of 20 000 entries":
        with zipfile.ZipFile(sink, "w") as archive:
            for number in range(20_000):
                archive.writestr(zipfile.ZipInfo(f"{number}"), b"")
    elif kind == "a tar.gz that unpacks to 96 MiB":
        with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=1) as stream:
            for _ in range(96):
                stream.write(bytes(2**20))
    else:
        with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=1) as stream:
            header = tarfile.TarInfo("x").tobuf()
            for _ in range(100):
                stream.write(header * 10_000)
    return sink.getvalue()


BOMBS = (
    "a zip that unpacks to 96 MiB",
    "a zip of 20 000 entries",
    "a tar.gz that unpacks to 96 MiB",
    "a tar.gz of a million entries",
)


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused(start, kind):
    content = bomb(kind)
    with start(code="on", max_code_bytes=64 * 2**20) as api:
        reply = api.post("/v1/code?name=m", content=content)
        assert reply.status_code == 422, reply.text
        assert api.get("/v1/code").json()["data"] == []


def test_an_npz_with_hostile_members_is_refused_or_read_as_columns(api: Api, tmp_path: Path):
    chance = random.Random(SEED)
    root = context_of(api).settings.artifact_root
    before = listing(tmp_path, root)
    for _ in range(20):
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as archive:
            array = io.BytesIO()
            np.save(array, np.arange(4.0))
            archive.writestr((member_name(chance) or "x") + ".npy", array.getvalue())
        reply = api.post("/v1/datasets?format=npz", content=sink.getvalue())
        assert reply.status_code in (200, 201, 422), reply.text
    assert listing(tmp_path, root) == before
