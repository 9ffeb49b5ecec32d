"""Metrics of jobs that have ended: their many small chunks become few, and after long only the shape of a series is kept.

Nobody writes to such a job any more, and whoever followed it has been told its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from sqlalchemy.engine import Connection

from service.db.queries import jobs
from service.db.queries import metrics as rows
from service.domain.lifecycle import Change
from service.domain.metrics import last_of_each, thin

CHUNK_POINTS = 100_000
THINNED = "metrics.thinned"


def roll_up(connection: Connection, job_id: str) -> None:
    """Put a job's chunks together, series by series; what was overwritten goes. No point that anybody sees changes."""
    for _, found in _series(connection, job_id):
        if len(found) > 1:
            steps, values, gone = _columns(found)
            kept = last_of_each(steps)
            rows.replace(connection, [row.id for row in found], list(_packed(job_id, found[0], steps[kept], values[kept], gone)))
    rows.note_rolled(connection, job_id)


def thin_out(change: Change, job_id: str, most: int) -> bool:
    """Keep `most` points of each longer series of a job, such that its shape stays; False where none is longer."""
    if jobs.lock(change.connection, None, job_id) is None:
        return False
    rows.note_thinned(change.connection, job_id)
    told: list[str] = []
    for (name, _), found in _series(change.connection, job_id):
        steps, values, gone = _columns(found)
        if len(steps) > most:
            kept = thin(values, most)
            gone += len(steps) - len(kept)
            packed = list(_packed(job_id, found[0], steps[kept], values[kept], gone))
            rows.replace(change.connection, [row.id for row in found], packed)
            told.append(name)
    if told:
        change.tell(job_id, THINNED, {"series": len(told), "points_kept": most})
    return bool(told)


def _series(connection: Connection, job_id: str) -> Iterator[tuple[tuple[str, str], Sequence[Any]]]:
    found = sorted(rows.of_job(connection, job_id, None, 0), key=lambda row: (row.name, row.labels, row.id))
    for key, group in groupby(found, lambda row: (row.name, row.labels)):
        yield key, list(group)


def _columns(found: Sequence[Any]) -> tuple[Any, Any, int]:
    steps = np.frombuffer(b"".join(row.steps for row in found), "<i8")
    values = np.frombuffer(b"".join(row.values for row in found), "<f8")
    return steps, values, sum(row.thinned_from - len(row.steps) // 8 for row in found if row.thinned_from is not None)


def _packed(job_id: str, like: Any, steps: Any, values: Any, gone: int) -> Iterator[dict[str, Any]]:
    for start in range(0, len(steps), CHUNK_POINTS):
        some, others = steps[start : start + CHUNK_POINTS], values[start : start + CHUNK_POINTS]
        yield {
            "job_id": job_id,
            "name": like.name,
            "labels": like.labels,
            "count": len(some),
            "first_step": int(some[0]),
            "last_step": int(some[-1]),
            "steps": some.tobytes(),
            "values": others.tobytes(),
            "thinned_from": len(some) + gone if gone and start == 0 else None,
        }
