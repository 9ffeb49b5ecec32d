"""The table: for each number of each site its mean, spread, quantiles, and how far they can be trusted."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jobs.programs.posterior import convergence
from jobs.programs.posterior.netcdf import PIECE_NUMBERS, boxes

QUANTILES = {"q05": 0.05, "q50": 0.50, "q95": 0.95}
HDI = 0.94
"""Probability of the interval of highest density, where nothing else is said."""

SPREAD = ("mean", "sd", *QUANTILES, "hdi_low", "hdi_high")
COLUMNS = (
    *SPREAD,
    *("r_hat", "ess_bulk", "ess_tail", "mcse_mean", "mcse_sd"),
)
Row = dict[str, float | None]
Tell = Callable[[np.ndarray, float], dict[str, np.ndarray]]
MOST_ROWS = 10_000
"""Rows of a table in a result itself: a longer one is a file."""


def pieces(sites: Mapping[str, Any], most: int = PIECE_NUMBERS) -> Iterator[tuple[list[str], np.ndarray]]:
    """The elements of sites, some at a time.

    Args:
        sites: arrays (chains, draws, …), or what gives pieces of them.
        most: numbers in a piece.

    Returns: names, counted from zero (`theta[0]`, `x[0,1]`), and an array (names, chains, draws) in float64.
    """
    for site in sorted(sites):
        chains, draws, *shape = sites[site].shape
        for box in boxes(tuple(shape), max(1, most // max(1, chains * draws))):
            array = np.asarray(sites[site][(slice(None), slice(None), *box)], np.float64)
            first = [part.start for part in box]
            names = [name_of(site, tuple(np.add(first, at))) for at in np.ndindex(array.shape[2:])]
            yield names, np.ascontiguousarray(np.moveaxis(array.reshape(chains, draws, -1), 2, 0))


def elements(sites: Mapping[str, np.ndarray]) -> tuple[list[str], np.ndarray]:
    """Every number of every site: names, and an array (chains, draws, names) in float64."""
    found = list(pieces(sites))
    values = np.concatenate([values for _, values in found]) if found else np.zeros((0, 0, 0))
    return [name for names, _ in found for name in names], np.moveaxis(values, 0, 2)


def spread(values: np.ndarray, hdi: float = HDI) -> dict[str, np.ndarray]:
    """What the table tells of where draws (elements, chains, draws) lie; nothing of an element with one that is not finite."""
    flat = values.reshape(len(values), -1)
    finite = np.asarray(np.isfinite(flat).all(axis=1))
    flat = np.where(finite[:, None], flat, 0.0)
    ordered = np.sort(flat, axis=1)
    low, high = _densest(ordered, hdi)
    told = {"mean": flat.mean(axis=1), "sd": _deviation(flat)}
    told |= {name: np.quantile(ordered, prob, axis=1) for name, prob in QUANTILES.items()}
    told |= {"hdi_low": low, "hdi_high": high}
    return {name: np.where(finite, column, np.nan) for name, column in told.items()}


def columns(values: np.ndarray, hdi: float = HDI) -> dict[str, np.ndarray]:
    """The table's columns: where draws (elements, chains, draws) lie, and how far that can be trusted."""
    finite = np.asarray(np.isfinite(values).all(axis=(1, 2)))
    clean = np.where(finite[:, None, None], values, 0.0)
    size = convergence.ess_mean(clean)
    told = {"r_hat": convergence.r_hat(clean), "ess_bulk": convergence.ess_bulk(clean), "ess_tail": convergence.ess_tail(clean)}
    told |= {"mcse_mean": convergence.mcse_mean(clean, size), "mcse_sd": convergence.mcse_sd(clean)}
    return spread(values, hdi) | {name: np.where(finite, column, np.nan) for name, column in told.items()}


def rows(sites: Mapping[str, Any], hdi: float = HDI, tell: Tell = columns) -> Iterator[tuple[str, Row]]:
    """The table's rows, one after another. What cannot be told is None. `tell` gives the columns."""
    for names, values in pieces(sites):
        with np.errstate(divide="ignore", invalid="ignore"):
            told = tell(values, hdi)
        for at, name in enumerate(names):
            yield name, {column: number(values[at]) for column, values in told.items()}


def summary(sites: Mapping[str, Any], hdi: float = HDI) -> dict[str, Row]:
    """The whole table."""
    return dict(rows(sites, hdi))


def tabulate(sites: Mapping[str, Any], told: Iterator[tuple[str, Row]], path: Path) -> Iterator[tuple[str, Row, bool]]:
    """Every row, and whether the result has room for it; where it has not for all, all of them go into a CSV file.

    Args:
        sites: what the rows are about.
        told: the rows.
        path: the file, which is made if it is needed.
    """
    total = sum(int(np.prod(site.shape[2:], dtype=np.int64)) for site in sites.values())
    if total <= MOST_ROWS:
        yield from ((name, row, True) for name, row in told)
        return
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        for at, (name, row) in enumerate(told):
            if at == 0:
                writer.writerow(["name", *row])
            writer.writerow([name, *("" if value is None else value for value in row.values())])
            yield name, row, at < MOST_ROWS


def number(value: Any) -> float | None:
    """A number as JSON has it: None where it is not finite."""
    return float(value) if np.isfinite(value) else None


def name_of(site: str, index: tuple[int, ...]) -> str:
    """An element's name."""
    return f"{site}[{','.join(map(str, index))}]" if index else site


def _deviation(flat: np.ndarray) -> np.ndarray:
    return flat.std(axis=1, ddof=1) if flat.shape[1] > 1 else np.full(len(flat), np.nan)


def _densest(ordered: np.ndarray, probability: float) -> tuple[np.ndarray, np.ndarray]:
    """The shortest interval that holds this part of the draws. `ordered`: (elements, draws), ascending."""
    draws = ordered.shape[1]
    inside = min(int(probability * draws), draws - 1)
    widths = ordered[:, inside:] - ordered[:, : draws - inside]
    start = widths.argmin(axis=1)
    which = np.arange(len(ordered))
    return ordered[which, start], ordered[which, start + inside]
