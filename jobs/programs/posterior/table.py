"""The table: for each number of each site its mean, spread, quantiles, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jobs.programs.posterior import convergence
from jobs.programs.posterior.netcdf import PIECE_NUMBERS, boxes

QUANTILES = {"q05": 0.05, "q50": 0.50, "q95": 0.95}
HDI = 0.94
"""Probability of the interval of highest density, where nothing else is said."""

COLUMNS = (
    *("mean", "sd", *QUANTILES, "hdi_low", "hdi_high"),
    *("r_hat", "ess_bulk", "ess_tail", "mcse_mean", "mcse_sd"),
)
Row = dict[str, float | None]


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


def columns(values: np.ndarray, hdi: float = HDI) -> dict[str, np.ndarray]:
    """The table's columns for draws (elements, chains, draws); nothing of an element with a draw that is not finite."""
    finite = np.asarray(np.isfinite(values).all(axis=(1, 2)))
    values = np.where(finite[:, None, None], values, 0.0)
    flat = values.reshape(len(values), -1)
    ordered = np.sort(flat, axis=1)
    size = convergence.ess_mean(values)
    low, high = _densest(ordered, hdi)
    told = {"mean": flat.mean(axis=1), "sd": _spread(flat)}
    told |= {name: np.quantile(ordered, prob, axis=1) for name, prob in QUANTILES.items()}
    told |= {"hdi_low": low, "hdi_high": high, "r_hat": convergence.r_hat(values)}
    told |= {"ess_bulk": convergence.ess_bulk(values), "ess_tail": convergence.ess_tail(values)}
    told |= {"mcse_mean": convergence.mcse_mean(values, size), "mcse_sd": convergence.mcse_sd(values, size)}
    return {name: np.where(finite, column, np.nan) for name, column in told.items()}


def rows(sites: Mapping[str, Any], hdi: float = HDI) -> Iterator[tuple[str, Row]]:
    """The table's rows, one after another. What cannot be told is None."""
    for names, values in pieces(sites):
        with np.errstate(divide="ignore", invalid="ignore"):
            told = columns(values, hdi)
        for at, name in enumerate(names):
            yield name, {column: number(told[column][at]) for column in COLUMNS}


def summary(sites: Mapping[str, Any], hdi: float = HDI) -> dict[str, Row]:
    """The whole table."""
    return dict(rows(sites, hdi))


def number(value: Any) -> float | None:
    """A number as JSON has it: None where it is not finite."""
    return float(value) if np.isfinite(value) else None


def name_of(site: str, index: tuple[int, ...]) -> str:
    """An element's name."""
    return f"{site}[{','.join(map(str, index))}]" if index else site


def _spread(flat: np.ndarray) -> np.ndarray:
    return flat.std(axis=1, ddof=1) if flat.shape[1] > 1 else np.full(len(flat), np.nan)


def _densest(ordered: np.ndarray, probability: float) -> tuple[np.ndarray, np.ndarray]:
    """The shortest interval that holds this part of the draws. `ordered`: (elements, draws), ascending."""
    draws = ordered.shape[1]
    inside = min(int(probability * draws), draws - 1)
    widths = ordered[:, inside:] - ordered[:, : draws - inside]
    start = widths.argmin(axis=1)
    which = np.arange(len(ordered))
    return ordered[which, start], ordered[which, start + inside]
