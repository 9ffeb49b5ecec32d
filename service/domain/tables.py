"""The columns of a dataset that a formula names, read again when a job is submitted: levels, means and scales come from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, cast

import numpy as np
from sqlalchemy.engine import Connection

from jobs.spec.data import DataRefused, format_of_uri, is_uri
from jobs.spec.glm.design import ColumnKind, Table
from jobs.spec.glm.model import FindTable, Kinds
from service.context import Context
from service.db.queries.contents import DATASETS
from service.domain import uris
from service.domain.inspection.arrow import BROKEN, arrow, csv, json, parquet

_TYPES: Mapping[ColumnKind, Any] = {"text": arrow.string(), "number": arrow.float64(), "bool": arrow.bool_()}


def finder(connection: Connection, context: Context, project: str) -> FindTable:
    """What reads the columns of this project's datasets, and of files that jobs name by URI."""

    def find(reference: str, kinds: Kinds) -> Table | None:
        try:
            if is_uri(reference):
                with uris.opened(context, reference) as stream:
                    return _READERS[format_of_uri(reference)](stream, kinds)
            row = DATASETS.get(connection, project, reference)
            if row is None or row.format not in _READERS:
                return None
            with context.store.open(row.key) as stream:
                return _READERS[row.format](stream, kinds)
        except (KeyError, DataRefused, *BROKEN):
            return None

    return find


def _csv(stream: BinaryIO, kinds: Kinds) -> Table:
    types = {name: _TYPES[kind] for name, kind in kinds.items()}
    options = csv.ConvertOptions(include_columns=list(kinds), column_types=types)
    return _lists(csv.read_csv(stream, convert_options=options), kinds)


def _parquet(stream: BinaryIO, kinds: Kinds) -> Table:
    return _lists(parquet.read_table(stream, columns=list(kinds)), kinds)


def _json(stream: BinaryIO, kinds: Kinds) -> Table:
    return _lists(json.read_json(stream), kinds)


def _npz(stream: BinaryIO, kinds: Kinds) -> Table:
    archive = cast("Mapping[str, Any]", np.load(stream, allow_pickle=False))
    return {name: archive[name].astype(float).tolist() for name in kinds}


def _lists(table: Any, kinds: Kinds) -> Table:
    return {name: table[name].cast(_TYPES[kind]).to_pylist() for name, kind in kinds.items()}


_READERS: Mapping[str, Callable[[BinaryIO, Kinds], Table]] = {"csv": _csv, "jsonl": _json, "npz": _npz, "parquet": _parquet}
