"""Datasets: looked through once, and kept once for each project, format and content."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy.engine import Connection, Row

from jobs.ids import new_id
from jobs.spec.dataset import ColumnFacts, DatasetFacts, Format, TextFacts, TokenizerFacts
from service.context import Context
from service.db.queries.contents import DATASETS
from service.domain.errors import NotFound
from service.domain.incoming import Incoming, keep_once
from service.domain.inspection import Facts, inspect
from service.domain.instants import wire

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


def keep(context: Context, project: str, name: str | None, form: Format, incoming: Incoming) -> tuple[Row[Any], bool]:
    """Make a dataset of what has come in; tells also whether it is new.

    Raises:
        DatasetInvalid: it is not what its format says. Nothing is kept.
    """
    key = f"datasets/{incoming.sha256}"
    identity = {"id": new_id("ds"), "project": project, "name": name, "format": form, "key": key}
    return keep_once(context, DATASETS, identity, incoming, lambda: _described(look_through(form, incoming)))


def look_through(form: Format, incoming: Incoming) -> Facts:
    """What a file holds that has come in. Raises DatasetInvalid."""
    with incoming.open() as stream:
        return inspect(form, stream, UNPACKED_TIMES * incoming.limit_bytes)


def _described(facts: Facts) -> dict[str, Any]:
    text = asdict(facts.text) if facts.text is not None else None
    return {
        "rows": facts.rows,
        "columns": [asdict(column) for column in facts.columns],
        "text": {field: value for field, value in text.items() if field != "bytes"} if text is not None else None,
        "tokenizer": asdict(facts.tokenizer) if facts.tokenizer is not None else None,
    }


def get(connection: Connection, project: str, dataset_id: str) -> Row[Any]:
    """A dataset's row.

    Raises:
        NotFound: the project has no such dataset.
    """
    row = DATASETS.get(connection, project, dataset_id)
    if row is None:
        raise NotFound("There is no such dataset.")
    return row


def facts(connection: Connection, project: str, dataset_id: str) -> DatasetFacts | None:
    """What is known of a dataset, enough to check a spec against it; None if the project has no such dataset."""
    row = DATASETS.get(connection, project, dataset_id)
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
