"""Text out of a trained language model: one jitted step over a window of fixed length, called token by token."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import tokenizers

from jobs.programs.trained import CannotLoad, Trained

VOCABULARY, TOKENIZER = "vocabulary.json", "tokenizer.json"


class Codec(Protocol):
    """Between text and tokens."""

    @property
    def size(self) -> int | None:
        """Tokens there are; None where it is the model's whole vocabulary."""
        ...

    def encode(self, text: str) -> list[int]:
        """Raises CannotLoad for a text that it has no tokens for."""
        ...

    def decode(self, tokens: Iterable[int]) -> Iterator[str]:
        """The text, piece by piece as tokens come; an unfinished character is held back until its last byte."""
        ...


class Bytes:
    """A token is a byte of UTF-8."""

    size = 256

    def encode(self, text: str) -> list[int]:
        """Its bytes."""
        return list(text.encode())

    def decode(self, tokens: Iterable[int]) -> Iterator[str]:
        """Its characters; bytes that are none become U+FFFD."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in tokens:
            yield decoder.decode(bytes([token]))
        yield decoder.decode(b"", final=True)


class Characters:
    """A token is a character of the text that the model has learned from.

    Args:
        vocabulary: the characters, in the order of their tokens.
    """

    def __init__(self, vocabulary: list[str]) -> None:
        self._vocabulary = vocabulary
        self._tokens = {character: token for token, character in enumerate(vocabulary)}
        self.size = len(vocabulary)

    def encode(self, text: str) -> list[int]:
        """Its characters, all of which the model must know."""
        strange = sorted(set(text) - self._tokens.keys())
        if strange:
            raise CannotLoad(f"the model has never seen {strange[0]!r}: leave it out of the prompt")
        return [self._tokens[character] for character in text]

    def decode(self, tokens: Iterable[int]) -> Iterator[str]:
        """Their characters."""
        return (self._vocabulary[token] for token in tokens)


class Tokenizer:
    """What a `tokenizers` file makes of a text.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        self.size: int | None = self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Its tokens, none added."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, tokens: Iterable[int]) -> Iterator[str]:
        """What each token adds: some tokenizers join words only when they see the next one."""
        seen: list[int] = []
        told = ""
        for token in tokens:
            seen.append(token)
            text = self._tokenizer.decode(seen, skip_special_tokens=False)
            if text.startswith(told) and not text.endswith("\ufffd"):
                yield text[len(told) :]
                told = text
        yield self._tokenizer.decode(seen, skip_special_tokens=False)[len(told) :]


def codec_of(trained: Trained) -> Codec:
    """The way between text and the model's tokens.

    Raises:
        CannotLoad: it is no language model, or what its tokens mean does not lie beside it.
    """
    tokenizer = trained.spec["data"].get("tokenizer")
    if tokenizer is None:
        raise CannotLoad(f"{trained.card['job']} is no language model: use `meshyard predict` with rows of data")
    if tokenizer == "bytes":
        return Bytes()
    path = trained.folder / (VOCABULARY if tokenizer == "char" else TOKENIZER)
    if not path.exists():
        raise CannotLoad(f"{path} is missing: it tells what the model's tokens mean")
    return Characters(json.loads(path.read_text())) if tokenizer == "char" else Tokenizer(path)


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        count: tokens to draw.
        temperature: 0 takes the likeliest token each time.
        top_k: draw among so many of the likeliest only; None among all.
        seed: the same draws again for the same seed and versions.
    """

    count: int
    temperature: float = 1.0
    top_k: int | None = None
    seed: int = 0


def generate(trained: Trained, prompt: str, sampling: Sampling) -> Iterator[str]:
    """Go on with a text, piece by piece.

    Args:
        trained: a language model.
        prompt: what comes before; at least one token.
        sampling: how.

    Raises:
        CannotLoad: the model speaks no text, or not this one.
    """
    codec = codec_of(trained)
    start = codec.encode(prompt)
    if not start:
        raise CannotLoad("the prompt is empty: give it at least one character to go on from")
    return codec.decode(draw(trained, start, sampling, codec.size))


def draw(trained: Trained, start: list[int], sampling: Sampling, known: int | None) -> Iterator[int]:
    """Tokens that follow others. The window is as long as the model's context, so the step is compiled once.

    Args:
        trained: a language model.
        start: what comes before; of more than the context the last part counts.
        sampling: how.
        known: tokens that mean something; the others are never drawn.
    """
    context: int = trained.spec["model"]["context"]
    last = start[-context:]
    window = jnp.zeros((1, context), jnp.int32).at[0, : len(last)].set(jnp.asarray(last))
    step = _step(trained.module, known, sampling.top_k)
    keys, length, heat = jax.random.key(sampling.seed), jnp.int32(len(last)), jnp.float32(sampling.temperature)
    for i in range(sampling.count):
        window, length, token = step(window, length, jax.random.fold_in(keys, i), heat)
        yield int(token)


def _step(model: Any, known: int | None, top_k: int | None) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    """One token further: `(window, length, key, temperature) -> (window, length, token)`."""

    @partial(jax.jit, donate_argnums=0)
    def step(window: jax.Array, length: jax.Array, key: jax.Array, heat: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        logits = jax.lax.dynamic_index_in_dim(model(window)[0], length - 1, keepdims=False).astype(jnp.float32)
        logits = jnp.where(jnp.arange(logits.size) < (known or logits.size), logits, -jnp.inf)
        if top_k is not None:
            least = jax.lax.top_k(logits, min(top_k, logits.size))[0][-1]
            logits = jnp.where(logits >= least, logits, -jnp.inf)
        drawn = jax.random.categorical(key, logits / jnp.maximum(heat, 1e-6))
        token = jnp.where(heat > 0, drawn, jnp.argmax(logits)).astype(jnp.int32)
        full = length == window.shape[1]
        moved = jnp.where(full, jnp.roll(window, -1, axis=1), window)
        at = jnp.where(full, length - 1, length)
        return jax.lax.dynamic_update_index_in_dim(moved, token[None], at, 1), at + 1, token

    return step
