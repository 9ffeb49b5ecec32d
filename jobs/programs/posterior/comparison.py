"""How well a model predicts what it was not shown: leave-one-out cross-validation by Pareto-smoothed importance sampling, WAIC.

Source: Vehtari, Gelman and Gabry (2017), Statistics and Computing 27(5); for the bound on Pareto k Vehtari, Simpson, Gelman, Yao
and Gabry (2024), JMLR 25(72). The smoothing is that of arviz-stats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from arviz_stats.base import array_stats
from scipy.special import logsumexp

from jobs.programs.posterior import convergence
from jobs.programs.posterior.table import number, pieces

Told = dict[str, Any]
_smooth: Any = array_stats.psislw
_log_sum: Any = logsumexp
MOST_NAMED = 5


def compare(sites: Mapping[str, Any]) -> tuple[dict[str, Told], dict[str, Told]]:
    """LOO and WAIC of every observed site. `sites`: pointwise log likelihoods (chains, draws, …), in memory or in pieces."""
    loo: dict[str, Told] = {}
    waic: dict[str, Told] = {}
    for site, variable in sites.items():
        points = _Points(int(variable.shape[0] * variable.shape[1]))
        for names, values in pieces({site: variable}):
            points.take(names, values)
        if points.elpd:
            loo[site], waic[site] = points.loo(), points.waic()
    return loo, waic


class _Points:
    """Observations, as they come by."""

    def __init__(self, transitions: int) -> None:
        # Below this many draws even a small k is no promise.
        self._good_k = min(1 - 1 / np.log10(transitions), 0.7) if transitions > 1 else 0.0
        self.elpd: list[float] = []
        self._khat: list[float] = []
        self._lppd: list[float] = []
        self._variance: list[float] = []
        self._names: list[str] = []

    def take(self, names: list[str], values: np.ndarray) -> None:
        """Look at the log likelihoods (points, chains, draws) of some observations."""
        flat = values.reshape(len(values), -1)
        size = flat.shape[1]
        relative = convergence.ess_mean(np.exp(values - values.max(axis=(1, 2), keepdims=True))) / size
        self._lppd += list(_log_sum(flat, axis=1) - np.log(size))
        self._variance += list(flat.var(axis=1, ddof=1))
        for row, share in zip(flat, relative, strict=True):
            weights, khat = _smooth(row, share if np.isfinite(share) else 1.0)
            self.elpd.append(float(_log_sum(weights + row) - _log_sum(weights)))
            self._khat.append(float(khat))
        self._names += names

    def loo(self) -> Told:
        """Expected log predictive density, and whether its smoothing held."""
        khat = np.asarray(self._khat)
        bad = np.flatnonzero(~(khat <= self._good_k))
        worst = [self._names[at] for at in bad[np.argsort(-khat[bad], kind="stable")][:MOST_NAMED]]
        told = _summed(np.asarray(self.elpd), np.asarray(self._lppd))
        pareto = {"pareto_k_max": number(khat.max()), "pareto_k_bound": number(self._good_k), "pareto_k_above": len(bad)}
        return told | pareto | {"worst": worst}

    def waic(self) -> Told:
        """The same by the widely applicable information criterion."""
        variance = np.asarray(self._variance)
        told = _summed(np.asarray(self._lppd) - variance, np.asarray(self._lppd))
        return told | {"variance_above": int((variance > 0.4).sum())}


def _summed(elpd: np.ndarray, lppd: np.ndarray) -> Told:
    """Sums over observations: `p` is the effective number of parameters."""
    spread = np.sqrt(len(elpd) * elpd.var())
    sums = {"elpd": elpd.sum(), "se": spread, "p": (lppd - elpd).sum()}
    return {name: number(value) for name, value in sums.items()} | {"observations": len(elpd)}
