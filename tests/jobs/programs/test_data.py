"""Feeds and readers: the order of samples depends on seed and index alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grain
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.errors import UserFault
from jobs.programs import data
from jobs.programs.tokens import read_corpus

CHARACTERS = {"tokenizer": "char", "separator": None, "args": None, "eval_fraction": 0.0}


def test_a_feed_resumed_anywhere_goes_on_as_if_it_had_never_stopped() -> None:
    source = data.Windows(np.arange(500, dtype=np.uint8), 9)
    whole = data.Feed(source, 4, seed=3)
    batches = [next(whole)["tokens"] for _ in range(300)]
    for position in (0, 1, 122, 123, 124, 250):
        feed = data.Feed(source, 4, seed=3, position=position)
        assert np.array_equal(next(feed)["tokens"], batches[position])
        assert feed.position == position + 1


def test_every_sample_comes_once_in_each_pass() -> None:
    source = data.Rows({"x": np.arange(60)})
    feed = data.Feed(source, 6, seed=0)
    passes = [np.concatenate([next(feed)["x"] for _ in range(10)]) for _ in range(3)]
    assert all(sorted(each) == list(range(60)) for each in passes)
    assert not np.array_equal(passes[0], passes[1])


def test_another_seed_is_another_order() -> None:
    source = data.Rows({"x": np.arange(100)})
    assert not np.array_equal(next(data.Feed(source, 50, seed=0))["x"], next(data.Feed(source, 50, seed=1))["x"])


def test_characters_are_numbered_in_the_order_of_the_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("héllo wörld 🙂", encoding="utf-8")
    text = read_corpus(path, "text", CHARACTERS, data.ALONE)
    vocabulary = json.loads(text.artifacts["vocabulary.json"])
    assert vocabulary == sorted(vocabulary)
    assert "".join(vocabulary[token] for token in text.train.values) == "héllo wörld 🙂"
    as_bytes = read_corpus(path, "text", CHARACTERS | {"tokenizer": "bytes"}, data.ALONE)
    assert bytes(as_bytes.train.values) == path.read_bytes()


def grain_order(source: data.Source, size: int, seed: int) -> Iterator[data.Batch]:
    """What Grain itself gives when it takes samples one by one."""

    class Single:
        def __len__(self) -> int:
            return len(source)

        def __getitem__(self, index: int) -> data.Batch:
            return {name: array[0] for name, array in source.gather(np.array([index])).items()}

    return iter(grain.MapDataset.source(Single()).seed(seed).shuffle().repeat().batch(size, drop_remainder=True).to_iter_dataset())


@pytest.mark.parametrize(("seed", "size", "length"), [(0, 4, 30), (2**32 - 1, 7, 100), (12345, 1, 3)])
def test_batches_are_gathered_in_the_order_that_grain_shuffles_samples(seed: int, size: int, length: int) -> None:
    source = data.Rows({"x": np.arange(length), "y": np.arange(2 * length).reshape(length, 2)})
    feed, expected = data.Feed(source, size, seed), grain_order(source, size, seed)
    for _ in range(2 + 3 * length // size):
        got, wanted = next(feed), next(expected)
        assert all(np.array_equal(got[name], wanted[name]) and got[name].dtype == wanted[name].dtype for name in wanted)


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_processes_that_share_a_batch_read_together_what_one_reads_alone(parts: int) -> None:
    source = data.Windows(np.arange(200, dtype=np.uint8), 5)
    whole = data.Feed(source, 6, seed=1)
    shares = [data.Feed(source, 6, seed=1, part=(number, parts)) for number in range(parts)]
    for _ in range(50):
        assert np.array_equal(np.concatenate([next(share)["tokens"] for share in shares]), next(whole)["tokens"])


def test_a_table_reads_the_same_from_every_format(tmp_path: Path) -> None:
    table = pa.table({"x": [1.5, 2.5, 3.5], "n": [1, 2, 3], "word": ["a", "b", "c"]})
    pq.write_table(table, tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("x,n,word\n1.5,1,a\n2.5,2,b\n3.5,3,c\n")
    (tmp_path / "t.jsonl").write_text("".join(f'{{"x": {n}.5, "n": {n}, "word": "a"}}\n' for n in (1, 2, 3)))
    np.savez(tmp_path / "t.npz", x=np.array([1.5, 2.5, 3.5]), n=np.array([1, 2, 3]))
    for form in ("parquet", "csv", "jsonl", "npz"):
        columns = data.read_columns(tmp_path / f"t.{form}", form)
        assert sorted(columns) == ["n", "x"]
        assert columns["x"].tolist() == [1.5, 2.5, 3.5]
        assert columns["n"].tolist() == [1, 2, 3]


def test_binding_stacks_columns_and_names_what_is_missing() -> None:
    columns = {"a": np.array([1.0, 2.0]), "b": np.array([3.0, 4.0])}
    assert data.bind(columns, {"x": ["a", "b"], "y": "b", "z": None})["x"].tolist() == [[1.0, 3.0], [2.0, 4.0]]
    with pytest.raises(UserFault) as caught:
        data.bind(columns, {"x": ["a", "c"]})
    assert caught.value.param == "/data/args/x"
    assert "'c'" in caught.value.message


@pytest.mark.parametrize(("length", "size"), [(10, 4), (8, 4), (1, 4), (3, 8)])
def test_in_order_covers_each_sample_once(length: int, size: int) -> None:
    batches = list(data.in_order(length, size))
    assert all(len(indices) == len(weights) == size for indices, weights in batches)
    assert np.concatenate([indices[weights > 0] for indices, weights in batches]).tolist() == list(range(length))
