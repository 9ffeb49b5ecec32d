"""Datasets: received in pieces, looked through once, and kept once for each project, format and content."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy.engine import Connection, Row

from jobs.ids import new_id
from jobs.spec.dataset import ColumnFacts, DatasetFacts, Format, TextFacts, TokenizerFacts
from service.context import Context
from service.db.queries import datasets
from service.db.transaction import Read, Write
from service.domain.errors import NotFound, TooLarge
from service.domain.inspection import Facts, inspect
from service.domain.instants import wire
from service.storage.store import Store

UNPACKED_TIMES = 4
"""A compressed file may unpack to this many times the limit on uploads."""


class Column(BaseModel):
    """A column of a table, or an array of an archive. `minimum` and `maximum` are over its finite values.

    Rows count from 1, without a header: where the least, the greatest and the first missing value stand. `odd_row` is the first row
    that keeps the column from being numbers, and `odd` tells what it holds.
    """

    name: str
    dtype: str
    shape: list[int]
    minimum: float | None
    maximum: float | None
    missing: int
    minimum_row: int | None
    maximum_row: int | None
    missing_row: int | None
    odd_row: int | None
    odd: str | None


class TextSummary(BaseModel):
    """What a text holds."""

    characters: int
    distinct_characters: int
    max_byte: int


class TokenizerSummary(BaseModel):
    """What a tokenizer holds. A language model needs a `vocab_size` of at least this one."""

    model: str
    vocab_size: int


class Dataset(BaseModel):
    """An uploaded file. `rows`: of a table, null for a text and for arrays of unequal length."""

    object: Literal["dataset"] = "dataset"
    id: str
    name: str | None
    format: Format
    sha256: str
    bytes: int
    rows: int | None
    columns: list[Column]
    text: TextSummary | None
    tokenizer: TokenizerSummary | None
    created_at: str


class Incoming:
    """A file on its way in. Nothing of it stays unless `keep` is reached; call `abandon` in any case.

    Args:
        store: where it will lie.
        limit_bytes: the most it may have.
    """

    def __init__(self, store: Store, limit_bytes: int) -> None:
        self._store, self._limit = store, limit_bytes
        self._hasher = hashlib.sha256()
        self._key = f"incoming/{secrets.token_hex(16)}"
        self.bytes = 0

    def take(self, chunk: bytes) -> None:
        """Add a piece.

        Raises:
            TooLarge: more than the limit has come.
        """
        if self.bytes + len(chunk) > self._limit:
            raise TooLarge(f"An upload may have at most {self._limit} bytes.")
        self._hasher.update(chunk)
        self.bytes = self._store.append(self._key, self.bytes, chunk)

    @property
    def sha256(self) -> str:
        """Of what has come so far."""
        return self._hasher.hexdigest()

    def inspect(self, form: Format) -> Facts:
        """Look it through. Raises DatasetInvalid."""
        if self.bytes == 0:
            self._store.append(self._key, 0, b"")
        with self._store.open_part(self._key) as stream:
            return inspect(form, stream, UNPACKED_TIMES * self._limit)

    def content(self) -> bytes:
        """All of it, for an upload whose limit is small."""
        if self.bytes == 0:
            return b""
        with self._store.open_part(self._key) as stream:
            return stream.read()

    def place(self, key: str) -> None:
        """Give it its place in the store."""
        self._store.commit(self._key, key)

    def abandon(self) -> None:
        """Forget what has not been placed."""
        self._store.discard(self._key)


def keep(context: Context, project: str, name: str | None, form: Format, incoming: Incoming) -> tuple[Row[Any], bool]:
    """Make a dataset of what has come in; tells also whether it is new.

    Raises:
        DatasetInvalid: it is not what its format says. Nothing is kept.
    """
    with Read(context.database) as read:
        known = datasets.same(read.connection, project, form, incoming.sha256)
    facts = incoming.inspect(form) if known is None else None
    key = f"datasets/{incoming.sha256}"
    # Also where it is known: the bytes that have just come are sound, the ones that are there may no longer be.
    incoming.place(key)
    if facts is None:
        return _existing(known), False
    try:
        return _insert(context, _row(project, name, form, incoming, facts, key))
    except BaseException:
        _drop(context, key)
        raise


def _existing(row: Row[Any] | None) -> Row[Any]:
    if row is None:
        raise NotFound("There is no such dataset.")
    return row


def _insert(context: Context, row: dict[str, Any]) -> tuple[Row[Any], bool]:
    with Write(context.database) as write:
        added = datasets.add(write.connection, row)
        if added is not None:
            return added, True
        return _existing(datasets.same(write.connection, row["project"], row["format"], row["sha256"])), False


def _drop(context: Context, key: str) -> None:
    with Write(context.database) as write:
        if not datasets.any_at(write.connection, key):
            context.store.delete(key)


def _row(project: str, name: str | None, form: Format, incoming: Incoming, facts: Facts, key: str) -> dict[str, Any]:
    text = asdict(facts.text) if facts.text is not None else None
    return {
        "id": new_id("ds"),
        "project": project,
        "name": name,
        "format": form,
        "sha256": incoming.sha256,
        "bytes": incoming.bytes,
        "rows": facts.rows,
        "columns": [asdict(column) for column in facts.columns],
        "text": {field: value for field, value in text.items() if field != "bytes"} if text is not None else None,
        "tokenizer": asdict(facts.tokenizer) if facts.tokenizer is not None else None,
        "key": key,
    }


def get(connection: Connection, project: str, dataset_id: str) -> Row[Any]:
    """A dataset's row.

    Raises:
        NotFound: the project has no such dataset.
    """
    return _existing(datasets.get(connection, project, dataset_id))


def facts(connection: Connection, project: str, dataset_id: str) -> DatasetFacts | None:
    """What is known of a dataset, enough to check a spec against it; None if the project has no such dataset."""
    row = datasets.get(connection, project, dataset_id)
    return None if row is None else facts_of(row)


def facts_of(row: Row[Any]) -> DatasetFacts:
    """What is known of the dataset of a row."""
    text = TextFacts(bytes=row.bytes, **row.text) if row.text is not None else None
    columns = [ColumnFacts(**column) for column in row.columns]
    tokenizer = TokenizerFacts(**row.tokenizer) if row.tokenizer is not None else None
    return DatasetFacts(row.id, row.format, row.bytes, row.rows, columns, text, tokenizer)


def shown(row: Row[Any]) -> Dataset:
    """A dataset as users see it."""
    return Dataset(
        id=row.id,
        name=row.name,
        format=row.format,
        sha256=row.sha256,
        bytes=row.bytes,
        rows=row.rows,
        columns=[Column(**column) for column in row.columns],
        text=TextSummary(**row.text) if row.text is not None else None,
        tokenizer=TokenizerSummary(**row.tokenizer) if row.tokenizer is not None else None,
        created_at=wire(int(row.created_at)),
    )
