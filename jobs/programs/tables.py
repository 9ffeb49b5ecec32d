"""Tables with texts in them, for models that are written as formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from jobs.errors import UserFault
from jobs.spec import builtin

TYPES: Mapping[str, Any] = {"text": pa.string(), "number": pa.float64(), "bool": pa.bool_()}


def table_of(data: Mapping[str, Any], path: Path | None, form: str | None, kinds: Mapping[str, str]) -> dict[str, list[Any]]:
    """The columns of a job's `data` section, in the forms that the service has seen when it settled the model.

    Args:
        data: resolved; `args` names the column of each variable.
        path: the data file, None for inline and builtin data.
        form: the data file's format.
        kinds: of each variable: `text`, `number` or `bool`.

    Raises:
        UserFault: `dataset_invalid`, where a column is missing or of another kind.
    """
    args: Mapping[str, str] = data["args"]
    if data["inline"] is not None:
        return {variable: data["inline"][column] for variable, column in args.items()}
    if data["builtin"] is not None:
        columns: Any = builtin.columns(data["builtin"])
        return {variable: columns[column] for variable, column in args.items()}
    if path is None or form is None or form not in READERS:
        raise UserFault("dataset_invalid", f"a table is needed (csv, parquet, jsonl or npz), and this is {form}", "/data")
    wanted = {column: kinds[variable] for variable, column in args.items()}
    try:
        found = READERS[form](path, wanted)
    except (KeyError, ValueError, OSError, pa.ArrowException) as error:
        raise UserFault("dataset_invalid", f"the columns of the formula cannot be read: {error}", "/data/args") from error
    return {variable: found[column] for variable, column in args.items()}


def _csv(path: Path, kinds: Mapping[str, str]) -> dict[str, list[Any]]:
    types = {name: TYPES[kind] for name, kind in kinds.items()}
    options = pyarrow.csv.ConvertOptions(include_columns=list(kinds), column_types=types)
    return _lists(pyarrow.csv.read_csv(str(path), convert_options=options), kinds)


def _parquet(path: Path, kinds: Mapping[str, str]) -> dict[str, list[Any]]:
    return _lists(pyarrow.parquet.read_table(str(path), columns=list(kinds)), kinds)


def _json(path: Path, kinds: Mapping[str, str]) -> dict[str, list[Any]]:
    return _lists(pyarrow.json.read_json(str(path)), kinds)


def _npz(path: Path, kinds: Mapping[str, str]) -> dict[str, list[Any]]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name].astype(float).tolist() for name in kinds}


def _lists(table: Any, kinds: Mapping[str, str]) -> dict[str, list[Any]]:
    return {name: table[name].cast(TYPES[kind]).to_pylist() for name, kind in kinds.items()}


READERS: Mapping[str, Callable[[Path, Mapping[str, str]], dict[str, list[Any]]]] = {
    "csv": _csv,
    "jsonl": _json,
    "npz": _npz,
    "parquet": _parquet,
}
