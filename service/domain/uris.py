"""Data that lies on the service's own machine: `file://` below the folders that the operator allows.

It is read once, when a job is submitted, and kept as a dataset like an uploaded one: what the job learns from stays what it was,
and workers that do not see the folder get it all the same.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from jobs.spec.data import DataRefused, format_of_uri
from jobs.spec.dataset import ColumnFacts, DatasetFacts, Format
from service.context import Context
from service.db.queries.contents import DATASETS
from service.db.transaction import Read
from service.domain import datasets
from service.domain.errors import DatasetInvalid, TooLarge
from service.domain.incoming import Incoming

CHUNK_BYTES = 4 * 2**20
PREVIEW = "ds_" + "0" * 32
"""Stands for the dataset that submitting would make."""


def facts(context: Context, project: str, uri: str, *, keep: bool) -> DatasetFacts:
    """What a file holds.

    Args:
        context: the service.
        project: whose job it is.
        uri: of a form that `jobs.spec.data` lets through.
        keep: whether it becomes a dataset.

    Raises:
        DataRefused: it is not allowed, not there, too large or damaged.
    """
    form = format_of_uri(uri)
    incoming = Incoming(context.store, context.settings.max_dataset_bytes)
    try:
        with opened(context, uri) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                incoming.take(chunk)
        return _kept(context, project, uri, form, incoming) if keep else _looked_at(context, project, form, incoming)
    except TooLarge as error:
        raise DataRefused("too_large", str(error)) from error
    except DatasetInvalid as error:
        raise DataRefused("dataset_invalid", str(error)) from error
    except (OSError, ValueError, RuntimeError) as error:  # the latter two: a NUL in the path, links that lead in a circle
        reason = getattr(error, "strerror", None) or "there is none"
        raise DataRefused("not_found", f"the file cannot be read: {reason}") from error
    finally:
        incoming.abandon()


def _kept(context: Context, project: str, uri: str, form: Format, incoming: Incoming) -> DatasetFacts:
    row, _ = datasets.keep(context, project, Path(unquote(urlsplit(uri).path)).name[:200] or None, form, incoming)
    return datasets.facts_of(row)


def _looked_at(context: Context, project: str, form: Format, incoming: Incoming) -> DatasetFacts:
    with Read(context.database) as read:
        known = DATASETS.same(read.connection, project, form, incoming.sha256)
    if known is not None:
        return datasets.facts_of(known)
    found = datasets.look_through(form, incoming)
    columns: list[ColumnFacts] = found.columns
    return DatasetFacts(PREVIEW, form, incoming.bytes, found.rows, columns, found.text, found.tokenizer)


def opened(context: Context, uri: str) -> BinaryIO:
    """The file, looked at after it is open: a path can become another between the two."""
    roots = [Path(root).resolve() for root in context.settings.data_folders]
    if not roots:
        raise DataRefused(
            "not_allowed", "this service reads no files of its own (MESHYARD_DATA_URIS); upload it: POST /v1/datasets"
        )
    path = Path(unquote(urlsplit(uri).path))
    if _is_below(path.resolve(), [context.settings.artifact_root.resolve()]) or not _is_below(path.resolve(), roots):
        raise _not_allowed()
    # Without O_NONBLOCK a pipe would hold the request up until somebody writes to it.
    descriptor = os.open(path.resolve(), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    stream = os.fdopen(descriptor, "rb")
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    if is_file and _is_below(Path(f"/proc/self/fd/{descriptor}").readlink(), roots):
        return stream
    stream.close()
    raise _not_allowed() if is_file else DataRefused("not_found", "is not a file; name one file")


def _is_below(path: Path, roots: list[Path]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


def _not_allowed() -> DataRefused:
    # The same whether it exists or not: what lies outside is nobody's business.
    return DataRefused(
        "not_allowed", "is not below a folder that the operator allows (MESHYARD_DATA_URIS); move it there, or upload it"
    )
