"""What can be seen of a service from the machine it runs on: its database, its migrations, its artifact folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.exc import DBAPIError

from service.db import migration
from service.db.engine import Database
from service.settings import Settings
from service.storage.local import LocalStore

GIBIBYTE = 2**30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found, and what to do where it is not well."""

    name: str
    status: Literal["ok", "warning", "failed", "skipped"]
    detail: str
    remedy: str | None = None


def examine(settings: Settings) -> list[Finding]:
    """Look at what the settings name. Nothing is made, and the byte written into the artifact folder is taken back."""
    return [*_database(settings), _artifacts(settings), _room(settings)]


def _database(settings: Settings) -> list[Finding]:
    database = Database(settings.database_url)
    place = database.url.render_as_string(hide_password=True)
    try:
        if database.is_sqlite and not _exists(database):
            return [Finding("database", "skipped", f"There is no database at {place} yet.", "meshyard serve makes it.")]
        found = migration.version(database)
    except DBAPIError as error:
        reason = str(error.orig).strip().partition("\n")[0]
        remedy = "Is it running, and is MESHYARD_DATABASE_URL right? Is the disk full?"
        return [Finding("database", "failed", f"{place} cannot be read: {reason}", remedy)]
    finally:
        database.close()
    return [Finding("database", "ok", f"{place} answers."), _migrations(found)]


def _exists(database: Database) -> bool:
    folder = database.folder
    return folder is not None and (folder / str(database.url.database).rpartition("/")[2]).is_file()


def _migrations(found: migration.Version) -> Finding:
    if not found.is_known:
        detail = f"The database is at version {found.found}, which a newer meshyard has made."
        return Finding("migrations", "failed", detail, "Update meshyard here.")
    if not found.is_current:
        detail = f"The database is at version {found.found or 'none'}, not {found.newest}."
        return Finding("migrations", "failed", detail, "Run: meshyard migrate")
    return Finding("migrations", "ok", f"The database is at version {found.newest}, the newest.")


def _artifacts(settings: Settings) -> Finding:
    root = settings.artifact_root
    if not root.is_dir():
        return Finding("artifacts", "skipped", f"There is no folder {root} yet.", "meshyard serve makes it.")
    try:
        LocalStore(root).check()
    except OSError as error:
        remedy = "The service's user must be able to write there."
        return Finding("artifacts", "failed", f"{root} cannot be written: {error.strerror or error}.", remedy)
    return Finding("artifacts", "ok", f"{root} can be written.")


def _room(settings: Settings) -> Finding:
    folder = settings.artifact_root
    while not folder.exists():
        folder = folder.parent
    free, least = shutil.disk_usage(folder).free, settings.min_free_bytes
    detail = f"{free / GIBIBYTE:.1f} GiB are free where artifacts lie."
    if free < least:
        remedy = f"Below {least / GIBIBYTE:.1f} GiB uploads are refused. Delete jobs or datasets, or set MESHYARD_KEEP_JOB_DAYS."
        return Finding("room", "failed", detail, remedy)
    if free < 4 * least:
        return Finding("room", "warning", detail, f"Uploads are refused below {least / GIBIBYTE:.1f} GiB.")
    return Finding("room", "ok", detail)
