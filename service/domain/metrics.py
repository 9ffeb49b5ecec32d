"""Metrics: kept as columns, read as columns. One value for each name, labels and step; what came later counts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy.engine import Connection, Row

from jobs.errors import Issue
from jobs.protocol import Series
from service.db.queries import metrics
from service.domain.errors import Invalid

Steps = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
CHUNKS_AT_ONCE = 500


@dataclass(frozen=True)
class Points:
    """A series: `steps` (n,) strictly ascending, `values` (n,), not all finite.

    `gone`: points that retention has thinned out.
    """

    name: str
    labels: dict[str, str]
    steps: Steps
    values: Values
    gone: int = 0


def store(connection: Connection, job_id: str, series: Sequence[Series]) -> None:
    """Add points.

    Raises:
        Invalid: the columns of a series do not fit each other.
    """
    issues = [issue for index, one in enumerate(series) for issue in _faults(f"/series/{index}", one)]
    if issues:
        raise Invalid("The metrics cannot be read; see errors.", issues)
    metrics.add(connection, [_packed(job_id, one) for one in series if one.steps])


def _faults(pointer: str, series: Series) -> list[Issue]:
    if len(series.steps) != len(series.values):
        return [Issue(f"{pointer}/values", "wrong_length", "There must be one value for each step.")]
    fitting = all(
        key.isascii() and key.isdigit() and len(key) < 10 and _is_null(series.values, int(key)) for key in series.nonfinite
    )
    if not fitting:
        return [Issue(f"{pointer}/nonfinite", "invalid_value", "Each key must be the index of a value that is null.")]
    return []


def _is_null(values: Sequence[float | None], index: int) -> bool:
    return index < len(values) and values[index] is None


def written(labels: Mapping[str, str]) -> str:
    """Labels as they are stored: canonical JSON."""
    return json.dumps(labels, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _packed(job_id: str, series: Series) -> dict[str, Any]:
    steps = np.array(series.steps, "<i8")
    values = np.array([math.nan if value is None else value for value in series.values], "<f8")
    for index, word in series.nonfinite.items():
        values[int(index)] = SPECIAL[word]
    return {
        "job_id": job_id,
        "name": series.name,
        "labels": written(series.labels),
        "count": len(steps),
        "first_step": int(steps.min()),
        "last_step": int(steps.max()),
        "steps": steps.tobytes(),
        "values": values.tobytes(),
    }


def query(connection: Connection, job_id: str, names: Sequence[str] | None = None, from_step: int = 0) -> list[Points]:
    """A job's series by name and labels.

    Args:
        connection: reads them.
        job_id: whose they are.
        names: which; None for all.
        from_step: where they begin.
    """
    rows = sorted(metrics.of_job(connection, job_id, names, from_step), key=lambda row: (row.name, row.labels))
    return [
        _joined(name, labels, list(chunks), from_step) for (name, labels), chunks in groupby(rows, lambda r: (r.name, r.labels))
    ]


def _joined(name: str, labels: str, chunks: Sequence[Any], from_step: int) -> Points:
    steps = np.frombuffer(b"".join(chunk.steps for chunk in chunks), "<i8")
    values = np.frombuffer(b"".join(chunk.values for chunk in chunks), "<f8")
    rows = last_of_each(steps)
    rows = rows[np.searchsorted(steps[rows], from_step) :]
    gone = sum(chunk.thinned_from - len(chunk.steps) // 8 for chunk in chunks if chunk.thinned_from is not None)
    return Points(name, json.loads(labels), steps[rows], values[rows], gone)


def last_of_each(steps: Steps) -> Rows:
    """Indices (m,) of the last occurrence of each step among `steps` (n,), ascending by step."""
    order = np.argsort(steps, kind="stable")
    ordered = steps[order]
    is_last = np.append(ordered[1:] != ordered[:-1], [True] * min(1, len(steps)))
    return order[is_last.astype(np.bool_)]


def thin(values: Values, max_points: int) -> Rows:
    """Indices, ascending, of at most `max_points` of `values` (n,) that keep its shape.

    The first and the last stay. What lies between falls into equal buckets, and of each the least and the greatest finite value
    stay, and, where there are any, the first that is not finite.

    Args:
        values: in the order of their steps.
        max_points: at least 2.
    """
    count = len(values)
    if count <= max_points:
        return np.arange(count)
    finite = np.isfinite(values[1:-1])
    of_each = 2 if finite.all() else 3
    buckets = (max_points - 2) // of_each
    if buckets == 0:
        return np.array([0, count - 1])
    starts = np.linspace(0, count - 2, buckets, endpoint=False).astype(np.intp)
    kept = [_first_least(np.where(finite, sign * values[1:-1], np.inf), starts) for sign in (1.0, -1.0)]
    if of_each == 3:
        kept.append(_first_least(finite.astype(np.float64), starts))
    return np.unique(np.concatenate([[0], *(rows + 1 for rows in kept), [count - 1]]))


def _first_least(values: Values, starts: Rows) -> Rows:
    """The index of the first least value of each bucket; buckets begin at `starts` (b,)."""
    least = np.minimum.reduceat(values, starts)
    sizes = np.diff(np.append(starts, len(values)))
    candidates = np.flatnonzero(values == np.repeat(least, sizes))
    return candidates[np.searchsorted(candidates, starts)]


def shown(points: Points, max_points: int | None) -> dict[str, Any]:
    """A series as users see it, its columns still arrays: what is not finite is written as null and listed beside."""
    rows = np.arange(len(points.steps)) if max_points is None else thin(points.values, max_points)
    steps, values = points.steps[rows], points.values[rows]
    total = len(points.steps) + points.gone
    return {
        "name": points.name,
        "labels": points.labels,
        "steps": steps,
        "values": values,
        "nonfinite": _named(steps, values),
        "nonfinite_total": int((~np.isfinite(points.values)).sum()),
        "total_points": total,
        "downsampled": len(rows) < total,
    }


def _named(steps: Steps, values: Values) -> list[dict[str, Any]]:
    rows = np.flatnonzero(~np.isfinite(values))
    return [{"step": int(steps[row]), "value": word_for(float(values[row]))} for row in rows]


def word_for(value: float) -> str:
    """How a value that is not finite is written."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def chunks_since(connection: Connection, job_id: str, chunk_id: int, limit: int = CHUNKS_AT_ONCE) -> list[dict[str, Any]]:
    """What has come since the chunk `chunk_id`, at most `limit` chunks in order: `id, name, labels, steps, values, nonfinite`."""
    return [_chunk(row) for row in metrics.since(connection, job_id, chunk_id, limit)]


def _chunk(row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    steps = np.frombuffer(row.steps, "<i8")
    values = np.frombuffer(row.values, "<f8")
    return {
        "id": row.id,
        "name": row.name,
        "labels": json.loads(row.labels),
        "steps": steps.tolist(),
        "values": [value if math.isfinite(value) else None for value in values.tolist()],
        "nonfinite": _named(steps, values),
    }
