"""Bad rows: found when the file comes or when a job names the column, and told as a person would count them."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.service.data.test_datasets import examples

MODEL = {"type": "mlp", "in_features": 1, "hidden": [], "out_features": 3}
CLASSES = {"type": "softmax_cross_entropy_with_integer_labels"}


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def parquet(**columns):
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def rows(text):
    return ("x,y\n" + text.replace(" ", "\n") + "\n").encode()


LATE = [0.5] * 70_000 + [float("nan")]

# (format, content, pointer of the fault, words of the message); without a pointer the upload itself is refused
BAD = [
    ("csv", rows("1.5,0 ,1 2.5,2"), "/data/args/x", '"x" has 1 missing value, in row 2: drop'),
    ("csv", rows("1.5,0 2,1 nan,1 ,0"), "/data/args/x", '"x" has 2 missing values, the first in row 3'),
    ("csv", rows("1.5,0 2.5,1 much,2 4,1"), "/data/args/x", '"x" does not hold numbers: row 3 holds "much"'),
    ("csv", rows(" ".join(["1.5,0"] * 60_000 + ["?,1"])), "/data/args/x", 'row 60001 holds "?"'),
    ("csv", rows("1,0 2,1 3,5 4,2"), "/model/out_features", "the labels of y go from 0 to 5 (row 3)"),
    ("csv", rows("1,0 2,-1 3,2"), "/data/args/y", "the least of these is -1 (row 2)"),
    ("csv", rows("1,0 2,1.5 3,2"), "/data/args/y", "takes integer labels"),
    ("csv", rows("1,0 2 3,2"), None, "line 3 has 1 fields where the header has 2"),
    ("jsonl", lines({"x": 1, "y": 0}, {"x": None, "y": 1}), "/data/args/x", "in row 2"),
    ("jsonl", lines({"x": 1, "y": 0}, {"y": 1}, {"x": 2, "y": 1}), "/data/args/x", "in row 2"),
    ("jsonl", lines({"x": 1, "y": 0}, {"x": 2, "y": 1}, {"x": "3", "y": 1}), None, "line 3: "),
    ("jsonl", lines({"x": [1, 2], "y": 0}, {"x": [3], "y": 1}), "/data/args/x", "an array of 1 where the ones before have 2"),
    ("jsonl", lines({"x": [1], "y": 0}, {"x": [2], "y": 1}, {"x": [], "y": 1}), "/data/args/x", "row 3 holds an array of 0"),
    ("jsonl", lines({"x": [1, 2], "y": 0}, {"x": [1, None], "y": 1}), "/data/args/x", "row 2 holds an array with a missing value"),
    ("jsonl", lines({"x": [[1, 2], [3, 4]], "y": 0}, {"x": [[1, 2], [3]], "y": 1}), "/data/args/x", "row 2 holds an array of 1"),
    ("parquet", parquet(x=LATE, y=[0] * 70_001), "/data/args/x", "in row 70001"),
    ("parquet", parquet(x=[1.0, 2.0, None], y=[0, 1, 2]), "/data/args/x", "in row 3"),
    ("parquet", parquet(x=["1", "2", "b"], y=[0, 1, 2]), "/data/args/x", 'row 3 holds "b"'),
    ("parquet", parquet(x=[1, 2, 3], y=[0, 7, 2]), "/model/out_features", "to 7 (row 2)"),
    ("npz", npz(x=np.array([1.0, 2.0, np.nan]), y=np.arange(3)), "/data/args/x", "in row 3"),
    ("npz", npz(x=np.array([[1.0], [2.0], [np.nan]]), y=np.arange(3)), "/data/args/x", "in row 3"),
    ("npz", npz(x=np.arange(3), y=np.array([0, 1, 3])), "/model/out_features", "to 3 (row 3)"),
    ("npz", npz(x=np.array(["a", "b"]), y=np.arange(2)), "/data/args/x", "does not hold numbers"),
    ("arrayrecord", examples(*({"x": np.array([v]), "y": 0} for v in (1.0, np.nan))), "/data/args/x", "in row 2"),
    ("npz", npz(x=np.arange(3), y=np.arange(2)), "/data/args", "differ in length"),
]  # fmt: skip


def test_a_bad_row_is_told_where_it_is(world, subtests):
    for form, content, pointer, words in BAD:
        with subtests.test(f"{form}: {words}"):
            check(world, form, content, pointer, words)


def check(world, form, content, pointer, words):
    reply = world.post(f"/v1/datasets?format={form}", content=content)
    if pointer is None:
        assert (reply.status_code, reply.json()["code"]) == (422, "dataset_invalid")
        assert words in reply.json()["detail"]
        return
    assert reply.status_code in (200, 201), reply.text
    job = {
        "kind": "train",
        "model": MODEL,
        "data": {"dataset": reply.json()["id"], "args": {"x": "x", "y": "y"}, "batch_size": 1},
        "loss": CLASSES,
        "optimizer": {"type": "sgd", "learning_rate": 0.1},
        "steps": 1,
    }
    errors = world.post("/v1/jobs:validate", json=job).json()["errors"]
    assert [error["pointer"] for error in errors if words in error["detail"]] == [pointer], errors


def test_a_parquet_file_of_nested_columns_is_taken_and_none_of_them_is_a_number(world):
    nested = parquet(x=[{"a": 1}, {"a": 2}], y=[[{"b": 1}], []], z=[["a"], ["b", "c"]], t=pa.array([1, 2], pa.timestamp("s")))
    reply = world.post("/v1/datasets?format=parquet", content=nested)
    assert reply.status_code == 201, reply.text
    assert not any(column["dtype"].startswith(("int", "float")) for column in reply.json()["columns"])


def test_arrays_of_one_shape_are_columns_in_every_format(world):
    content = {
        "jsonl": lines(*({"x": [[1, 2], [3, n]], "y": n} for n in range(3))),
        "parquet": parquet(x=[[[1, 2], [3, n]] for n in range(3)], y=range(3)),
        "npz": npz(x=np.array([[[1, 2], [3, n]] for n in range(3)]), y=np.arange(3)),
    }
    for form, body in content.items():
        made = world.post(f"/v1/datasets?format={form}", content=body).json()
        x = next(column for column in made["columns"] if column["name"] == "x")
        assert (x["dtype"], x["shape"], x["minimum"], x["maximum"]) == ("int64", [3, 2, 2], 0.0, 3.0)
        assert (x["minimum_row"], x["maximum_row"], x["missing_row"], x["odd_row"], x["odd"]) == (1, 1, None, None, None)
