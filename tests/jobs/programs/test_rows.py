"""Rows that only a worker meets, refused before the first step."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from jobs.errors import UserFault
from jobs.programs import data
from jobs.programs.data import Beside, DataFile
from jobs.programs.rows import check_rows
from tests import specs
from tests.jobs.programs import running

GOOD = {"x": np.ones((6, 2), np.float32), "y": np.arange(6) % 3}


def changed(name: str, row: int, value: float) -> dict[str, np.ndarray]:
    columns = {key: array.copy() for key, array in GOOD.items()}
    columns[name][row] = value
    return columns


@pytest.mark.parametrize(
    ("columns", "pointer", "words"),
    [
        (changed("x", 4, np.inf), "/data/args/x", "one of the columns 'x1', 'x2' holds inf in row 5: drop"),
        (changed("x", 0, -np.inf), "/data/args/x", "holds -inf in row 1"),
        (changed("x", 5, np.nan), "/data/args/x", "holds nan in row 6"),
        (changed("y", 2, 3), "/data/args/y", "column 'label' holds label 3 in row 3, and the model has 3 outputs"),
        (changed("y", 1, -1), "/data/args/y", "holds label -1 in row 2"),
    ],
)
def test_a_row_that_cannot_be_learned_from_is_named(columns: dict[str, np.ndarray], pointer: str, words: str) -> None:
    spec = specs.resolve(specs.spirals())
    check_rows(GOOD, spec)
    with pytest.raises(UserFault) as caught:
        check_rows(columns, spec)
    assert (caught.value.code, caught.value.param) == ("dataset_invalid", pointer)
    assert words in caught.value.message


def test_a_bad_row_of_the_data_to_evaluate_on_is_named_before_the_first_step(tmp_path: Path) -> None:
    pictures = specs.write_pictures(tmp_path / "train.npz")
    with np.load(pictures) as arrays:
        np.savez(tmp_path / "eval.npz", x=arrays["x"], y=np.where(np.arange(64) == 40, 9, arrays["y"]))
    beside = Beside(evaluation=DataFile(tmp_path / "eval.npz", "npz", "0" * 64))
    with pytest.raises(UserFault, match="label 9 in row 41") as caught:
        running.build(specs.pictures(), pictures, beside)
    assert caught.value.param == "/data/eval_dataset"


def test_records_are_examples_or_texts(tmp_path: Path) -> None:
    writer = array_record_module.ArrayRecordWriter(str(tmp_path / "examples"), "group_size:1")
    for n in range(300):
        stream = io.BytesIO()
        np.savez(stream, x=np.full((2, 2), n, np.float32), y=np.int64(n), name=np.array("a"))
        writer.write(stream.getvalue())
    writer.close()
    columns = data.read_columns(tmp_path / "examples", "arrayrecord")
    assert sorted(columns) == ["x", "y"]
    assert (columns["x"].shape, columns["x"].dtype, columns["y"].tolist()) == ((300, 2, 2), np.float32, list(range(300)))
    writer = array_record_module.ArrayRecordWriter(str(tmp_path / "texts"), "group_size:1")
    for text in ("one", "zwei", "dröi"):
        writer.write(text.encode())
    writer.close()
    assert data.read_texts(tmp_path / "texts", "arrayrecord", "text") == ["one", "zwei", "dröi"]
    assert data.read_columns(tmp_path / "texts", "arrayrecord") == {}


def test_a_file_whose_columns_change_late_is_told_as_invalid_data(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"x": 1}\n' * 300_000 + '{"x": [1]}\n')
    with pytest.raises(UserFault, match="cannot be read as one table") as caught:
        data.read_columns(tmp_path / "t.jsonl", "jsonl")
    assert (caught.value.code, caught.value.param) == ("dataset_invalid", "/data/dataset")


def test_arrays_in_tables_keep_their_shape(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("".join(f'{{"x": [[1, 2], [3, {n}]], "r": {[0] * n}}}\n' for n in range(3)))
    pq.write_table(pa.table({"x": [[[1, 2], [3, n]] for n in range(3)]}), tmp_path / "t.parquet")
    for form in ("jsonl", "parquet"):
        columns = data.read_columns(tmp_path / f"t.{form}", form)
        assert list(columns) == ["x"]
        assert columns["x"].tolist() == [[[1, 2], [3, n]] for n in range(3)]
