"""Reading an uploaded file once, to tell whether it is sound and what it holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO

from jobs.spec.dataset import Format
from service.domain.inspection.arrays import inspect_arrays
from service.domain.inspection.columns import Facts, refuse
from service.domain.inspection.lines import inspect_lines
from service.domain.inspection.records import inspect_records
from service.domain.inspection.tables import inspect_csv, inspect_parquet
from service.domain.inspection.text import inspect_text
from service.domain.inspection.tokenizer import inspect_tokenizer

__all__ = ["Facts", "inspect"]


Inspection = Callable[[BinaryIO, int], Facts]
INSPECTIONS: Mapping[Format, Inspection] = {
    "text": lambda stream, _: inspect_text(stream),
    "npz": inspect_arrays,
    "csv": lambda stream, _: inspect_csv(stream),
    "jsonl": lambda stream, _: inspect_lines(stream),
    "parquet": inspect_parquet,
    "arrayrecord": inspect_records,
    "tokenizer": lambda stream, _: inspect_tokenizer(stream),
}


def inspect(form: Format, stream: BinaryIO, unpacked_bytes: int) -> Facts:
    """Read a file through.

    Args:
        form: what it is said to be.
        stream: the file from its start, seekable.
        unpacked_bytes: the most that a compressed file may unpack to.

    Raises:
        DatasetInvalid: it is not that, is damaged or cut short, or holds nothing.
    """
    if not stream.read(1):
        raise refuse("The file is empty; send its bytes as the body.")
    stream.seek(0)
    return INSPECTIONS[form](stream, unpacked_bytes)
