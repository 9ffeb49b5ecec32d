"""Downloads that survive a broken connection and let no wrong byte through.

Files land in a hidden folder beside the target, keep what they have when the connection breaks or the process ends, are checked
against their SHA-256, and appear under their own name in one rename when all of them are right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from meshyard.effects import Close, Flow, Request, Sleep, open_stream, read, work
from meshyard.errors import APIConnectionError, APIResponseError, DownloadCorrupt
from meshyard.models import File

OnBytes: TypeAlias = Callable[[int], None]
"""Called with the number of bytes that have just come in."""

READ_SECONDS = 60.0
PATIENCE = 5
"""Connections in a row that may break without a single byte before the download gives up; what came so far is kept."""


@dataclass(frozen=True)
class Wanted:
    """A file to fetch.

    Attributes:
        path: of the request.
        file: its manifest entry; `file.path` is relative to the target folder.
    """

    path: str
    file: File


def ignore_bytes(_count: int) -> None:
    """An `OnBytes` for nobody."""


def download_folder(wanted: list[Wanted], target: Path, on_bytes: OnBytes = ignore_bytes) -> Flow[Path]:
    """Fetch files into a folder that appears whole or not at all.

    Raises:
        DownloadCorrupt: a file came twice with wrong bytes.
        FileExistsError: the target exists and holds something else.
    """
    if (yield from work(target.exists)):
        if (yield from work(lambda: _holds(target, wanted))):
            return target
        raise FileExistsError(f"{target} exists and is not this download: move it away or name another folder")
    partial = target.with_name(f".{target.name}.partial")
    for item in wanted:
        yield from download_file(item, partial / _safe(item.file.path), on_bytes)
    yield from work(lambda: partial.mkdir(parents=True, exist_ok=True))
    yield from work(lambda: _remove_strangers(partial, wanted))
    yield from work(lambda: partial.rename(target))
    return target


def download_to(item: Wanted, target: Path, on_bytes: OnBytes = ignore_bytes) -> Flow[Path]:
    """Fetch one file; it appears whole or not at all, in the place of an older one."""
    partial = target.with_name(f".{target.name}.partial")
    yield from download_file(item, partial, on_bytes)
    yield from work(lambda: partial.replace(target))
    return target


def download_file(item: Wanted, target: Path, on_bytes: OnBytes) -> Flow[None]:
    """Fetch one file and check it; go on from the bytes that are there already.

    What an earlier run left behind may be at fault, so wrong bytes get a second chance from nothing.
    """
    yield from work(lambda: target.parent.mkdir(parents=True, exist_ok=True))
    for _ in range(2):
        yield from _complete(item, target, on_bytes)
        if (yield from work(lambda: _sha256(target))) == item.file.sha256:
            return
        yield from work(target.unlink)
    raise DownloadCorrupt(item.file.path)


def _complete(item: Wanted, target: Path, on_bytes: OnBytes) -> Flow[None]:
    """Add to a file until it has its size."""
    failures, have = 0, (yield from work(lambda: _size(target)))
    while have < item.file.bytes:
        error: APIConnectionError | None = None
        try:
            yield from _append(item, target, have, on_bytes)
        except APIConnectionError as broken:
            error = broken
        before, have = have, (yield from work(lambda: _size(target)))
        failures = 0 if have > before else failures + 1
        if failures > PATIENCE:
            raise error or APIResponseError(f"{item.path} ends after {have} of {item.file.bytes} bytes")
        if error or failures:
            yield Sleep(min(0.2 * 2**failures, 5.0))


def _append(item: Wanted, target: Path, have: int, on_bytes: OnBytes) -> Flow[None]:
    """One request for what is missing."""
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    stream = yield from open_stream(Request("GET", item.path, headers=headers, read_seconds=READ_SECONDS))
    # 200 in answer to a range: the server sends all of it again.
    with target.open("ab" if stream.status == 206 else "wb") as sink:
        left = item.file.bytes - sink.tell()
        while left > 0 and (chunk := (yield from read(stream))):
            sink.write(chunk[:left])
            left -= len(chunk)
            on_bytes(len(chunk))
    yield Close(stream)


def save_stream(request: Request, target: Path, on_bytes: OnBytes = ignore_bytes) -> Flow[Path]:
    """Save an answer that has no manifest and no ranges (an archive made on the fly); from the start again if it breaks."""
    partial = target.with_name(f".{target.name}.partial")
    yield from work(lambda: target.parent.mkdir(parents=True, exist_ok=True))
    for tries_left in (2, 1, 0):
        try:
            stream = yield from open_stream(request)
            with partial.open("wb") as sink:
                while chunk := (yield from read(stream)):
                    sink.write(chunk)
                    on_bytes(len(chunk))
            break
        except APIConnectionError:
            if not tries_left:
                raise
    yield from work(lambda: partial.replace(target))
    return target


def _safe(path: str) -> PurePosixPath:
    """A manifest's path, refused where it would leave the folder."""
    relative = PurePosixPath(path)
    if relative.is_absolute() or not relative.parts or ".." in relative.parts or "\\" in path:
        raise APIResponseError(f"the manifest names a path outside its folder: {path!r}")
    return relative


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    if not path.exists():
        path.touch()  # an empty file asks for no request
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _holds(folder: Path, wanted: list[Wanted]) -> bool:
    """Whether a folder is exactly this download, every byte of it."""
    names = {_safe(item.file.path).as_posix() for item in wanted}
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    return names == present and all(_sha256(folder / item.file.path) == item.file.sha256 for item in wanted)


def _remove_strangers(folder: Path, wanted: list[Wanted]) -> None:
    """Drop what an interrupted download of another checkpoint of that name left."""
    names = {_safe(item.file.path).as_posix() for item in wanted}
    for path in folder.rglob("*"):
        if not path.is_dir() and path.relative_to(folder).as_posix() not in names:
            path.unlink()
