"""The whole catalog as one JSON document, the same on every Python and every supported version of the libraries."""

from __future__ import annotations

import json
from typing import Any

from jobs.programs.catalog import distributions, from_flax, from_optax, inference, ours
from jobs.programs.catalog.entries import Section


def build() -> dict[str, Any]:
    """Read the libraries."""
    optimizers, losses = from_optax.optimizers(), from_optax.losses()
    optimizers.entries["chain"] = ours.chain()
    losses.entries["next_token"] = ours.next_token()
    losses.entries["import"] = ours.own_loss()
    objectives = inference.objectives()
    losses.entries |= objectives.entries
    losses.excluded |= objectives.excluded
    sections = {
        "models": Section(ours.models()),
        "layers": from_flax.layers(),
        "losses": losses.sorted(),
        "optimizers": optimizers.sorted(),
        "schedules": from_optax.schedules(),
        "kernels": inference.kernels(),
        "distributions": distributions.distributions(),
        "datasets": Section(ours.datasets()),
        "guides": inference.guides(),
        "inits": inference.inits(),
        "reparams": inference.reparams(),
    }
    entries = {name: section.entries for name, section in sections.items()}
    return {"sections": entries, "excluded": {name: section.excluded for name, section in sections.items() if section.excluded}}


def render(document: dict[str, Any]) -> str:
    """The document as text with one entry on a line, so that a difference shows what has changed."""
    sections = ",\n".join(f' "{name}": {_lines(entries)}' for name, entries in document["sections"].items())
    excluded = ",\n".join(f' "{name}": {_lines(reasons)}' for name, reasons in document["excluded"].items())
    return f'{{\n"sections": {{\n{sections}\n}},\n"excluded": {{\n{excluded}\n}}\n}}\n'


def _lines(values: dict[str, Any]) -> str:
    lines = ",\n".join(f'  "{name}": {json.dumps(value, ensure_ascii=False)}' for name, value in values.items())
    return f"{{\n{lines}\n }}"
