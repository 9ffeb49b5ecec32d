"""ArrayRecord files: each record is an example, as `numpy.savez` writes it, or a text."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from jobs.errors import UserFault

GROUP = 256
ZIP = b"PK\x03\x04"


def read_records(path: Path) -> Iterator[bytes]:
    """The records, in order.

    Raises:
        UserFault: the file is damaged.
    """
    reader = array_record_module.ArrayRecordReader(str(path))
    try:
        count = reader.num_records()
        for start in range(0, count, GROUP):
            yield from reader.read(start, min(start + GROUP, count))
        reader.close()
    except RuntimeError as error:
        raise UserFault("dataset_invalid", f"the ArrayRecord file cannot be read: {error}", "/data/dataset") from error


def read_examples(path: Path) -> dict[str, np.ndarray]:
    """The arrays of all examples by name, a row a record; none where the records are texts."""
    rows: dict[str, list[np.ndarray]] = {}
    for record in read_records(path):
        if not record.startswith(ZIP):
            return {}
        with np.load(io.BytesIO(record), allow_pickle=False) as arrays:
            for name in arrays.files:
                rows.setdefault(name, []).append(arrays[name])
    return {name: np.stack(each) for name, each in rows.items() if len({array.shape for array in each}) == 1}
