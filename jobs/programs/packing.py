"""Documents side by side in sequences of one length, by a plan that is made once and can be read at any index."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jobs.errors import UserFault
from jobs.programs.data import Batch, Source, Windows
from jobs.programs.tokens import Corpus, Tokens


def windows(starts: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of at most `context + 1` tokens, in which every token of a document but its first is a target once.

    Args:
        starts: (documents + 1,) where each document begins, and where the last ends.
        context: most tokens that a piece predicts.

    Returns: (pieces,) first tokens and (pieces,) lengths of at least 2. Pieces of one document share one token. A document of
        one token predicts nothing and has none.
    """
    counts = np.maximum(0, -(-(np.diff(starts) - 1) // context))
    document = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = starts[document] + number * context
    return first, np.minimum(context + 1, starts[document + 1] - first)


def best_fit(lengths: np.ndarray, room: int) -> np.ndarray:
    """Put pieces into rows of `room`: the longest first, each into the fullest row that still takes it.

    Returns: (pieces,) the row of each. Rows are opened in order, so the plan is a function of the lengths alone.

    Source: best-fit decreasing, Johnson (1973), "Near-optimal bin packing algorithms", MIT.
    """
    row_of = np.zeros(len(lengths), np.int64)
    open_rows: list[list[int]] = [[] for _ in range(room + 1)]
    spaces, rows = 0, 0  # the bits of `spaces` are the free spaces of which there is an open row
    for piece in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[piece])
        fitting = spaces >> length
        space = length + (fitting & -fitting).bit_length() - 1 if fitting else room
        if fitting:
            row = open_rows[space].pop()
            spaces &= ~(0 if open_rows[space] else 1 << space)
        else:
            row, rows = rows, rows + 1
        row_of[piece] = row
        open_rows[space - length].append(row)
        spaces |= 1 << (space - length)
    return row_of


class Packed:
    """Rows of pieces: `{"tokens": (n, context + 1) int32, "mask": (n, context) float32}`.

    The mask is 1 where a token of a piece predicts the next one of the same piece; what is left of a row is filled with 0.

    Args:
        tokens: all tokens.
        pieces: first tokens and lengths, as of `windows`.
        rows: (pieces,) the row of each; every row up to the last has one.
        context: tokens that a row predicts at most.
    """

    def __init__(self, tokens: np.ndarray, pieces: tuple[np.ndarray, np.ndarray], rows: np.ndarray, context: int) -> None:
        order = np.argsort(rows, kind="stable")
        self._tokens, self._width = tokens, context + 1
        self._first, self._lengths = pieces[0][order], pieces[1][order]
        self._rows = np.concatenate([[0], np.cumsum(np.bincount(rows))]) if len(rows) else np.zeros(1, np.int64)

    def __len__(self) -> int:
        return len(self._rows) - 1

    def gather(self, indices: np.ndarray) -> Batch:
        """These rows."""
        counts = self._rows[indices + 1] - self._rows[indices]
        pieces = np.repeat(self._rows[indices] - _before(counts), counts) + np.arange(counts.sum())
        lengths = self._lengths[pieces]
        row = np.repeat(np.arange(len(indices)), counts)
        at = _before(lengths) - np.repeat(_before(lengths)[_before(counts)], counts) + row * self._width
        spread = np.arange(lengths.sum())
        source = np.repeat(self._first[pieces] - _before(lengths), lengths) + spread
        target = np.repeat(at - _before(lengths), lengths) + spread
        tokens, mask = np.zeros((2, len(indices) * self._width), np.int32)
        tokens[target], mask[target] = self._tokens[source], 1
        mask[at + lengths - 1] = 0
        shape = (len(indices), self._width)
        return {"tokens": tokens.reshape(shape), "mask": mask.reshape(shape)[:, :-1].astype(np.float32)}


def documents_of(mask: jax.Array) -> jax.Array:
    """The number of the piece that each token of a row belongs to, (n, context), from the mask: it is 0 where a piece ends."""
    ends = (mask == 0).astype(jnp.int32)
    return jnp.cumsum(ends, axis=1) - ends


def sequences(corpus: Corpus, packing: str, context: int, vocab_size: int | None) -> tuple[Source, Packed | None]:
    """What a language model learns from and, if a part is held out, what it is evaluated on.

    Args:
        corpus: the text.
        packing: `stream` takes each part as one text, `documents` keeps its documents apart.
        context: tokens that a sequence predicts.
        vocab_size: of the model; None where it is not known.

    Raises:
        UserFault: a part is too short, or holds a token that the model has not.
    """
    parts = [corpus.train] + ([] if corpus.rest is None else [corpus.rest])
    for part in parts:
        _check_vocabulary(part, vocab_size)
    rest = None if corpus.rest is None else _held_out(corpus.rest, packing, context)
    values = corpus.train.values
    train = packed(values, corpus.train.starts, context) if packing == "documents" else Windows(values, context + 1)
    if len(train) < 1:
        needed = "a document of 2 tokens" if packing == "documents" else f"{context + 1} tokens"
        raise UserFault("dataset_invalid", f"training needs {needed} and the text leaves {len(values)}: use more text", "/data")
    return train, rest


def _held_out(part: Tokens, packing: str, context: int) -> Packed:
    whole = np.array([0, len(part.values)])
    rest = packed(part.values, part.starts, context) if packing == "documents" else apart(part.values, whole, context)
    if len(rest) < 1:
        detail = f"evaluation needs 2 tokens and the text leaves {len(part.values)}: hold out more"
        raise UserFault("dataset_invalid", detail, "/data/eval_fraction")
    return rest


def _check_vocabulary(part: Tokens, vocab_size: int | None) -> None:
    largest = int(part.values.max()) if len(part.values) else 0
    if vocab_size is not None and largest >= vocab_size:
        row = int(np.searchsorted(part.starts, int(np.argmax(part.values)), side="right"))
        detail = f"document {row} holds token {largest}, and the model has {vocab_size}: vocab_size must be at least {largest + 1}"
        raise UserFault("dataset_invalid", detail, "/model/vocab_size")


def packed(tokens: np.ndarray, starts: np.ndarray, context: int) -> Packed:
    """Documents packed into as few rows as best fit finds."""
    pieces = windows(starts, context)
    return Packed(tokens, pieces, best_fit(pieces[1], context + 1), context)


def apart(tokens: np.ndarray, starts: np.ndarray, context: int) -> Packed:
    """Each piece in a row of its own, in order."""
    pieces = windows(starts, context)
    return Packed(tokens, pieces, np.arange(len(pieces[0])), context)


def _before(counts: np.ndarray) -> np.ndarray:
    """The sum of all counts before each."""
    return np.cumsum(counts) - counts
