"""Backup and restore of a service on SQLite: one moment of the database, and every file that it names.

The database is copied first, by SQLite's own way of doing so while others write; then the files its rows name. What retention
has taken meanwhile takes its row out of the copy with it: what is restored never names what is not there. Files that are in
the backup already are not copied again: a second backup into the same folder costs what has changed.

PostgreSQL has `pg_dump`; `docs/operating.md` says in which order to take the two.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.engine import Connection

from service.db.engine import Database
from service.db.tables import artifacts, checkpoints, code_bundles, datasets
from service.settings import Settings
from service.storage.store import safe_key

DATABASE = "meshyard.db"
FILES = "artifacts"
NOTE = "backup.json"


class CannotBackUp(Exception):
    """Why there is no backup, or why it cannot be restored, in a sentence."""


@dataclass
class Taken:
    """What a backup came to. `gone`: rows taken out of the copy because their files had gone."""

    files: int = 0
    bytes: int = 0
    copied: int = 0
    gone: list[str] = field(default_factory=list[str])

    def to_dict(self) -> dict[str, Any]:
        """As it is written beside the backup."""
        return {"files": self.files, "bytes": self.bytes, "copied": self.copied, "gone": self.gone}


@dataclass(frozen=True)
class _Named:
    """A file that a row names: its key, its size, and the words by which the row is told."""

    key: str
    bytes: int
    row: tuple[str, ...]


def back_up(settings: Settings, target: Path) -> Taken:
    """Write a backup into a folder, made if it is missing.

    Raises:
        CannotBackUp: the database is not SQLite, or not there.
    """
    source = _file_of(settings)
    if not source.is_file():
        raise CannotBackUp(f"There is no database at {source}.")
    (target / FILES).mkdir(parents=True, exist_ok=True)
    (target / NOTE).unlink(missing_ok=True)
    _copy_database(source, target / DATABASE)
    taken = Taken()
    database = Database(f"sqlite:///{(target / DATABASE).absolute()}")
    with database.write() as connection:
        lost = {one.row for one in _named(connection) if not _copied(settings.artifact_root, target / FILES, one, taken)}
        for row in sorted(lost):
            _forget(connection, row)
            taken.gone.append(" ".join(row))
    _fold(database)
    (target / NOTE).write_text(json.dumps(taken.to_dict(), indent=2) + "\n")
    return taken


def restore(settings: Settings, source: Path) -> Taken:
    """Put a backup where the settings say that database and artifacts lie; both places must be empty.

    Raises:
        CannotBackUp: there is no whole backup, something is in the way, or a file is missing from it.
    """
    target = _file_of(settings)
    if not (source / NOTE).is_file():
        raise CannotBackUp(f"{source} holds no whole backup: its {NOTE} is written last and is not there.")
    if target.exists():
        raise CannotBackUp(f"There is a database at {target} already; move it away first.")
    root = settings.artifact_root
    if root.exists() and any(path.name != ".parts" for path in root.iterdir()):
        raise CannotBackUp(f"The artifact folder {root} is not empty; move what is in it away first.")
    target.parent.mkdir(parents=True, exist_ok=True)
    taken = Taken()
    database = Database(f"sqlite:///{(source / DATABASE).absolute()}")
    with database.read() as connection:
        missing = [one for one in _named(connection) if not _copied(source / FILES, root, one, taken)]
    database.close()
    if missing:
        raise CannotBackUp(f"{len(missing)} files are missing from the backup, {missing[0].key} among them; nothing was restored.")
    # Last: a restore that broke off leaves no database, and so no service that starts on half of it.
    draft = target.with_name(f"{target.name}.restoring")
    _copy_database(source / DATABASE, draft)
    draft.rename(target)
    return taken


def _file_of(settings: Settings) -> Path:
    url = Database(settings.database_url).url
    if url.get_backend_name() != "sqlite" or url.database is None:
        raise CannotBackUp("Only SQLite is backed up by this command; PostgreSQL has pg_dump: see docs/operating.md.")
    return Path(url.database)


def _copy_database(source: Path, target: Path) -> None:
    for leftover in (target, *(target.with_name(target.name + suffix) for suffix in ("-wal", "-shm"))):
        leftover.unlink(missing_ok=True)
    origin, copy = sqlite3.connect(source), sqlite3.connect(target)
    try:
        origin.backup(copy)
    finally:
        copy.close()
        origin.close()


def _fold(database: Database) -> None:
    """Leave the copy as one file."""
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
    database.close()


def _named(connection: Connection) -> Iterator[_Named]:
    for kind, table in (("dataset", datasets), ("code", code_bundles)):
        for row in connection.execute(select(table.c.id, table.c.key, table.c.bytes)).all():
            yield _Named(row.key, row.bytes, (kind, row.id))
    for row in connection.execute(select(artifacts.c.job_id, artifacts.c.path, artifacts.c.key, artifacts.c.bytes)).all():
        yield _Named(row.key, row.bytes, ("artifact", row.job_id, row.path))
    listed = select(checkpoints.c.job_id, checkpoints.c.step, checkpoints.c.prefix, checkpoints.c.manifest)
    for row in connection.execute(listed).all():
        for file in row.manifest["files"]:
            yield _Named(f"{row.prefix}/{file['path']}", file["bytes"], ("checkpoint", row.job_id, str(row.step)))


def _copied(origin: Path, target: Path, one: _Named, taken: Taken) -> bool:
    """Copy a file unless it is there; False where the original is gone or not what its row says."""
    source, place = origin / safe_key(one.key), target / safe_key(one.key)
    try:
        if source.is_symlink() or source.stat().st_size != one.bytes:
            return False
        if not (place.is_file() and place.stat().st_size == one.bytes):
            place.parent.mkdir(parents=True, exist_ok=True)
            draft = place.with_name(f"{place.name}.part")
            shutil.copy2(source, draft)
            draft.rename(place)
            taken.copied += 1
    except FileNotFoundError:
        return False
    taken.files += 1
    taken.bytes += one.bytes
    return True


def _forget(connection: Connection, row: tuple[str, ...]) -> None:
    kind, name, *rest = row
    if kind == "checkpoint":
        connection.execute(delete(checkpoints).where(checkpoints.c.job_id == name, checkpoints.c.step == int(rest[0])))
    elif kind == "artifact":
        connection.execute(delete(artifacts).where(artifacts.c.job_id == name, artifacts.c.path == rest[0]))
    else:
        table = datasets if kind == "dataset" else code_bundles
        connection.execute(delete(table).where(table.c.id == name))
