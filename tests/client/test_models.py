"""Results keep what they do not know."""

from __future__ import annotations

import math

import pytest

from meshyard.models import Job, Metrics, Series
from tests.client.standin import new_job


def test_an_unknown_field_is_kept_and_an_unknown_word_accepted():
    job = Job.model_validate(new_job(status="dreaming", phase="rem", colour="blue"))
    assert (job.status, job.phase, job.is_finished) == ("dreaming", "rem", False)
    assert job.model_extra == {"colour": "blue"}


def test_a_document_goes_out_as_it_came_in():
    document = new_job(created_at="2026-11-20T10:00:00.123450Z", new={"x": [1]})
    assert Job.model_validate(document).to_dict() == document


def test_missing_fields_are_no_error():
    job = Job.model_validate({"id": "job_1", "status": "queued"})
    assert (job.progress.step, job.error, job.reason) == (None, None, "")


def test_progress_may_be_null():
    assert Job.model_validate(new_job(progress=None)).progress.total is None


def test_points_have_their_special_values_back():
    odd = [{"step": 2, "value": "NaN"}, {"step": 3, "value": "-Infinity"}]
    series = Series.model_validate({"name": "train/loss", "steps": [1, 2, 3], "values": [0.5, None, None], "nonfinite": odd})
    points = series.points()
    assert points[0] == (1, 0.5)
    assert math.isnan(points[1][1])
    assert points[2] == (3, -math.inf)


def test_a_series_is_found_by_name_and_labels():
    metrics = Metrics(series=[Series(name="divergences", labels={"chain": str(chain)}) for chain in range(3)])
    assert metrics.find("divergences", chain="2") is metrics.series[2]
    with pytest.raises(KeyError):
        metrics.find("train/loss")
