from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.protocol import Series
from service.domain import metrics
from service.domain.errors import Invalid
from service.domain.metrics import Points, last_of_each, shown, thin

VALUES = st.lists(st.floats(width=64), min_size=0, max_size=400)


def series(name, steps, values, labels=None, nonfinite=None):
    return Series(name=name, labels=labels or {}, steps=steps, values=values, nonfinite=nonfinite or {})


def store(world, job_id, *batch):
    with world.write() as write:
        metrics.store(write.connection, job_id, list(batch))


def read(world, job_id, query=""):
    return {(one["name"], *one["labels"].values()): one for one in world.get(f"/v1/jobs/{job_id}/metrics{query}").json()["series"]}


@given(VALUES, st.integers(min_value=2, max_value=60))
def test_thinning_keeps_the_ends_the_extremes_and_the_limit(values, max_points):
    array = np.array(values, np.float64)
    rows = thin(array, max_points)
    assert len(rows) <= max(max_points, 0)
    assert (np.diff(rows) > 0).all()
    if len(array) <= max_points:
        assert rows.tolist() == list(range(len(array)))
        return
    assert rows[0] == 0
    assert rows[-1] == len(array) - 1
    finite = array[np.isfinite(array)]
    if max_points >= 5 and len(finite):
        kept = array[rows]
        kept = kept[np.isfinite(kept)]
        assert kept.min() == finite.min()
        assert kept.max() == finite.max()
    if max_points >= 5 and len(finite) < len(array):
        assert not np.isfinite(array[rows]).all()


@given(st.lists(st.integers(min_value=0, max_value=30), max_size=200))
def test_what_came_last_counts(steps):
    expected = {step: index for index, step in enumerate(steps)}
    assert last_of_each(np.array(steps, np.int64)).tolist() == [expected[step] for step in sorted(expected)]


def test_every_bucket_keeps_its_own_extremes():
    values = np.random.default_rng(0).normal(size=10_002)
    rows = thin(values, 202)
    assert len(rows) == 202
    for bucket in range(100):
        inside = values[1 + bucket * 100 : 1 + (bucket + 1) * 100]
        kept = values[rows[(rows >= 1 + bucket * 100) & (rows < 1 + (bucket + 1) * 100)]]
        assert {inside.min(), inside.max()} == set(kept)


def test_a_run_of_nan_shows_in_every_stretch_it_covers():
    values = np.linspace(0, 1, 3002)
    values[1500:] = np.nan
    document = shown(Points("loss", {}, np.arange(3002), values), 302)
    assert document["downsampled"]
    assert document["nonfinite_total"] == 1502
    nan_steps = [one["step"] for one in document["nonfinite"]]
    assert min(nan_steps) == 1500
    assert max(np.diff(nan_steps)) <= 31


def test_a_million_points_come_down_to_two_thousand():
    values = np.random.default_rng(1).normal(size=1_000_000)
    document = shown(Points("loss", {}, np.arange(1_000_000), values), 2000)
    assert len(document["steps"]) == 2000
    assert document["total_points"] == 1_000_000
    assert document["values"].min() == values.min()


def test_points_come_back_by_name_labels_and_step(world):
    job_id = world.new_job()
    store(world, job_id, series("train/loss", [2, 1], [0.5, 1.0]), series("r_hat", [1], [1.1], {"chain": "1"}))
    store(world, job_id, series("train/loss", [3], [0.25]), series("r_hat", [1], [1.2], {"chain": "0"}), series("empty", [], []))
    document = world.get(f"/v1/jobs/{job_id}/metrics").json()
    assert document["object"] == "metrics"
    assert [(one["name"], one["labels"]) for one in document["series"]] == [
        ("r_hat", {"chain": "0"}),
        ("r_hat", {"chain": "1"}),
        ("train/loss", {}),
    ]
    assert document["series"][2] == {
        "name": "train/loss",
        "labels": {},
        "steps": [1, 2, 3],
        "values": [1.0, 0.5, 0.25],
        "nonfinite": [],
        "nonfinite_total": 0,
        "total_points": 3,
        "downsampled": False,
    }


def test_a_step_run_again_overwrites(world):
    job_id = world.new_job()
    store(world, job_id, series("loss", [1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0]))
    store(world, job_id, series("loss", [3, 4, 5], [30.0, 40.0, 50.0]))
    assert read(world, job_id)[("loss",)]["values"] == [1.0, 2.0, 30.0, 40.0, 50.0]


def test_labels_in_another_order_are_the_same_series(world):
    job_id = world.new_job()
    store(world, job_id, series("loss", [1], [1.0], {"chain": "0", "trial": "1"}))
    store(world, job_id, series("loss", [1], [2.0], {"trial": "1", "chain": "0"}))
    [only] = world.get(f"/v1/jobs/{job_id}/metrics").json()["series"]
    assert only["values"] == [2.0]


def test_names_and_from_step_narrow(world):
    job_id = world.new_job()
    store(world, job_id, *(series(name, [1, 2, 3], [1.0, 2.0, 3.0]) for name in ("a", "b", "theta[0,1]")))
    assert set(read(world, job_id, "?names=a,theta[0,1]")) == {("a",), ("theta[0,1]",)}
    assert set(read(world, job_id, "?names=a&names=b")) == {("a",), ("b",)}
    assert read(world, job_id, "?names=nothing") == {}
    assert read(world, job_id, "?names=%00") == {}
    assert read(world, job_id, "?from_step=2")[("a",)]["steps"] == [2, 3]
    assert read(world, job_id, "?from_step=9") == {}


def test_values_that_are_not_finite_are_null_and_named(world):
    job_id = world.new_job()
    words = {"0": "NaN", "1": "Infinity", "2": "-Infinity"}
    store(world, job_id, series("loss", [1, 2, 3, 4], [None, None, None, 1.0], nonfinite=words))
    one = read(world, job_id)[("loss",)]
    assert one["values"] == [None, None, None, 1.0]
    assert one["nonfinite"] == [{"step": i + 1, "value": word} for i, word in enumerate(words.values())]
    assert one["nonfinite_total"] == 3


MISFITS = [
    series("a", [1, 2], [1.0]),
    series("a", [1], [1.0], nonfinite={"0": "NaN"}),
    series("a", [1], [None], nonfinite={"1": "NaN"}),
    series("a", [1], [None], nonfinite={"-1": "NaN"}),
    series("a", [1], [None], nonfinite={"x": "NaN"}),
    series("a", [1], [None], nonfinite={"9" * 5000: "NaN"}),
]


def test_columns_that_do_not_fit_are_refused(world):
    job_id = world.new_job()
    for bad in MISFITS:
        with pytest.raises(Invalid) as caught:
            store(world, job_id, series("fine", [1], [1.0]), bad)
        assert caught.value.issues[0].pointer.startswith("/series/1/")
    assert read(world, job_id) == {}


def test_thinning_says_so(world):
    job_id = world.new_job()
    store(world, job_id, series("loss", list(range(1000)), [math.sin(i) for i in range(1000)]))
    one = read(world, job_id, "?max_points=50")[("loss",)]
    assert len(one["steps"]) <= 50
    assert one["downsampled"]
    assert one["total_points"] == 1000
    assert (one["steps"][0], one["steps"][-1]) == (0, 999)
    assert not read(world, job_id, "?max_points=1000")[("loss",)]["downsampled"]


@pytest.mark.parametrize(("query", "accept"), [("?format=csv", "*/*"), ("", "text/csv"), ("?format=csv", "application/json")])
def test_csv(world, query, accept):
    job_id = world.new_job()
    store(
        world, job_id, series("a,b", [1, 2], [0.1, None], nonfinite={"1": "-Infinity"}), series("c", [7], [1e-300], {"chain": "0"})
    )
    reply = world.get(f"/v1/jobs/{job_id}/metrics{query}", headers={"Accept": accept})
    assert reply.headers["content-type"].startswith("text/csv")
    assert list(csv.reader(io.StringIO(reply.text))) == [
        ["name", "chain", "step", "value"],
        ["a,b", "", "1", "0.1"],
        ["a,b", "", "2", "-Infinity"],
        ["c", "0", "7", "1e-300"],
    ]


def test_a_wrong_query_is_refused(world, subtests):
    job_id = world.new_job()
    for query in ["max_points=1", "max_points=x", "from_step=-1", "from_step=9007199254740992", "format=xml"]:
        with subtests.test(query):
            assert world.get(f"/v1/jobs/{job_id}/metrics?{query}").status_code == 422


def test_an_unknown_job_has_no_metrics(world):
    assert world.get("/v1/jobs/job_00000000000000000000000000000000/metrics").status_code == 404


def test_chunks_since_gives_each_batch_once(world):
    job_id = world.new_job()
    store(world, job_id, series("a", [1, 2], [1.0, None], {"chain": "0"}, {"1": "NaN"}))
    with world.write() as write:
        [first] = metrics.chunks_since(write.connection, job_id, 0)
    assert {name: first[name] for name in ("name", "labels", "steps", "values", "nonfinite")} == {
        "name": "a",
        "labels": {"chain": "0"},
        "steps": [1, 2],
        "values": [1.0, None],
        "nonfinite": [{"step": 2, "value": "NaN"}],
    }
    store(world, job_id, series("a", [3], [3.0]), series("b", [3], [3.0]))
    with world.write() as write:
        later = metrics.chunks_since(write.connection, job_id, first["id"])
        assert [chunk["name"] for chunk in later] == ["a", "b"]
        assert len(metrics.chunks_since(write.connection, job_id, first["id"], limit=1)) == 1
        assert metrics.chunks_since(write.connection, job_id, later[-1]["id"]) == []
