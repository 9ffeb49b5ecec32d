"""Log lines of service and worker alike: as text for people, or as a JSON object a line, with the ids that a line is about.

Whoever takes up a request, an attempt or a worker's life says so once (`about`); every line that is written meanwhile, in its
threads and tasks too, bears the ids.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

TEXT, JSON = "text", "json"
IDS = re.compile(r"\b(job|att|wrk)_[0-9a-f]{32}\b")
NAMES = {"job": "job_id", "att": "attempt_id", "wrk": "worker_id"}

_ABOUT: ContextVar[Mapping[str, str]] = ContextVar("about", default={})  # noqa: B039  (never changed, only replaced)


@contextmanager
def about(**ids: str) -> Generator[None]:
    """Have every line written inside the block bear these ids."""
    token = _ABOUT.set({**_ABOUT.get(), **ids})
    try:
        yield
    finally:
        _ABOUT.reset(token)


def ids_in(text: str) -> dict[str, str]:
    """The ids of job, attempt and worker that stand in a path."""
    return {NAMES[match[1]]: match[0] for match in IDS.finditer(text)}


class TextLines(logging.Formatter):
    """A line for people; ids stand at its end."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (the base class's name)
        """The line without what follows an exception."""
        ids = " ".join(f"{name}={value}" for name, value in _ABOUT.get().items())
        return super().formatMessage(record) + (f" [{ids}]" if ids else "")


class JsonLines(logging.Formatter):
    """A JSON object a line: `at`, `level`, `logger`, `message`, ids, what was passed as `extra={"fields": …}`, and `error`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        line: dict[str, Any] = {"at": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        line |= _ABOUT.get()
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(form: str) -> None:
    """Write every line of this process to standard error.

    Args:
        form: `text` or `json`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == JSON else TextLines())
    logging.basicConfig(handlers=[handler], level=logging.INFO)
