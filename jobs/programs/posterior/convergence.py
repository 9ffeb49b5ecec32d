"""Convergence diagnostics of many quantities at once.

Every function takes draws as (quantities, chains, draws) in float64 and gives one number for each quantity; NaN where it cannot be
told.

Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), "Rank-normalization, folding, and localization: an improved R-hat",
Bayesian Analysis 16(2); autocorrelations are summed after Geyer (1992), Statistical Science 7(4). BFMI after Betancourt (2016),
arXiv:1604.00695. The arithmetic is that of arviz-stats, done for all quantities together.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import fft, special

LEAST_DRAWS = 4
"""Draws of a chain below which nothing is told."""

TAIL = (0.05, 0.95)
Values = np.ndarray


def r_hat(values: Values) -> np.ndarray:
    """The larger of rank-normalised split R-hat of the values and of their distance from the median. One chain counts as two."""
    if values.shape[2] < LEAST_DRAWS:
        return np.full(len(values), np.nan)
    halves = split(values)
    folded = np.abs(halves - np.median(halves.reshape(len(halves), -1), axis=1)[:, None, None])
    return np.fmax(_plain_r_hat(normal_scores(halves)), _plain_r_hat(normal_scores(folded)))


def ess_bulk(values: Values) -> np.ndarray:
    """Effective sample size in the bulk: of the rank-normalised, split chains."""
    return _guarded(values, lambda given: effective(normal_scores(split(given))))


def ess_tail(values: Values) -> np.ndarray:
    """Effective sample size in the tails: the lesser of those of the 5 % and the 95 % quantile."""
    return _guarded(values, lambda given: np.fmin(*(_of_quantile(given, prob) for prob in TAIL)))


def ess_mean(values: Values) -> np.ndarray:
    """Effective sample size of the mean."""
    return _guarded(values, lambda given: effective(split(given)))


def mcse_mean(values: Values, size: np.ndarray) -> np.ndarray:
    """Monte Carlo standard error of the mean. `size`: `ess_mean` of the values."""
    return values.reshape(len(values), -1).std(axis=1, ddof=1) / np.sqrt(size)


def mcse_sd(values: Values) -> np.ndarray:
    """Monte Carlo standard error of the standard deviation.

    Source: Kenney and Keeping (1951), with the effective sample size of the squared distances, as in the R package posterior.
    """
    squares = (values - values.mean(axis=(1, 2), keepdims=True)) ** 2
    flat = squares.reshape(len(values), -1)
    variance = flat.mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(((flat**2).mean(axis=1) - variance**2) / ess_mean(squares) / variance / 4)


def bfmi(energy: np.ndarray) -> np.ndarray:
    """Bayesian fraction of missing information of each chain, of its energies (chains, draws)."""
    if energy.shape[1] < LEAST_DRAWS:
        return np.full(len(energy), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.square(np.diff(energy, axis=1)).mean(axis=1) / energy.var(axis=1, ddof=1)


def split(values: Values) -> Values:
    """Every chain as two: its first and its last half."""
    half = values.shape[2] // 2
    return np.concatenate([values[:, :, :half], values[:, :, values.shape[2] - half :]], axis=1)


def normal_scores(values: Values) -> Values:
    """Values by the normal quantile of their rank among all draws of a quantity."""
    flat = values.reshape(len(values), -1)
    return special.ndtri((ranks(flat) - 3 / 8) / (flat.shape[1] + 1 / 4)).reshape(values.shape)


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each number of a row from 1 on, (rows, numbers); equal ones share their mean, and a row with a NaN has none.

    As `scipy.stats.rankdata`, which takes five times as long for many rows, and a third of a second to import in every child.
    """
    order = np.argsort(values, axis=1)
    ascending = np.take_along_axis(values, order, axis=1)
    found = np.empty(values.shape)
    np.put_along_axis(found, order, np.broadcast_to(np.arange(1.0, values.shape[1] + 1), values.shape), axis=1)
    for row in np.flatnonzero((ascending[:, 1:] == ascending[:, :-1]).any(axis=1)):
        _, which, sharers = np.unique(values[row], return_inverse=True, return_counts=True)
        found[row] = (np.cumsum(sharers) - (sharers - 1) / 2)[which]
    found[np.isnan(ascending[:, -1])] = np.nan
    return found


def autocovariance(values: Values) -> np.ndarray:
    """The autocovariance of each chain at every lag, by the fast Fourier transform."""
    draws = values.shape[2]
    length = fft.next_fast_len(2 * draws, real=True)
    spectrum = np.asarray(fft.rfft(values - values.mean(axis=2, keepdims=True), n=length, axis=2))
    return np.asarray(fft.irfft(spectrum * np.conjugate(spectrum), n=length, axis=2))[:, :, :draws] / draws


def effective(values: Values) -> np.ndarray:
    """How many independent draws would tell as much about the mean."""
    chains, draws = values.shape[1:]
    lagged = autocovariance(values).mean(axis=1)
    within = lagged[:, 0] * draws / (draws - 1)
    total = lagged[:, 0] + (values.mean(axis=2).var(axis=1, ddof=1) if chains > 1 else 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = 1.0 - (within[:, None] - lagged) / total[:, None]
    rho[:, 0] = 1.0
    tau = np.maximum(_summed(rho), 1 / np.log10(chains * draws))
    flat = values.reshape(len(values), -1)
    constant = flat.max(axis=1) - flat.min(axis=1) < np.finfo(float).resolution
    return np.where(constant, float(chains * draws), chains * draws / tau)


def _summed(rho: np.ndarray) -> np.ndarray:
    """The autocorrelation time: sums of pairs of lags, as long as they are positive, and never more than the pair before."""
    draws = rho.shape[1]
    last_pair = max(0, -(-(draws - 4) // 2))
    pairs = rho[:, 0 : 2 * last_pair + 1 : 2] + rho[:, 1 : 2 * last_pair + 2 : 2]
    ends = pairs <= 0
    ends[:, -1] = True
    end = ends.argmax(axis=1)
    counted = np.arange(pairs.shape[1])[None, :] < end[:, None]
    whole = np.where(counted, np.minimum.accumulate(pairs, axis=1), 0.0).sum(axis=1)
    rows = np.arange(len(rho))
    rest = rho[rows, 2 * end]
    return -1.0 + 2.0 * whole + np.where((rest > 0) | (pairs[rows, end] >= 0), rest, 0.0)


def _of_quantile(values: Values, prob: float) -> np.ndarray:
    quantile = np.quantile(values.reshape(len(values), -1), prob, axis=1)
    below = np.less_equal(values, quantile[:, None, None])
    return effective(split(np.asarray(below, np.float64)))


def _plain_r_hat(values: Values) -> np.ndarray:
    draws = values.shape[2]
    between = draws * values.mean(axis=2).var(axis=1, ddof=1)
    within = values.var(axis=2, ddof=1).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt((between / within + draws - 1) / draws)


def _guarded(values: Values, tell: Callable[[Values], np.ndarray]) -> np.ndarray:
    """NaN for quantities with too few draws or with draws that are not finite."""
    if values.shape[2] < LEAST_DRAWS:
        return np.full(len(values), np.nan)
    finite = np.asarray(np.isfinite(values).all(axis=(1, 2)))
    return np.where(finite, tell(np.where(finite[:, None, None], values, 0.0)), np.nan)
