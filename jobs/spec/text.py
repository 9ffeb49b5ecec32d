"""Texts that a language model learns from: whole files, or a column of a table, cut into documents and tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.errors import Issue
from jobs.spec import models
from jobs.spec.binding import told_missing
from jobs.spec.data import TOKENIZERS, TrainData, part_sizes
from jobs.spec.dataset import ColumnFacts, DatasetFacts, TextFacts, TokenizerFacts
from jobs.spec.imports import is_own
from jobs.spec.pointers import count_of, listed, nearest, quoted

COLUMN = "text"
"""The argument that a column of texts binds to, and the column that it binds to by itself."""

LINE_END = "\n"
Named = Mapping[str, Any]


@dataclass(frozen=True)
class Corpus:
    """Where the text is.

    Attributes:
        args: what `resolved_spec` holds; None where the file is the text.
        documents: how many there are at least, where that is known.
    """

    args: dict[str, str] | None
    documents: int | None


def learns_from_text(model: Named, facts: DatasetFacts) -> bool:
    """Whether a model takes tokens: a language model does, and a user's own one where it is given a text."""
    return models.learns_from_text(model) or (is_own(model) and facts.format == "text")


def bind_text(data: TrainData, facts: DatasetFacts) -> tuple[Corpus | None, list[Issue]]:
    """Find the text of a language model's data."""
    pointer = "/data/dataset" if data.dataset is not None else "/data"
    if facts.format == "text":
        issues = [Issue("/data/args", "conflict", "text has no columns to bind; leave args out")] if data.args is not None else []
        return Corpus(None, None), issues
    inline = data.inline is not None  # texts among inline columns are levels of a formula
    texts = {column.name: column for column in facts.columns if column.dtype == "string" and not inline}
    unknown = [name for name in data.args or {} if name != COLUMN]
    if unknown:
        detail = f'a language model has no argument {quoted(unknown[0])}; it learns from one column of texts: {{"text": "…"}}'
        return None, [Issue(f"/data/args/{unknown[0]}", "unknown_argument", detail)]
    named = (data.args or {}).get(COLUMN) or (COLUMN if COLUMN in texts else None)
    if named is None:
        hint = f"name its column of texts in data.args.text, one of {listed(list(texts)[:8])}" if texts else "upload a text"
        return None, [Issue(pointer, "wrong_kind", f"holds columns, and a transformer learns from text: {hint}")]
    issues = [_fault(named, facts, texts)] if isinstance(named, str) else [_several()]
    found = [issue for issue in issues if issue is not None]
    return (None, found) if found else (Corpus({COLUMN: named}, facts.rows), [])


def _several() -> Issue:
    return Issue("/data/args/text", "wrong_shape", "must be the name of one column of texts")


def _fault(name: str, facts: DatasetFacts, texts: Mapping[str, ColumnFacts]) -> Issue | None:
    names = [column.name for column in facts.columns]
    if name not in names:
        return Issue("/data/args/text", "unknown_column", f"the data has no column {quoted(name)}; {nearest(name, names)}")
    if name not in texts:
        return Issue("/data/args/text", "not_text", f"{quoted(name)} holds no texts: {nearest(name, texts)}")
    if texts[name].missing:
        return Issue("/data/args/text", "missing_values", told_missing(texts[name]))
    return None


def resolve_text(data: TrainData, corpus: Corpus | None) -> dict[str, Any]:
    """The fields of `data` that are for texts, defaults fixed; null for a model that learns from columns."""
    if corpus is None:
        return {"tokenizer": None, "separator": None, "packing": None}
    separator = LINE_END if data.separator is None and corpus.args is not None else data.separator
    return {"tokenizer": data.tokenizer or "bytes", "separator": separator, "packing": data.packing or "stream"}


def check_kind_of_data(model: Named, data: TrainData, facts: DatasetFacts) -> Iterator[Issue]:
    """Text for language models, columns for the others."""
    if learns_from_text(model, facts):
        return
    if facts.format == "text":
        pointer = "/data/dataset" if data.dataset is not None else "/data"
        yield Issue(
            pointer, "wrong_kind", f"is a text, and model {model['type']} learns from columns: use a table, or a transformer"
        )
    for name in ("tokenizer", "separator", "packing"):
        if getattr(data, name) is not None:
            yield Issue(f"/data/{name}", "conflict", f"only text is tokenised; leave the {name} out")


def check_documents(data: TrainData, corpus: Corpus) -> Iterator[Issue]:
    """Packing needs documents, and so does holding some of them out."""
    if data.packing == "documents" and corpus.args is None and data.separator is None:
        yield Issue("/data/separator", "requires", 'packing needs to know where a document ends: set it, for example to "\\n\\n"')
    if corpus.documents is not None:
        train, held_out = part_sizes(corpus.documents, data.eval_fraction)
        if train < 1 or (data.eval_fraction and held_out < 1):
            detail = f"leaves {count_of(train, 'document')} to train on and {held_out} for evaluation: use more, or another part"
            yield Issue("/data/eval_fraction", "out_of_range", detail)


def check_own_loss(loss: Named, data: TrainData) -> Iterator[Issue]:
    """A loss of a user's own knows of no mask, and packed sequences need one."""
    if is_own(loss) and data.packing == "documents":
        yield Issue(
            "/data/packing", "conflict", 'a loss of your own does not see where documents end: use "stream", or "next_token"'
        )


def check_text(model: Named, data: TrainData, facts: DatasetFacts) -> Iterator[Issue]:
    """A vocabulary that holds the text, and a text that is long enough: where both are known before it is encoded."""
    if facts.text is None or model.get("context") is None or data.tokenizer not in (None, *TOKENIZERS):
        return
    needed, why = _vocabulary(facts.text, data.tokenizer)
    if models.learns_from_text(model) and model["vocab_size"] < needed:
        yield Issue("/model/vocab_size", "too_small", f"must be at least {needed}: {why}")
    if data.packing == "documents" or data.separator is not None:
        return
    tokens = facts.text.characters if data.tokenizer == "char" else facts.text.bytes
    train, held_out = part_sizes(tokens, data.eval_fraction)
    window = model["context"] + 1
    if train < window:
        detail = f"{train} of the text's {tokens} tokens are left to train on, and one sample takes {window}: shorten model.context"
        yield Issue("/model/context", "too_long", f"{detail}, or use more text")
    elif data.eval_fraction and held_out < window:
        detail = (
            f"holds out {count_of(held_out, 'token')}, and one sample takes {window}: make it greater, or shorten model.context"
        )
        yield Issue("/data/eval_fraction", "too_small", detail)


def check_tokenizer(model: Named, tokenizer: TokenizerFacts) -> Iterator[Issue]:
    """A vocabulary that holds the tokenizer's."""
    if models.learns_from_text(model) and model["vocab_size"] < tokenizer.vocab_size:
        detail = f"must be at least {tokenizer.vocab_size}: the tokenizer's largest token is {tokenizer.vocab_size - 1}"
        yield Issue("/model/vocab_size", "too_small", detail)


def _vocabulary(text: TextFacts, tokenizer: str | None) -> tuple[int, str]:
    if tokenizer == "char":
        return text.distinct_characters, f"the text has {text.distinct_characters} different characters"
    return text.max_byte + 1, f"the text's largest byte is {text.max_byte}"
