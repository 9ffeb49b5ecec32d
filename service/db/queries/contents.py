"""What users upload: kept once for each project, form and content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, Table, select
from sqlalchemy.engine import Connection, Row

from service.db.engine import insert_once, now_us
from service.db.tables import code_bundles, datasets


class Contents:
    """One table of uploads.

    Args:
        table: with `id`, `project`, `sha256` and `key`.
        form: the column that tells what the same bytes were uploaded as.
    """

    def __init__(self, table: Table, form: Column[Any]) -> None:
        self._table, self._form = table, form

    def add(self, connection: Connection, row: Mapping[str, Any]) -> Row[Any] | None:
        """Insert an upload; None if the project has the same bytes in the same form already.

        Where another transaction is about to insert the same, this waits for its end.
        """
        statement = insert_once(connection, self._table).values(**row, created_at=now_us()).returning(*self._table.c)
        return connection.execute(statement).one_or_none()

    def get(self, connection: Connection, project: str, upload_id: str) -> Row[Any] | None:
        """An upload's row, if the project has such an upload."""
        query = select(self._table).where(self._table.c.id == upload_id, self._table.c.project == project)
        return connection.execute(query).one_or_none()

    def same(self, connection: Connection, project: str, form: str, sha256: str) -> Row[Any] | None:
        """The project's upload of this form and content."""
        of_project = select(self._table).where(self._table.c.project == project)
        return connection.execute(of_project.where(self._form == form, self._table.c.sha256 == sha256)).one_or_none()

    def like(self, connection: Connection, row: Mapping[str, Any]) -> Row[Any] | None:
        """The upload that kept this row from being inserted."""
        return self.same(connection, row["project"], row[self._form.name], row["sha256"])

    def page(self, connection: Connection, project: str, after: str | None, limit: int) -> list[Row[Any]]:
        """Uploads, newest first, that come after the upload `after`."""
        query = select(self._table).where(self._table.c.project == project).order_by(self._table.c.id.desc()).limit(limit)
        return list(connection.execute(query if after is None else query.where(self._table.c.id < after)))

    def any_at(self, connection: Connection, key: str) -> bool:
        """Whether any upload of any project has its bytes under this key."""
        return connection.execute(select(self._table.c.id).where(self._table.c.key == key).limit(1)).first() is not None


DATASETS = Contents(datasets, datasets.c.format)
BUNDLES = Contents(code_bundles, code_bundles.c.module)
