"""Documents: cut, packed and predicted once each, in an order that is a function of seed and index alone."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jobs.errors import UserFault
from jobs.programs import packing
from jobs.programs.data import ALONE, Beside, DataFile, Feed
from jobs.programs.outputs import Outputs
from jobs.programs.tokens import read_corpus
from jobs.programs.train import TrainProgram
from tests import specs
from tests.jobs.programs import running

PLAIN: dict[str, Any] = {"tokenizer": "bytes", "separator": None, "args": None, "eval_fraction": 0.0}
LENGTHS = [1, 2, 3, 7, 8, 9, 10, 17, 40, 5, 5, 5, 1]


def documents(lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens that are all different, and where each document starts."""
    return np.arange(1, sum(lengths) + 1), np.concatenate([[0], np.cumsum(lengths)])


def predicted(batch: dict[str, np.ndarray]) -> list[tuple[int, int]]:
    """Each token that is predicted, with the one before it."""
    rows, columns = np.nonzero(batch["mask"])
    return list(zip(batch["tokens"][rows, columns].tolist(), batch["tokens"][rows, columns + 1].tolist(), strict=True))


@pytest.mark.parametrize("lengths", [LENGTHS, [2], [300], [3] * 50, np.random.default_rng(0).integers(1, 40, 200).tolist()])
@pytest.mark.parametrize("context", [1, 8, 64])
def test_every_token_of_a_document_but_its_first_is_predicted_once_from_the_one_before_it(lengths: list[int], context: int) -> None:
    tokens, starts = documents(lengths)
    rows = packing.packed(tokens, starts, context)
    batch = rows.gather(np.arange(len(rows)))
    assert batch["tokens"].shape == (len(rows), context + 1)
    assert batch["mask"].shape == (len(rows), context)
    first = set(starts[:-1].tolist())
    assert sorted(predicted(batch)) == [(token, token + 1) for token in tokens[:-1].tolist() if token not in first]


def test_packing_wastes_little() -> None:
    lengths = np.random.default_rng(1).integers(2, 100, 2000).tolist()
    tokens, starts = documents(lengths)
    rows = packing.packed(tokens, starts, 127)
    assert len(rows) * 128 < 1.01 * sum(lengths) + 128


def test_the_rows_of_a_plan_can_be_gathered_in_any_order_and_number() -> None:
    rows = packing.packed(*documents(LENGTHS), 8)
    one_by_one = [rows.gather(np.array([index])) for index in range(len(rows))]
    order = np.array([3, 0, 3, len(rows) - 1, 2])
    several = rows.gather(order)
    for name in ("tokens", "mask"):
        assert np.array_equal(several[name], np.concatenate([one_by_one[index][name] for index in order]))


@pytest.mark.parametrize("position", [0, 1, 7, 20, 41])
def test_a_packed_feed_goes_on_where_it_stood(position: int) -> None:
    rows = packing.packed(*documents(LENGTHS * 5), 8)
    whole, late = Feed(rows, 4, seed=3), Feed(rows, 4, seed=3, position=position)
    for _ in range(position):
        next(whole)
    for _ in range(5):
        expected, got = next(whole), next(late)
        assert all(np.array_equal(expected[name], got[name]) for name in expected)


def test_packed_batches_are_the_same_however_many_devices_or_processes_share_them() -> None:
    rows = packing.packed(*documents(LENGTHS * 9), 8)
    whole = [next(feed) for feed in [Feed(rows, 8, seed=5)] for _ in range(20)]
    for parts in (2, 8):
        feeds = [Feed(rows, 8, seed=5, part=(number, parts)) for number in range(parts)]
        for batch in whole:
            shares = [next(feed) for feed in feeds]
            assert all(np.array_equal(batch[name], np.concatenate([share[name] for share in shares])) for name in batch)
    for count in {1, len(jax.devices())}:
        sharding = NamedSharding(Mesh(np.array(jax.devices()[:count]), ("data",)), PartitionSpec("data"))
        for batch in whole[:3]:
            placed = jax.device_put(batch["tokens"], sharding)
            assert np.array_equal(np.concatenate([np.asarray(shard.data) for shard in placed.addressable_shards]), batch["tokens"])


# -- where documents come from ---------------------------------------------------------------------------------------------------

TEXTS = ["first", "second text", "thïrd", "4"]


def write(folder: Path, form: str) -> Path:
    """The texts in a column `body`, beside a column of numbers."""
    path = folder / f"texts.{form}"
    if form == "csv":
        path.write_text("n,body\n" + "".join(f"{n},{text}\n" for n, text in enumerate(TEXTS)))
    elif form == "jsonl":
        path.write_text("".join(json.dumps({"n": n, "body": text}) + "\n" for n, text in enumerate(TEXTS)))
    else:
        pq.write_table(pa.table({"n": range(4), "body": TEXTS}), path)
    return path


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("tokenizer", ["bytes", "char"])
def test_a_column_of_texts_is_a_document_a_row(tmp_path: Path, form: str, tokenizer: str) -> None:
    data = PLAIN | {"tokenizer": tokenizer, "separator": "\n", "args": {"text": "body"}}
    corpus = read_corpus(write(tmp_path, form), form, data, ALONE)
    vocabulary = json.loads(corpus.artifacts["vocabulary.json"]) if tokenizer == "char" else None
    starts = corpus.train.starts
    cut = [corpus.train.values[low:high] for low, high in pairwise(starts)]
    found = ["".join(vocabulary[token] for token in part) if vocabulary else bytes(part.tolist()).decode() for part in cut]
    assert found == [text + "\n" for text in TEXTS]


@pytest.mark.parametrize("tokenizer", ["bytes", "char"])
def test_a_text_is_cut_behind_its_separator(tmp_path: Path, tokenizer: str) -> None:
    path = tmp_path / "text.txt"
    path.write_text("one\n\ntwö\n\n\n\nfour")
    corpus = read_corpus(path, "text", PLAIN | {"tokenizer": tokenizer, "separator": "\n\n"}, ALONE)
    extra = 1 if tokenizer == "bytes" else 0
    assert np.diff(corpus.train.starts).tolist() == [5, 5 + extra, 2, 4]


def test_the_last_documents_are_held_out_whole(tmp_path: Path) -> None:
    data = PLAIN | {"separator": "\n", "args": {"text": "body"}, "eval_fraction": 0.5}
    corpus = read_corpus(write(tmp_path, "jsonl"), "jsonl", data, ALONE)
    assert bytes(corpus.train.values.tolist()).decode() == "first\nsecond text\n"
    assert bytes(corpus.rest.values.tolist()).decode() == "thïrd\n4\n"
    assert corpus.rest.starts.tolist() == [0, 7, 9]


def test_a_character_that_only_the_evaluation_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc")
    (tmp_path / "b.txt").write_text("abz")
    beside = Beside(evaluation=DataFile(tmp_path / "b.txt", "text", "0" * 64))
    with pytest.raises(UserFault, match="'z'") as caught:
        read_corpus(tmp_path / "a.txt", "text", PLAIN | {"tokenizer": "char"}, beside)
    assert caught.value.param == "/data/eval_dataset"


def test_a_token_beyond_the_vocabulary_is_told_with_its_document(tmp_path: Path) -> None:
    data = PLAIN | {"separator": "\n", "args": {"text": "body"}}
    corpus = read_corpus(write(tmp_path, "jsonl"), "jsonl", data, ALONE)
    with pytest.raises(UserFault, match="document 3 holds token 195") as caught:
        packing.sequences(corpus, "stream", 4, 128)
    assert (caught.value.code, caught.value.param) == ("dataset_invalid", "/model/vocab_size")


def packed_document(**data: Any) -> dict[str, Any]:
    named = {"dataset": "ds_documents", "args": {"text": "body"}, "packing": "documents", "batch_size": 4}
    return specs.transformer(data=named | data, eval_every=4 if data else None)


def test_a_model_trains_on_packed_documents_and_evaluates_on_all_that_is_held_out(tmp_path: Path) -> None:
    texts = specs.write_text(tmp_path / "text.txt", 6000).read_text().split("\n")
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    program = running.build(packed_document(eval_fraction=0.2), path)
    assert isinstance(program, TrainProgram)
    objective = program.objective
    held_out = texts[len(texts) - int(len(texts) * 0.2) :]
    assert sum(batch["mask"].sum() for batch in objective.held_out()) == sum(len(text) for text in held_out)
    _, measured = running.advance(program, running.start(program), 12)
    assert measured[-1]["train/loss"] < measured[0]["train/loss"]


def test_a_dataset_of_its_own_is_evaluated_on(tmp_path: Path) -> None:
    train, other = specs.write_text(tmp_path / "text.txt", 4000), tmp_path / "other.txt"
    other.write_text("abc" * 50)
    document = specs.transformer(data={"dataset": "ds_text", "batch_size": 8, "eval_dataset": "ds_text"})
    program = running.build(document, train, Beside(evaluation=DataFile(other, "text", "0" * 64)))
    assert isinstance(program, TrainProgram)
    batches = list(program.objective.held_out())
    assert sum(batch["mask"].sum() for batch in batches) == 149
    assert set(np.concatenate([batch["tokens"].ravel() for batch in batches]).tolist()) <= {0, *b"abc"}
    state = running.start(program)
    assert program.evaluate(state, Outputs(tmp_path, 0), lambda: False).values["eval/loss"] > 0
