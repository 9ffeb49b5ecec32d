"""Texts as tokens: bytes, characters, or what a `tokenizers` file makes of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tokenizers
from tokenizers import Tokenizer

from jobs.errors import UserFault
from jobs.programs.data import Beside, DataFile, read_texts, split

VOCABULARY = "vocabulary.json"
TOKENIZER = "tokenizer.json"
GROUP_CHARACTERS = 1 << 20
VALUES, STARTS, MANIFEST = "values.npy", "starts.npy", "manifest.json"


@dataclass(frozen=True)
class Tokens:
    """A text as tokens.

    Attributes:
        values: (tokens,) of unsigned integers.
        starts: (documents + 1,) where each document begins, and where the last ends.
    """

    values: np.ndarray
    starts: np.ndarray

    def part(self, first: int, last: int) -> Tokens:
        """Some of the documents."""
        low, high = int(self.starts[first]), int(self.starts[last])
        return Tokens(self.values[low:high], self.starts[first : last + 1] - low)


@dataclass(frozen=True)
class Corpus:
    """What a language model learns from.

    Attributes:
        train: to learn from.
        rest: to evaluate on; None where there is no such part.
        artifacts: by name, the files that turn tokens back into text.
    """

    train: Tokens
    rest: Tokens | None
    artifacts: dict[str, bytes]


def read_corpus(path: Path, form: str, data: Mapping[str, Any], beside: Beside) -> Corpus:
    """The text of a job.

    Args:
        path: the data file.
        form: its format.
        data: the `data` section of the resolved spec.
        beside: where the tokenizer and the dataset to evaluate on are.

    Raises:
        UserFault: the text, the tokenizer and the spec do not fit together.
    """
    file = DataFile(path, form, beside.sha256)
    reader = _reader(file, data, beside)
    whole = reader.read(file, "/data")
    if beside.evaluation is not None:
        return Corpus(whole, reader.read(beside.evaluation, "/data/eval_dataset"), reader.artifacts)
    if not data["eval_fraction"]:
        return Corpus(whole, None, reader.artifacts)
    documents = len(whole.starts) - 1
    if form == "text" and data["separator"] is None:
        cut = split(len(whole.values), data["eval_fraction"])
        train, rest = whole.values[:cut], whole.values[cut:]
        return Corpus(_one(train), _one(rest), reader.artifacts)
    cut = split(documents, data["eval_fraction"])
    return Corpus(whole.part(0, cut), whole.part(cut, documents), reader.artifacts)


class Reader(Protocol):
    """A way from texts to tokens, the same for what is learnt from and for what is evaluated on."""

    artifacts: dict[str, bytes]

    def read(self, file: DataFile, pointer: str) -> Tokens:
        """A file's text as tokens. `pointer`: where the job names it."""
        ...


def _reader(file: DataFile, data: Mapping[str, Any], beside: Beside) -> Reader:
    if data["tokenizer"] == "bytes":
        return Bytes(data)
    if data["tokenizer"] == "char":
        return Characters(data, file)
    if beside.tokenizer is None:
        raise UserFault("dataset_invalid", "the tokenizer's file is missing: upload it again", "/data/tokenizer/dataset")
    return Subwords(data, beside.tokenizer, beside.encoded)


class Bytes:
    """Each byte is a token."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data
        self.artifacts: dict[str, bytes] = {}

    def read(self, file: DataFile, pointer: str) -> Tokens:
        """A text that is one document is not read but mapped."""
        if file.form == "text" and self._data["separator"] is None:
            return _one(np.memmap(file.path, np.uint8, mode="r"))
        documents = [document.encode() for document in read_documents(file, self._data)]
        return _joined([np.frombuffer(document, np.uint8) for document in documents], np.uint8)


class Characters:
    """Each character is a token: its rank among those that occur in what is learnt from."""

    def __init__(self, data: Mapping[str, Any], file: DataFile) -> None:
        self._data = data
        self._known = np.unique(_points("".join(read_documents(file, data))))
        vocabulary = json.dumps([chr(point) for point in self._known])
        self.artifacts = {VOCABULARY: vocabulary.encode()}

    def read(self, file: DataFile, pointer: str) -> Tokens:
        """Raises UserFault for a character that has no token."""
        documents = [_points(document) for document in read_documents(file, self._data)]
        points = _joined(documents, np.uint32)
        ranks = np.minimum(np.searchsorted(self._known, points.values), len(self._known) - 1)
        strange = np.flatnonzero(self._known[ranks] != points.values)
        if len(strange):
            what = f"the character {chr(points.values[strange[0]])!r} does not occur in the data to learn from"
            raise UserFault("dataset_invalid", f"{what}, so it has no token: leave it out, or use another tokenizer", pointer)
        return Tokens(ranks.astype(np.uint32), points.starts)


class Subwords:
    """Tokens of a `tokenizers` file. Nothing is added to a text, and nothing cut off.

    Args:
        data: the `data` section of the resolved spec.
        file: the tokenizer.
        encoded: folder in which encoded texts are kept; None to keep none.
    """

    def __init__(self, data: Mapping[str, Any], file: DataFile, encoded: Path | None) -> None:
        self._data, self._file, self._encoded = data, file, encoded
        self.artifacts = {TOKENIZER: file.path.read_bytes()}

    def read(self, file: DataFile, pointer: str) -> Tokens:
        """Encoded once for a text, a tokenizer and a version of the library."""
        how = [self._data["separator"], self._data["args"], file.form, tokenizers.__version__, GROUP_CHARACTERS]
        return _kept(json.dumps([file.sha256, self._file.sha256, *how]), self._encoded, lambda: self._encode(file))

    def _encode(self, file: DataFile) -> Tokens:
        tokenizer = _load(self._file.path)
        whole = file.form == "text" and self._data["separator"] is None
        texts = read_documents(file, self._data)
        found: list[np.ndarray] = []
        for group in _grouped(_pieces(texts[0]) if whole else texts):
            found += [np.asarray(each.ids, np.uint32) for each in tokenizer.encode_batch_fast(group, add_special_tokens=False)]
        tokens = _joined(found, np.uint32)
        small = tokens.values.astype(np.uint16) if tokens.values.size and tokens.values.max() < 2**16 else tokens.values
        return _one(small) if whole else Tokens(small, tokens.starts)


def read_documents(file: DataFile, data: Mapping[str, Any]) -> list[str]:
    """The documents of a file, each with the separator that ends it."""
    separator: str | None = data["separator"]
    if file.form != "text":
        return [text + (separator or "") for text in read_texts(file.path, file.form, data["args"]["text"])]
    text = file.path.read_bytes().decode()
    if separator is None:
        return [text]
    parts = text.split(separator)
    return [part + separator for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def _one(values: np.ndarray) -> Tokens:
    return Tokens(values, np.array([0, len(values)]))


def _joined(documents: list[np.ndarray], dtype: Any) -> Tokens:
    starts = np.concatenate([[0], np.cumsum([len(document) for document in documents])]).astype(np.int64)
    return Tokens(np.concatenate(documents) if documents else np.zeros(0, dtype), starts)


def _load(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more specific
        raise UserFault("dataset_invalid", f"the tokenizer cannot be read: {error}", "/data/tokenizer/dataset") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _pieces(text: str) -> Iterator[str]:
    """Pieces of about `GROUP_CHARACTERS` that end at a line's end: a text is never encoded as one whole."""
    at = 0
    while at < len(text):
        end = text.find("\n", at + GROUP_CHARACTERS)
        end = len(text) if end < 0 else end + 1
        yield text[at:end]
        at = end


def _grouped(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in lists of about `GROUP_CHARACTERS`."""
    group: list[str] = []
    size = 0
    for text in texts:
        group.append(text)
        size += len(text)
        if size >= GROUP_CHARACTERS:
            yield group
            group, size = [], 0
    if group:
        yield group


# -- kept for the next attempt ---------------------------------------------------------------------------------------------------


def _kept(key: str, encoded: Path | None, make: Callable[[], Tokens]) -> Tokens:
    """What `make` gives, made once for a key and then read back."""
    if encoded is None:
        return make()
    folder = encoded / hashlib.sha256(key.encode()).hexdigest()
    found = _read_back(folder)
    if found is not None:
        return found
    made = make()
    # A full disk costs the next attempt its time, and this one nothing.
    with contextlib.suppress(OSError):
        _keep(folder, made)
    return made


def _keep(folder: Path, tokens: Tokens) -> None:
    making = Path(tempfile.mkdtemp(prefix="making-", dir=folder.parent))
    try:
        np.save(making / VALUES, tokens.values)
        np.save(making / STARTS, tokens.starts)
        (making / MANIFEST).write_text(json.dumps({name: _digest(making / name) for name in (VALUES, STARTS)}))
        shutil.rmtree(folder, ignore_errors=True)
        making.replace(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _read_back(folder: Path) -> Tokens | None:
    """What is kept there; None where there is nothing, or it is not what was written."""
    try:
        if json.loads((folder / MANIFEST).read_text()) != {name: _digest(folder / name) for name in (VALUES, STARTS)}:
            return None
        os.utime(folder)  # it is in use: what a worker keeps for later jobs goes by that
        return Tokens(np.load(folder / VALUES, mmap_mode="r"), np.load(folder / STARTS))
    except (OSError, ValueError):
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
