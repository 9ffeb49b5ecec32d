"""Bringing a database to the schema that this version of the code works on."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from service.db.engine import Database


@dataclass(frozen=True)
class Version:
    """Where a database stands: its revision (None: empty), and the newest one.

    `is_known`: the code has heard of the revision; where it has not, the database belongs to a newer version.
    """

    found: str | None
    newest: str
    is_known: bool

    @property
    def is_current(self) -> bool:
        """Whether there is nothing to do."""
        return self.found == self.newest


def version(database: Database) -> Version:
    """Look where a database stands."""
    with as_file(files("migrations")) as folder, database.read() as connection:
        return _version(connection, _config(str(folder)))


def upgrade(database: Database) -> Version:
    """Bring a database to the newest revision, with nobody else at it; gives where it stood. A newer one is left alone."""
    with as_file(files("migrations")) as folder, database.exclusive() as connection:
        config = _config(str(folder))
        before = _version(connection, config)
        if before.is_known and not before.is_current:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        return before


def _config(folder: str) -> Config:
    config = Config()
    config.set_main_option("script_location", folder)
    return config


def _version(connection: Connection, config: Config) -> Version:
    script = ScriptDirectory.from_config(config)
    newest = script.get_current_head()
    assert newest is not None  # noqa: S101  (there is a first migration)
    found = MigrationContext.configure(connection).get_current_revision()
    known = {revision.revision for revision in script.walk_revisions()}
    return Version(found, newest, found is None or found in known)
