"""Metrics of a job, as JSON or as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from service.domain import checkpoints, metrics
from service.http.auth import Project
from service.http.paging import LARGEST, JobId
from service.http.session import Reading, TransactionRoute

router = APIRouter(route_class=TransactionRoute, tags=["metrics"])

CSV_TYPE = "text/csv"
COMMA = re.compile(r",(?![^\[]*\])")
"""A comma between names; one inside brackets belongs to the name, as in `theta[0,1]`."""

ROWS_AT_ONCE = 10_000

Names = Annotated[list[str] | None, Query(description="Which metrics; several with commas between, or repeated. All by default.")]
FromStep = Annotated[int, Query(ge=0, lt=LARGEST, description="Where to begin.")]
MaxPoints = Annotated[int | None, Query(ge=2, le=10_000_000, description="Thin each series to at most so many points.")]
Form = Annotated[Literal["json", "csv"] | None, Query(alias="format", description="Decides before `Accept` does.")]


class Nonfinite(BaseModel):
    """A value that JSON cannot hold; it is null among the values."""

    step: int
    value: Literal["NaN", "Infinity", "-Infinity"]


class SeriesShown(BaseModel):
    """A metric over steps.

    `downsampled`: of `total_points`, some are left out; each stretch keeps its least and greatest value and, of those that are not
    finite, the first. `nonfinite` lists those among `values`, `nonfinite_total` counts all.
    """

    name: str
    labels: dict[str, str]
    steps: list[int]
    values: list[float | None]
    nonfinite: list[Nonfinite]
    nonfinite_total: int
    total_points: int
    downsampled: bool


class Metrics(BaseModel):
    """Series by name and labels."""

    object: Literal["metrics"] = "metrics"
    series: list[SeriesShown]


@router.get(
    "/v1/jobs/{job_id}/metrics",
    response_class=Response,
    responses={200: {"model": Metrics, "description": "The series.", "content": {CSV_TYPE: {"schema": {"type": "string"}}}}},
)
def get_metrics(
    request: Request,
    job_id: JobId,
    read: Reading,
    project: Project,
    names: Names = None,
    from_step: FromStep = 0,
    max_points: MaxPoints = None,
    form: Form = None,
) -> Response:
    """Read metrics. One value for each name, labels and step: a step that was run again counts as it came out last."""
    checkpoints.require_job(read.connection, project, job_id)
    points = metrics.query(read.connection, job_id, _names(names), from_step)
    shown = [metrics.shown(series, max_points) for series in points]
    if form == "csv" or (form is None and CSV_TYPE in request.headers.get("accept", "")):
        return StreamingResponse(_csv(shown), media_type=f"{CSV_TYPE}; charset=utf-8")
    body = orjson.dumps({"object": "metrics", "series": shown}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, media_type="application/json")


def _names(given: list[str] | None) -> list[str] | None:
    # PostgreSQL refuses NUL in a text, and no metric has it in its name.
    names = [name for text in given or () for name in COMMA.split(text) if name and "\x00" not in name]
    return names if given and any(given) else None


def _csv(series: list[dict[str, Any]]) -> Iterator[str]:
    labels = sorted({key for one in series for key in one["labels"]})
    yield _lines([["name", *labels, "step", "value"]])
    for one in series:
        fixed = [one["name"], *(one["labels"].get(key, "") for key in labels)]
        for start in range(0, len(one["steps"]), ROWS_AT_ONCE):
            stretch = slice(start, start + ROWS_AT_ONCE)
            pairs = zip(one["steps"][stretch].tolist(), one["values"][stretch].tolist(), strict=True)
            yield _lines([[*fixed, step, _written(value)] for step, value in pairs])


def _written(value: float) -> str:
    return repr(value) if abs(value) < float("inf") else metrics.word_for(value)


def _lines(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
