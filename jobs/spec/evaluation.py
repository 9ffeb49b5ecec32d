"""A dataset of its own to evaluate on: it must hold what the data to learn from holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jobs.errors import Issue
from jobs.spec.binding import Binding, told_missing
from jobs.spec.dataset import ColumnFacts, DatasetFacts
from jobs.spec.pointers import quoted
from jobs.spec.text import Corpus

POINTER = "/data/eval_dataset"


def faults_of_evaluation(parts: Mapping[str, Any]) -> list[Issue]:
    """What keeps `eval_facts` from being read as the `binding` or the `corpus` of a draft is."""
    facts: DatasetFacts = parts["eval_facts"]
    if "binding" in parts:
        return list(_faults_of_columns(parts["binding"], facts))
    return list(_faults_of_text(parts["corpus"], facts)) if "corpus" in parts else []


def _faults_of_text(corpus: Corpus, facts: DatasetFacts) -> Iterator[Issue]:
    if corpus.args is None and facts.format != "text":
        yield Issue(POINTER, "wrong_kind", "must be a text, as the data to learn from is")
    elif corpus.args is not None:
        name = corpus.args["text"]
        column = next((column for column in facts.columns if column.name == name), None)
        if column is None or column.dtype != "string" or column.missing:
            yield Issue(POINTER, "unknown_column", f"must have a column of texts {quoted(name)} without missing values")


def _faults_of_columns(binding: Binding, facts: DatasetFacts) -> Iterator[Issue]:
    columns = {column.name: column for column in facts.columns}
    for argument in binding.arguments.values():
        for wanted in argument.columns:
            fault = _fault(wanted, columns.get(wanted.name), is_label=argument.name == "y" and argument.is_integer)
            if fault is not None:
                yield Issue(POINTER, "mismatch", fault)


def _fault(wanted: ColumnFacts, found: ColumnFacts | None, *, is_label: bool) -> str | None:
    if found is None or found.dtype in ("string", "ragged"):
        return f"must have a column of numbers {quoted(wanted.name)}, as the data to learn from has"
    if found.missing:
        return f"there {told_missing(found)}"
    if found.shape[1:] != wanted.shape[1:]:
        return f"a row of {quoted(wanted.name)} has shape {found.shape[1:]} there, and {wanted.shape[1:]} in the data to learn from"
    if is_label and not found.dtype.startswith(("int", "uint", "bool")):
        return f"{quoted(wanted.name)} must hold integers there too"
    return None
