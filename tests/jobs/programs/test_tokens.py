"""Tokenizer files: what they make of a text is the library's own work, done once, and goes with the result."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from jobs.errors import UserFault
from jobs.programs import tokens
from jobs.programs.data import Beside, DataFile
from jobs.programs.outputs import Outputs
from tests import specs
from tests.jobs.programs import running

FILE = {"type": "tokenizers", "dataset": "ds_tokenizer"}
DATA = {"tokenizer": FILE, "separator": None, "args": None, "eval_fraction": 0.0}


def values(path: Path, beside: Beside) -> np.ndarray:
    return tokens.read_corpus(path, "text", DATA, beside).train.values


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return specs.write_text(tmp_path / "text.txt", 20_000)


@pytest.fixture
def beside(tmp_path: Path, text: Path) -> Beside:
    path = specs.write_tokenizer(tmp_path / "tokenizer.json", text.read_text())
    (tmp_path / "encoded").mkdir()
    file = DataFile(path, "tokenizer", hashlib.sha256(path.read_bytes()).hexdigest())
    return Beside("a" * 64, file, encoded=tmp_path / "encoded")


def test_a_text_becomes_the_librarys_own_tokens(text: Path, beside: Beside) -> None:
    read = tokens.read_corpus(text, "text", DATA, beside)
    own = Tokenizer.from_file(str(beside.tokenizer.path))
    assert read.train.values.tolist() == own.encode(text.read_text()).ids
    assert read.train.values.dtype == np.uint16
    assert len(read.train.values) < 20_000
    again = Tokenizer.from_str(read.artifacts["tokenizer.json"].decode())
    assert again.decode(read.train.values.tolist()) == text.read_text()


def test_a_long_text_is_encoded_in_pieces_that_end_with_a_line(text: Path, beside: Beside, tmp_path: Path) -> None:
    long = tmp_path / "long.txt"
    long.write_text((text.read_text().strip() + "\n") * 120)
    assert long.stat().st_size > 2 * tokens.GROUP_CHARACTERS
    own = Tokenizer.from_file(str(beside.tokenizer.path))
    assert values(long, beside).tolist() == own.encode(long.read_text()).ids


def test_padding_and_truncation_of_the_file_are_not_for_a_text(text: Path, beside: Beside) -> None:
    own = Tokenizer.from_file(str(beside.tokenizer.path))
    own.enable_truncation(10)
    own.enable_padding(length=100_000)
    own.save(str(beside.tokenizer.path))
    own.no_truncation()
    own.no_padding()
    assert values(text, beside).tolist() == own.encode(text.read_text()).ids


def test_encoding_is_done_once(text: Path, beside: Beside) -> None:
    first = values(text, beside)
    content = text.read_text()
    text.write_text("something else\n" * 100)
    assert np.array_equal(values(text, beside), first)
    another = Beside("b" * 64, beside.tokenizer, encoded=beside.encoded)
    assert not np.array_equal(values(text, another), first)
    text.write_text(content)
    (kept,) = [path for path in beside.encoded.iterdir() if np.array_equal(np.load(path / "values.npy"), first)]
    for damage in (b"", (kept / "values.npy").read_bytes()[:-1] + b"\xff"):
        (kept / "values.npy").write_bytes(damage)
        assert np.array_equal(values(text, beside), first)
    assert not list(beside.encoded.glob("making-*"))


def test_a_folder_that_cannot_be_written_costs_nothing(text: Path, beside: Beside, tmp_path: Path) -> None:
    nowhere = Beside("a" * 64, beside.tokenizer, encoded=tmp_path / "text.txt")
    assert np.array_equal(values(text, nowhere), values(text, beside))


def test_a_tokenizer_that_the_library_refuses_is_named(text: Path, beside: Beside) -> None:
    beside.tokenizer.path.write_text("{}")
    with pytest.raises(UserFault) as caught:
        values(text, beside)
    assert (caught.value.code, caught.value.param) == ("dataset_invalid", "/data/tokenizer/dataset")


def test_a_model_learns_from_a_tokenizers_tokens_and_keeps_it(text: Path, beside: Beside, tmp_path: Path) -> None:
    document = specs.transformer(data={"dataset": "ds_text", "batch_size": 8, "eval_fraction": 0.1, "tokenizer": FILE})
    document["model"]["vocab_size"] = 300
    program = running.build(document, text, beside)
    state, measured = running.advance(program, running.start(program), 12)
    assert measured[-1]["train/loss"] < measured[0]["train/loss"]
    (tmp_path / "outputs").mkdir()
    outputs = Outputs(tmp_path / "outputs", 0)
    _, artifacts = program.result(state, outputs, "steps")
    assert artifacts == ["tokenizer.json"]
    assert json.loads((tmp_path / "outputs" / "tokenizer.json").read_text()) == json.loads(beside.tokenizer.path.read_text())
