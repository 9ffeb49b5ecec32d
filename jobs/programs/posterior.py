"""From draws to a posterior: the summary table, diagnostics, and a file that ArviZ opens.

Source of the diagnostics: Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Bayesian Analysis 16(2), as arviz-stats has them;
BFMI after Betancourt (2016), arXiv:1604.00695.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from arviz_base import from_dict
from arviz_stats.base import array_stats

from jobs.programs.outputs import Outputs

STATISTIC = "sample_stats/"
"""Prefix of a kernel's statistics among the arrays of a block of draws."""

NETCDF = "posterior.nc"
TAIL = (0.05, 0.95)
QUANTILES = {"q05": 0.05, "q50": 0.50, "q95": 0.95}
LIVE_ELEMENTS = 200
"""Elements watched while a job runs; the result's table covers all."""
LEAST_DRAWS = 4
ARVIZ_NAMES = {"num_steps": "n_steps", "accept_prob": "acceptance_rate", "potential_energy": "lp"}

Arrays = dict[str, np.ndarray]


def apart(arrays: Mapping[str, np.ndarray]) -> tuple[Arrays, Arrays]:
    """Sites and statistics of blocks of draws, each by its own name."""
    sites = {name: array for name, array in arrays.items() if not name.startswith(STATISTIC)}
    statistics = {name.removeprefix(STATISTIC): array for name, array in arrays.items() if name.startswith(STATISTIC)}
    return sites, statistics


def elements(sites: Mapping[str, np.ndarray]) -> tuple[list[str], np.ndarray]:
    """Every scalar of every site.

    Returns: names, counted from zero (`theta[0]`, `x[0,1]`), and an array (chains, draws, names) in float64.
    """
    names = [f"{site}{_index(index)}" for site, array in sorted(sites.items()) for index in np.ndindex(array.shape[2:])]
    flat = [array.reshape(*array.shape[:2], -1) for _, array in sorted(sites.items())]
    return names, np.concatenate(flat, axis=-1).astype(np.float64)


def worst(sites: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The largest R-hat and the smallest effective sample sizes; empty where there are too few draws to tell."""
    _, values = elements(sites)
    if values.shape[1] < LEAST_DRAWS:
        return {}
    values = values[..., :LIVE_ELEMENTS]
    found = {
        "r_hat/max": np.nanmax(_r_hat(values)),
        "ess_bulk/min": np.nanmin(_ess(values, "bulk")),
        "ess_tail/min": np.nanmin(_ess(values, "tail")),
    }
    return {name: float(value) for name, value in found.items()}


def summary(sites: Mapping[str, np.ndarray]) -> dict[str, dict[str, float | None]]:
    """The table: for each element mean, sd, quantiles, R-hat, effective sample sizes and Monte Carlo standard errors."""
    names, values = elements(sites)
    pooled = values.reshape(-1, values.shape[-1])
    columns = {"mean": pooled.mean(axis=0), "sd": pooled.std(axis=0, ddof=1)}
    columns |= {name: np.quantile(pooled, q, axis=0) for name, q in QUANTILES.items()}
    columns |= {"r_hat": _r_hat(values), "ess_bulk": _ess(values, "bulk"), "ess_tail": _ess(values, "tail")}
    columns |= {f"mcse_{what}": _mcse(values, what) for what in ("mean", "sd")}
    return {name: {column: _number(array[i]) for column, array in columns.items()} for i, name in enumerate(names)}


def diagnostics(statistics: Mapping[str, np.ndarray], spec: Mapping[str, Any]) -> dict[str, Any]:
    """What the kernel's statistics tell of the run as a whole."""
    found: dict[str, Any] = {
        "divergences": int(statistics["diverging"].sum()),
        "divergences_by_chain": [int(n) for n in statistics["diverging"].sum(axis=1)],
        "bfmi": [_number(value) for value in np.atleast_1d(array_stats.bfmi(statistics["energy"], chain_axis=0, draw_axis=1))],
        "mean_accept_prob": _number(statistics["accept_prob"].mean()),
        "mean_num_steps": _number(statistics["num_steps"].mean()),
    }
    depth = spec["kernel"].get("max_tree_depth")
    if isinstance(depth, int):
        found["max_tree_depth_reached"] = int((statistics["num_steps"] >= 2**depth - 1).sum())
    return found


def result(outputs: Outputs, observed: Arrays, spec: Mapping[str, Any], stopped_by: str) -> tuple[dict[str, Any], list[str]]:
    """A finished job's result, and the artifacts written for it."""
    sites, statistics = apart(outputs.draws())
    chains, draws = next(iter(statistics.values())).shape[:2]
    write_netcdf(outputs, sites, statistics, observed)
    found = {
        "summary": summary(sites),
        "diagnostics": diagnostics(statistics, spec),
        "stopped_by": stopped_by,
        "num_chains": int(chains),
        "num_draws": int(draws),
    }
    return found, [NETCDF]


def write_netcdf(outputs: Outputs, sites: Arrays, statistics: Arrays, observed: Arrays) -> None:
    """Posterior, sample statistics (by ArviZ's names) and observed data as NetCDF 4."""
    named = {ARVIZ_NAMES.get(name, name): (-array if name == "potential_energy" else array) for name, array in statistics.items()}
    tree = from_dict({"posterior": sites, "sample_stats": named, "observed_data": observed})
    tree.to_netcdf(outputs.folder / NETCDF, engine="h5netcdf")


def _index(index: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, index))}]" if index else ""


def _r_hat(values: np.ndarray) -> np.ndarray:
    return np.atleast_1d(array_stats.rhat(values, chain_axis=0, draw_axis=1, method="rank"))


def _ess(values: np.ndarray, method: str) -> np.ndarray:
    return np.atleast_1d(array_stats.ess(values, chain_axis=0, draw_axis=1, method=method, prob=TAIL if method == "tail" else None))


def _mcse(values: np.ndarray, method: str) -> np.ndarray:
    return np.atleast_1d(array_stats.mcse(values, chain_axis=0, draw_axis=1, method=method))


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
