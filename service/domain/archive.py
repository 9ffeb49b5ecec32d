"""A checkpoint as one tar: the same bytes every time, and their number known before the first is read."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy.engine import Row

from service.domain.errors import CheckpointCorrupt
from service.domain.verification import Stored, verified
from service.storage.store import Store, safe_key


def files_of(row: Row[Any]) -> list[Stored]:
    """The files of a checkpoint's manifest, by path."""
    prefix: str = row.prefix
    return [
        Stored(safe_key(prefix, file["path"]), file["path"], file["bytes"], file["sha256"], CheckpointCorrupt)
        for file in row.manifest["files"]
    ]


def tar_bytes(step: int, files: Sequence[Stored]) -> int:
    """How long the tar is."""
    content = sum(len(_header(step, file)) + file.bytes + _filling(file.bytes, tarfile.BLOCKSIZE) for file in files)
    return content + _end(content)


def tar(store: Store, step: int, files: Sequence[Stored]) -> Iterator[bytes]:
    """The tar in chunks; it unpacks to `{step}/…`.

    Raises:
        CheckpointCorrupt: a file is not what its manifest says; the tar then lacks its end.
    """
    content = 0
    for file in files:
        header = _header(step, file)
        yield header
        yield from verified(store, file)
        filling = _filling(file.bytes, tarfile.BLOCKSIZE)
        if filling:
            yield bytes(filling)
        content += len(header) + file.bytes + filling
    yield bytes(_end(content))


def _header(step: int, file: Stored) -> bytes:
    entry = tarfile.TarInfo(f"{step}/{file.name}")
    entry.size, entry.mtime, entry.mode = file.bytes, 0, 0o644
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _filling(size: int, unit: int) -> int:
    return -size % unit


def _end(content: int) -> int:
    """Two empty blocks, then whatever fills the last record: readers on tapes, and some not, expect whole ones."""
    closing = 2 * tarfile.BLOCKSIZE
    return closing + _filling(content + closing, tarfile.RECORDSIZE)
