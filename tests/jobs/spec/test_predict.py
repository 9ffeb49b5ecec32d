"""What a job that predicts may say, and what it becomes."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from jobs.errors import SpecInvalid
from jobs.spec.data import datasets_beside
from jobs.spec.job import Spec, read_spec
from jobs.spec.origin import CheckpointFacts, start_of
from tests.jobs.spec.documents import DATASETS, fitted, schools, text

LINE: dict[str, Any] = {
    "kind": "mcmc",
    "model": {"type": "linear_regression"},
    "data": {"dataset": "ds_table", "args": {"x": ["height", "weight"], "y": "signed"}},
    "num_warmup": 100,
    "num_samples": 200,
    "thinning": 2,
    "precision": {"x64": True},
}
GROUPS = {
    "kind": "mcmc",
    "model": {"type": "hierarchical_regression"},
    "data": {"dataset": "ds_table", "args": {"x": "height", "y": "weight", "group": "label"}},
}
PROCESS = LINE | {"model": {"type": "gaussian_process_regression"}}
SOURCES = {"line": (LINE, 300), "schools": (schools(), 2000), "text": (text(), 10), "warm": (LINE, 90), "groups": (GROUPS, 2000)}
SOURCES["process"] = (PROCESS, 300)
SOURCES["series"] = (
    {"kind": "mcmc", "model": {"type": "stochastic_volatility"}, "data": {"inline": {"y": [0.1, -0.2] * 10}}},
    2000,
)
SOURCES["guide"] = SOURCES["unfinished"] = (fitted(), 300)


def find(job: str, _step: int | Literal["best"] | None) -> CheckpointFacts | None:
    if job not in SOURCES:
        return None
    document, step = SOURCES[job]
    return CheckpointFacts(job, step, read_spec(document, DATASETS.get, lambda *_: None).resolved, holds_draws=job == "guide")


def read(**changes: Any) -> Spec:
    document = {"kind": "predict", "posterior": {"job": "line"}, "data": {"inline": {"height": [1.5], "weight": [70.0]}}, **changes}
    return read_spec(document, DATASETS.get, find)


def faults(**changes: Any) -> list[tuple[str, str]]:
    with pytest.raises(SpecInvalid) as refused:
        read(**changes)
    return [(issue.pointer, issue.code) for issue in refused.value.issues]


def test_model_form_and_number_formats_are_those_of_the_sampling_job() -> None:
    spec = read()
    assert spec.resolved["model"] == {
        "type": "linear_regression", "prior_scale_intercept": 10.0, "prior_scale_coefficients": 10.0, "prior_scale_sigma": 10.0,
    }  # fmt: skip
    assert spec.resolved["precision"]["x64"] is True
    assert spec.resolved["data"]["args"] == {"x": ["height", "weight"]}
    assert spec.resolved["posterior"] == {"job": "line", "step": 300, "thinning": 1, "args": ["x", "y"]}
    assert (spec.total, spec.unit, spec.devices) == (100, "draw", 1)
    assert spec.needs == ["models/linear_regression"]
    assert start_of(spec.resolved) == {"job": "line", "step": 300, "what": "draws"}


def test_the_rest_is_as_in_every_job() -> None:
    spec = read(name="next", priority=3, posterior={"job": "line", "thinning": 3}, checkpoint={"every_draws": 10}, seed=4)
    assert (spec.resolved["num_samples"], spec.resolved["num_chains"]) == (33, 4)
    assert spec.resolved["checkpoint"]["every_draws"] == 10
    assert {"retries", "resources", "timeout_seconds", "debug", "profile", "init_from", "metadata"} <= spec.resolved.keys()


def test_what_was_observed_may_stand_in_the_data_and_is_not_used() -> None:
    assert read(data={"dataset": "ds_table"}).resolved["data"]["args"] == {"x": ["height", "weight"]}


@pytest.mark.parametrize(
    ("changes", "issues"),
    [
        ({"posterior": {"job": "nobody"}}, [("/posterior/job", "not_found")]),
        ({"posterior": {"job": "text"}}, [("/posterior/job", "incompatible")]),
        ({"posterior": {"job": "warm"}}, [("/posterior/job", "not_found")]),
        ({"posterior": {"job": "series"}}, [("/posterior/job", "unsupported")]),
        ({"posterior": {"job": "line", "thinning": 101}}, [("/posterior/thinning", "out_of_range")]),
        ({"posterior": {"job": "line", "thinning": 0}}, [("/posterior/thinning", "out_of_range")]),
        ({"posterior": {"jop": "line"}}, [("/posterior/job", "missing"), ("/posterior/jop", "unknown_field")]),
        ({"posterior": None}, [("/posterior", "wrong_type")]),
        ({"model": {"type": "linear_regression"}}, [("/model", "unknown_field")]),
        ({"data": {"inline": {"height": [1.5]}}}, [("/data/args", "unbound")]),
        ({"data": {"inline": {"height": [1.5]}, "args": {"x": ["height"]}}}, [("/data/args/x", "mismatch")]),
        ({"data": {"inline": {"height": [1.5]}, "args": {"z": "height"}}}, [("/data/args/z", "unknown_argument")]),
        ({"data": {"dataset": "ds_text"}}, [("/data", "wrong_kind")]),
        ({"data": {"dataset": "ds_none"}}, [("/data/dataset", "not_found")]),
        ({"precision": {"x64": False}}, [("/precision/x64", "conflict")]),
        ({"mesh": {"axes": {"data": 2}}}, [("/mesh/axes", "out_of_range")]),
        ({"init_from": {"job": "line"}}, [("/init_from", "conflict")]),
        (
            {"posterior": {"job": "groups"}, "data": {"inline": {"height": [1.5], "label": [3]}}},
            [("/data/args/group", "out_of_range")],
        ),
    ],
    ids=lambda value: str(value)[:70] if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_told_where_it_is(changes: dict[str, Any], issues: list[tuple[str, str]]) -> None:
    assert faults(**changes) == issues


def test_a_process_is_handed_what_it_was_fitted_to() -> None:
    resolved = read(posterior={"job": "process"}).resolved
    assert resolved["data"]["fitted"] == SOURCES["process"][0]["data"] | {"uri": None, "inline": None, "builtin": None}
    assert datasets_beside(resolved["data"]) == {"fitted": "ds_table"}
    assert "fitted" not in read().resolved["data"]


def test_draws_from_a_guide_are_one_chain_and_there_when_it_is_fitted() -> None:
    sigma = {"inline": {"sigma": [15, 10, 16, 11, 9, 11, 10, 18]}}
    resolved = read(posterior={"job": "guide", "thinning": 3}, data=sigma).resolved
    draws = SOURCES["guide"][0].get("num_samples", 1000)
    assert (resolved["num_chains"], resolved["num_samples"]) == (1, draws // 3)
    with pytest.raises(SpecInvalid) as refused:
        read(posterior={"job": "unfinished"}, data=sigma)
    assert [(issue.pointer, issue.code) for issue in refused.value.issues] == [("/posterior/job", "not_found")]
    assert "when it has finished" in refused.value.issues[0].detail
