"""The usual plots of a posterior as numbers: what a page draws, and what the pictures are drawn from.

Each is bounded: some quantities, some points of each. Values are rounded to what a screen can show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from arviz_stats.base import array_stats

from jobs.programs.posterior import convergence
from jobs.programs.posterior.netcdf import NetCdf
from jobs.programs.posterior.table import HDI, columns, name_of, number

MOST_QUANTITIES, MOST_OF_SITE = 12, 8
MOST_ROWS = 40
MOST_POINTS = 500
MOST_PAIRED, MOST_PAIRS, MOST_DIVERGED = 4, 1500, 500
GRID, BINS, LAGS = 128, 20, 60
DIGITS = 5

Plot = dict[str, Any]
_kde: Any = array_stats.kde


def plots(file: NetCdf, hdi: float = HDI) -> dict[str, Plot]:
    """Every plot by its name: `trace`, `rank`, `density`, `forest`, `autocorrelation`, `pair`, and `energy` if it is known."""
    group = file.group("posterior")
    sites = {name: group.variable(name) for name in group.names()}
    shown = [(name, values) for name, values in _quantities(sites, MOST_QUANTITIES, MOST_OF_SITE) if _varies(values)]
    statistics = file.group("sample_stats") if "sample_stats" in file.groups() else None
    kept: Mapping[str, np.ndarray] = {name: np.asarray(statistics.variable(name)[...]) for name in ("diverging", "energy")
                                      if statistics is not None and name in statistics.names()}  # fmt: skip
    made: dict[str, Plot] = {
        "trace": _trace(shown, kept.get("diverging")),
        "rank": _each(shown, _rank, {"bins": BINS}),
        "density": _each(shown, _density, {}),
        "forest": _forest(sites, hdi),
        "autocorrelation": _each(shown, _autocorrelation, {}),
        "pair": _pair(shown[:MOST_PAIRED], kept.get("diverging")),
    }
    if "energy" in kept:
        made["energy"] = _energy(np.asarray(kept["energy"], np.float64))
    return {name: {"plot": name, **plot} for name, plot in made.items()}


def _quantities(sites: Mapping[str, Any], most: int, most_of_site: int) -> Iterator[tuple[str, np.ndarray]]:
    """The first elements of each site, small sites first: (chains, draws) each."""
    left = most
    for site, variable in sorted(sites.items(), key=lambda item: (len(item[1].shape), int(np.prod(item[1].shape[2:])), item[0])):
        for at, index in enumerate(np.ndindex(tuple(variable.shape[2:]))):
            if left == 0 or at == most_of_site:
                break
            left -= 1
            yield name_of(site, index), np.asarray(variable[(slice(None), slice(None), *index)], np.float64)


def _varies(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all() and np.ptp(values) > 0)


def _each(shown: Sequence[tuple[str, np.ndarray]], tell: Any, common: Plot) -> Plot:
    return {**common, "quantities": [{"name": name, "chains": tell(values)} for name, values in shown]}


def _trace(shown: Sequence[tuple[str, np.ndarray]], diverging: np.ndarray | None) -> Plot:
    draws = shown[0][1].shape[1] if shown else 0
    at = np.unique(np.linspace(0, draws - 1, min(draws, MOST_POINTS)).astype(int)) if draws else np.zeros(0, int)
    diverged = [np.flatnonzero(chain)[:MOST_DIVERGED].tolist() for chain in diverging] if diverging is not None else []
    quantities = [{"name": name, "chains": [_rounded(chain[at]) for chain in values]} for name, values in shown]
    return {"draws": at.tolist(), "diverged": diverged, "quantities": quantities}


def _rank(values: np.ndarray) -> list[list[int]]:
    """How the ranks of each chain's draws among all draws are spread over bins: evenly, where the chains agree."""
    ranks = convergence.ranks(values.reshape(1, -1)).reshape(values.shape)
    return [np.histogram(chain, bins=BINS, range=(0.5, values.size + 0.5))[0].tolist() for chain in ranks]


def _density(values: np.ndarray) -> list[Plot]:
    return [_curve(chain) for chain in values if _varies(chain)]


def _curve(values: np.ndarray) -> Plot:
    grid, density, _ = _kde(values, grid_len=GRID)
    return {"x": _rounded(grid), "y": _rounded(density)}


def _autocorrelation(values: np.ndarray) -> list[list[float | None]]:
    lagged = convergence.autocovariance(values[None])[0, :, :LAGS]
    with np.errstate(divide="ignore", invalid="ignore"):
        return [_rounded(chain / chain[0]) for chain in lagged]


def _forest(sites: Mapping[str, Any], hdi: float) -> Plot:
    shown = list(_quantities(sites, MOST_ROWS, MOST_ROWS))
    told = columns(np.stack([values for _, values in shown]), hdi) if shown else {}
    names = ("q50", "hdi_low", "hdi_high", "q25", "q75", "r_hat")
    flat = [values.reshape(-1) for _, values in shown]
    quarters = {"q25": [np.quantile(each, 0.25) for each in flat], "q75": [np.quantile(each, 0.75) for each in flat]}
    whole: dict[str, Any] = {**told, **quarters}
    rows = [{"name": name} | {key: _round(whole[key][at]) for key in names} for at, (name, _) in enumerate(shown)]
    return {"hdi_prob": hdi, "quantities": rows}


def _energy(energy: np.ndarray) -> Plot:
    """The energy as it is distributed, and as it changes from draw to draw: where the second is much narrower, tails are missed."""
    chains: list[Plot] = []
    for chain, fraction in zip(energy, convergence.bfmi(energy), strict=True):
        if _varies(chain):
            chains.append(
                {"marginal": _curve(chain - chain.mean()), "transition": _curve(np.diff(chain)), "bfmi": _round(fraction)}
            )
    return {"chains": chains}


def _pair(shown: Sequence[tuple[str, np.ndarray]], diverging: np.ndarray | None) -> Plot:
    """Draws of a few quantities against each other, those that diverged apart."""
    if not shown:
        return {"names": [], "draws": [], "diverged": []}
    points = np.stack([values.reshape(-1) for _, values in shown])
    bad = np.asarray(diverging, bool).reshape(-1) if diverging is not None else np.zeros(points.shape[1], bool)
    good, which = np.flatnonzero(~bad), np.flatnonzero(bad)
    return {
        "names": [name for name, _ in shown],
        "draws": [_rounded(row[_thinned(good, MOST_PAIRS)]) for row in points],
        "diverged": [_rounded(row[_thinned(which, MOST_DIVERGED)]) for row in points],
    }


def _thinned(which: np.ndarray, most: int) -> np.ndarray:
    return which if len(which) <= most else which[np.linspace(0, len(which) - 1, most).astype(int)]


def _rounded(values: np.ndarray) -> list[float | None]:
    return [_round(value) for value in values]


def _round(value: Any) -> float | None:
    found = number(value)
    return None if found is None else float(f"{found:.{DIGITS}g}")
