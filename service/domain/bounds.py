"""How many metrics a job may have. What is beyond is dropped and told once: metrics never end a job."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from jobs.protocol import Series
from service.db.queries import events, metrics
from service.domain.lifecycle import Change
from service.domain.metrics import written

DROPPED = "metrics.dropped"


def within(change: Change, job_id: str, batch: Sequence[Series]) -> list[Series]:
    """What of a batch is taken. The transaction must hold the job.

    Args:
        change: the change this is part of.
        job_id: whose metrics they are.
        batch: as a report brings them.
    """
    if not batch:
        return []
    settings = change.context.settings
    named = _named(change, job_id, batch, settings.max_series_per_job)
    room = settings.max_points_per_job - metrics.points_of(change.connection, job_id)
    taken: list[Series] = []
    for series in named:
        if len(series.steps) <= room:
            room -= len(series.steps)
            taken.append(series)
    if len(taken) < len(batch) and not events.has(change.connection, job_id, DROPPED):
        limits = {"max_series": settings.max_series_per_job, "max_points": settings.max_points_per_job}
        change.tell(job_id, DROPPED, {"reason": "points" if len(taken) < len(named) else "series", **limits})
    return taken


def _named(change: Change, job_id: str, batch: Sequence[Series], most: int) -> list[Series]:
    """Those whose series the job has already, or may still have."""
    known = metrics.series_of(change.connection, job_id)
    keys = [_digest(series) for series in batch]
    fresh = [key for key in dict.fromkeys(keys) if key not in known][: max(0, most - len(known))]
    metrics.add_series(change.connection, job_id, fresh)
    allowed = known | set(fresh)
    return [series for series, key in zip(batch, keys, strict=True) if key in allowed]


def _digest(series: Series) -> str:
    return hashlib.sha256(f"{series.name}\0{written(series.labels)}".encode()).hexdigest()
