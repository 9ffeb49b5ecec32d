"""What a finished job came to, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from rich.console import Group, RenderableType
from rich.text import Text

from meshyard.cli.views.tables import grid
from meshyard.cli.views.words import brief, number
from meshyard.models import Result

COLUMNS = ("mean", "sd", "q05", "q50", "q95", "mcse_mean", "ess_bulk", "ess_tail", "r_hat")
MOST_R_HAT = 1.01
LEAST_ESS = 400
"""Limits of Vehtari et al. (2021), Rank-normalization, folding, and localization, section 4."""


def result_view(result: Result) -> RenderableType:
    """A result: the posterior table of sampling, the final and best metrics of training."""
    parts: list[RenderableType] = []
    if result.summary:
        parts.append(_posterior(result.summary))
        parts.append(Text(_verdict(result.summary), style="yellow"))
    parts += [Text(f"! {each['message']} {each['hint']}", style="yellow") for each in result.warnings]
    for title, document in (
        ("final", result.final),
        ("best", result.best),
        ("diagnostics", result.diagnostics),
        ("loo", result.loo),
    ):
        if document:
            parts += [Text(title, style="bold"), _fields(document)]
    if result.stopped_by:
        parts.append(Text(f"stopped by {brief(result.stopped_by)}"))
    return Group(*parts)


def flags(row: Mapping[str, float | None]) -> set[str]:
    """The columns of a parameter that say its chains have not converged."""
    r_hat, found = row.get("r_hat"), set[str]()
    if r_hat is not None and r_hat > MOST_R_HAT:
        found.add("r_hat")
    for name in ("ess_bulk", "ess_tail"):
        value = row.get(name)
        if value is not None and value < LEAST_ESS:
            found.add(name)
    return found


def _posterior(summary: Mapping[str, Mapping[str, float | None]]) -> RenderableType:
    columns = [column for column in COLUMNS if any(column in row for row in summary.values())]
    table = grid("PARAMETER", *(f">{column.upper()}" for column in columns))
    for name, row in summary.items():
        bad = flags(row)
        table.add_row(Text(name), *(_cell(column, row.get(column), column in bad) for column in columns))
    return table


def _cell(column: str, value: float | None, bad: bool) -> Text:
    whole = column.startswith("ess") and value is not None
    text = f"{value:.0f}" if whole else number(value)
    # The mark says it without colour too.
    return Text(f"{text} !", style="red bold") if bad else Text(text)


def _verdict(summary: Mapping[str, Mapping[str, float | None]]) -> str:
    bad = [name for name, row in summary.items() if flags(row)]
    if not bad:
        return ""
    return f"! {len(bad)} of {len(summary)} have R-hat > {MOST_R_HAT} or ESS < {LEAST_ESS}: do not trust them yet, draw more"


def _fields(document: Mapping[str, Any]) -> RenderableType:
    table = grid("NAME", ">VALUE")
    for name, value in document.items():
        table.add_row(Text(name), Text(_shown(value)))
    return table


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return brief(", ".join(_shown(item) for item in cast("list[Any]", value)))
    return number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else brief(value)
