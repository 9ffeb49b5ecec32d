"""Texts as tokens: bytes, characters, or what a `tokenizers` file makes of them."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import Tokenizer

from jobs.errors import UserFault
from jobs.programs.data import Beside, DataFile

VOCABULARY = "vocabulary.json"
TOKENIZER = "tokenizer.json"
GROUP_CHARACTERS = 1 << 20
VALUES, MANIFEST = "values.npy", "manifest.json"


@dataclass(frozen=True)
class Tokens:
    """A text as tokens.

    Attributes:
        values: (tokens,) of unsigned integers.
        artifacts: by name, the files that turn them back into text.
    """

    values: np.ndarray
    artifacts: dict[str, bytes]


def read_tokens(path: Path, tokenizer: Any, beside: Beside) -> Tokens:
    """The tokens of a text file.

    Args:
        path: the text.
        tokenizer: `data.tokenizer` of a resolved spec.
        beside: where the tokenizer's file is.
    """
    if tokenizer == "bytes":
        return Tokens(np.memmap(path, np.uint8, mode="r"), {})
    if tokenizer == "char":
        return _characters(path)
    file = beside.tokenizer
    if file is None:
        raise UserFault("dataset_invalid", "the tokenizer's file is missing: upload it again", "/data/tokenizer/dataset")
    key = json.dumps([beside.sha256, file.sha256, tokenizers.__version__, GROUP_CHARACTERS])
    values = _kept(key, beside.encoded, lambda: _encoded(path, file))
    return Tokens(values, {TOKENIZER: file.path.read_bytes()})


def _characters(path: Path) -> Tokens:
    """The rank of each character among those that occur."""
    points = np.frombuffer(path.read_bytes().decode().encode("utf-32-le"), np.uint32)
    known, values = np.unique(points, return_inverse=True)
    vocabulary = json.dumps([chr(point) for point in known])
    return Tokens(values.astype(np.uint32).reshape(-1), {VOCABULARY: vocabulary.encode()})


def _encoded(path: Path, file: DataFile) -> np.ndarray:
    """What a tokenizer makes of a text. Nothing is added to it, and nothing cut off."""
    tokenizer = _load(file.path)
    found: list[np.ndarray] = []
    for group in _grouped(_pieces(path.read_bytes().decode())):
        found += [np.asarray(each.ids, np.uint32) for each in tokenizer.encode_batch_fast(group, add_special_tokens=False)]
    values = np.concatenate(found) if found else np.zeros(0, np.uint32)
    return values.astype(np.uint16) if values.size and values.max() < 2**16 else values


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


def _kept(key: str, encoded: Path | None, make: Callable[[], np.ndarray]) -> np.ndarray:
    """What `make` gives, made once for a key and then read back."""
    if encoded is None:
        return make()
    folder = encoded / hashlib.sha256(key.encode()).hexdigest()
    found = _read_back(folder)
    if found is not None:
        return found
    values = make()
    try:
        _keep(folder, values)
    except OSError:
        return values  # a full disk costs the next attempt its time, and this one nothing
    return values


def _keep(folder: Path, values: np.ndarray) -> None:
    making = Path(tempfile.mkdtemp(prefix="making-", dir=folder.parent))
    try:
        np.save(making / VALUES, values)
        (making / MANIFEST).write_text(json.dumps({"sha256": _digest(making / VALUES)}))
        shutil.rmtree(folder, ignore_errors=True)
        making.replace(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _read_back(folder: Path) -> np.ndarray | None:
    """What is kept there; None where there is nothing, or it is not what was written."""
    try:
        if json.loads((folder / MANIFEST).read_text())["sha256"] != _digest(folder / VALUES):
            return None
        return np.load(folder / VALUES, mmap_mode="r")
    except (OSError, ValueError, KeyError):
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
