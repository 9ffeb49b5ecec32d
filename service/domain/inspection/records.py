"""ArrayRecord files, looked through in a process of their own: their reader is C++ that was not written for strangers' files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

from jobs.spec.dataset import ColumnFacts
from service.domain.inspection.columns import Facts, refuse

MODULE = "service.domain.inspection.record_process"
MOST_SECONDS = 900.0
ADVICE = "Write it with array_record's ArrayRecordWriter, and close the writer"


def inspect_records(stream: BinaryIO, unpacked_bytes: int) -> Facts:
    """Read every record through.

    Args:
        stream: the file.
        unpacked_bytes: the most that all records may hold together.

    Raises:
        DatasetInvalid: damaged, too large, empty, or records that are no examples of one kind.
    """
    answer = _ask(stream.fileno(), unpacked_bytes)
    if answer is None:
        raise refuse(f"The file could not be read as ArrayRecord. {ADVICE}.")
    if "refused" in answer:
        raise refuse(answer["refused"])
    return Facts(answer["rows"], [ColumnFacts(**column) for column in answer["columns"]])


def _ask(descriptor: int, unpacked_bytes: int) -> dict[str, Any] | None:
    """What the process found; None where it did not come to an end."""
    command = [sys.executable, "-m", MODULE, f"/proc/self/fd/{descriptor}", str(unpacked_bytes)]
    variables = {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "OMP_NUM_THREADS": "1",
    }
    try:
        done = subprocess.run(  # noqa: S603  (fixed arguments)
            command,
            pass_fds=[descriptor],
            env=variables | {"OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=MOST_SECONDS,
            check=False,
        )
        return json.loads(done.stdout) if done.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError):
        return None
