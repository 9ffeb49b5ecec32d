"""Datasets: uploaded, listed, brought home."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from meshyard.effects import Flow, Items, Request, Upload
from meshyard.flows.download import OnBytes, Wanted, download_to, ignore_bytes
from meshyard.flows.requests import fetch, get, paged, part, query
from meshyard.models import Dataset, File

FORMAT_OF_SUFFIX = {
    ".npz": "npz",
    ".csv": "csv",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".txt": "text",
    ".array_record": "arrayrecord",
    ".arrayrecord": "arrayrecord",
}
DEFAULT_FORMAT = "text"


def upload(
    source: str | PathLike[str] | bytes,
    *,
    format: str | None = None,  # noqa: A002 - the API's own word
    name: str | None = None,
    on_bytes: OnBytes = ignore_bytes,
) -> Flow[Dataset]:
    """Upload a dataset. The same bytes in the same format are stored once and have one id.

    Args:
        source: path of a file, which is streamed from disk, or the bytes themselves.
        format: `text`, `npz`, `csv`, `parquet`, `jsonl`, `arrayrecord` or `tokenizer`; by default what
            the file's name ends in says, else text.
        name: for people; by default the file's name.
        on_bytes: called with the number of bytes that have just gone out, for a file.
    """
    body = source if isinstance(source, bytes) else Upload(Path(source), on_bytes)
    path = None if isinstance(body, bytes) else body.path
    format = format or (FORMAT_OF_SUFFIX.get(path.suffix.lower()) if path else None) or DEFAULT_FORMAT  # noqa: A001
    values = query(name=name or (path.name if path else None), format=format)
    headers = {"Content-Type": "application/octet-stream"}
    return (yield from fetch(Dataset, Request("POST", "/v1/datasets", values, headers, body, read_seconds=300.0)))


def get_dataset(dataset: str | Dataset) -> Flow[Dataset]:
    """What is known of a dataset."""
    return (yield from fetch(Dataset, get(_path(dataset))))


def list_datasets(*, limit: int | None = None) -> Items[Dataset]:
    """Datasets; pages are fetched as they are needed."""
    return paged(Dataset, "/v1/datasets", limit)


def download(
    dataset: str | Dataset,
    to: str | PathLike[str] | None = None,
    *,
    on_bytes: OnBytes = ignore_bytes,
) -> Flow[Path]:
    """Bring a dataset home, checked against its SHA-256.

    Args:
        dataset: the dataset, or its id.
        to: the file, or a folder that exists; by default the dataset's name, here.
        on_bytes: called with the number of bytes that have just come in.
    """
    found = yield from get_dataset(dataset)
    target, name = Path(to) if to is not None else Path(), Path(found.name or found.id).name
    file = File(path=name, bytes=found.bytes, sha256=found.sha256)
    return (yield from download_to(Wanted(f"{_path(found)}/content", file), target / name if target.is_dir() else target, on_bytes))


def _path(dataset: str | Dataset) -> str:
    return f"/v1/datasets/{part(dataset.id if isinstance(dataset, Dataset) else dataset)}"
