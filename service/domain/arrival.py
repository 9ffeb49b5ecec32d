"""Whether the files that a worker names are there: nothing is listed on its word alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from jobs.errors import Issue
from jobs.protocol import File
from service.db.queries import uploads
from service.db.queries.uploads import Upload
from service.domain.errors import Invalid
from service.storage.store import Store, safe_key

MOST_TOLD = 20


@dataclass(frozen=True)
class Folder:
    """A folder of an attempt in the artifact store.

    Attributes:
        attempt_id: who wrote it.
        prefix: its key.
        shared: the worker wrote into the store's own folder; otherwise every file came through the service.
    """

    attempt_id: str
    prefix: str
    shared: bool

    def key(self, file: File) -> str:
        """Where one of its files lies. Raises ValueError for a path that climbs."""
        return safe_key(self.prefix, file.path)


def require(connection: Connection, store: Store, folder: Folder, files: Sequence[File], pointer: str) -> None:
    """Raise Invalid unless each file is in the folder: of the same size, and of the same SHA-256 where the service received it.

    Args:
        connection: reads what was received.
        store: where the files are.
        folder: what the files' paths are relative to.
        files: the worker's list.
        pointer: JSON Pointer to that list.
    """
    faults = _faulty_paths(folder, files)
    if not faults:
        received = {} if folder.shared else uploads.below(connection, folder.attempt_id, folder.prefix)
        faults = [(index, fault) for index, file in enumerate(files) if (fault := _fault(store, folder, file, received))]
    if faults:
        issues = [Issue(f"{pointer}/{index}", "file_missing", fault) for index, fault in faults[:MOST_TOLD]]
        raise Invalid("Not every file that was named is there as it was named; send it again.", issues)


def _faulty_paths(folder: Folder, files: Sequence[File]) -> list[tuple[int, str]]:
    faults: list[tuple[int, str]] = []
    seen: set[str] = set()
    for index, file in enumerate(files):
        try:
            key = folder.key(file)
        except ValueError:
            faults.append((index, "The path is not one of plain names below the folder."))
            continue
        if key in seen:
            faults.append((index, "The path is named twice."))
        seen.add(key)
    return faults


def _fault(store: Store, folder: Folder, file: File, received: dict[str, Upload]) -> str | None:
    key = folder.key(file)
    size = store.size(key)
    if size is None:
        return "There is no such file."
    if size != file.bytes:
        return f"The file has {size} bytes, not {file.bytes}."
    if not folder.shared and received.get(key) != Upload(file.bytes, file.sha256):
        return "The file did not come whole with this SHA-256."
    return None
