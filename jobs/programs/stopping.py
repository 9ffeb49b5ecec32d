"""How chains are run on the devices there are, and when they have run enough."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from jobs.errors import UserFault
from jobs.programs.mesh import Layout
from jobs.programs.outputs import Outputs
from jobs.spec.mcmc_checks import ENSEMBLES

ELAPSED = "elapsed_seconds"
MCSE = "mcse/ratio"
"""The greatest Monte Carlo standard error of a mean, as a part of what is allowed."""


def method(spec: Mapping[str, Any], layout: Layout) -> tuple[str, str]:
    """How the chains of one device run, and why: a function of the spec and the mesh alone, so that a resumed job agrees.

    Returns: `vectorized`, `sequential`, or `parallel` where each chain has a device of its own; and a sentence.
    """
    asked, devices, chains = spec["chain_method"], layout.mesh.shape.get("chains", 1), spec["num_chains"]
    here = chains // devices
    if asked != "auto" and (asked != "parallel" or here == 1):
        return asked, "as the job asks"
    if spec["kernel"]["type"] in ENSEMBLES:
        return "vectorized", "the chains of an ensemble move together"
    if here == 1:
        each = "the only chain has the device" if chains == 1 else f"each of {chains} chains has a device of its own"
        return ("vectorized" if chains == 1 else "parallel"), each
    return (
        "vectorized",
        f"{here} chains share {'the device' if devices == 1 else f'each of {devices} devices'}: together they are faster",
    )


def has_converged(stop: Mapping[str, Any], measured: Mapping[str, float]) -> bool:
    """Whether there are targets and every one of them is met."""
    least = {"ess_bulk/min": stop["min_ess_bulk"], "ess_tail/min": stop["min_ess_tail"]}
    most = {"r_hat/max": stop["max_r_hat"], MCSE: None if stop["max_mcse"] is None else 1.0}
    met = [measured.get(name, -np.inf) >= target for name, target in least.items() if target is not None]
    met += [measured.get(name, np.inf) <= target for name, target in most.items() if target is not None]
    return bool(met) and all(met)


def mcse_ratio(allowed: Any, table: Mapping[str, Mapping[str, float | None]]) -> float:
    """The greatest standard error of a mean, as a part of what is allowed.

    Args:
        allowed: a number, relative to each quantity's standard deviation; or absolute numbers by quantity or site.
        table: `mcse_mean` and `sd` of each quantity, `theta[0]`.

    Raises:
        UserFault: `unknown_site`, for a name that no quantity has.
    """
    if not isinstance(allowed, Mapping):
        rows = [row for row in table.values() if row["sd"] != 0]
        return max((_part(row["mcse_mean"], row["sd"], allowed) for row in rows), default=0.0)
    ratios: list[float] = []
    for wanted, limit in allowed.items():
        matching = [row for name, row in table.items() if name == wanted or name.startswith(f"{wanted}[")]
        if not matching:
            detail = f"no quantity of the model is called {wanted}; there are {', '.join(list(table)[:20])}"
            raise UserFault("unknown_site", detail, "/stop/max_mcse")
        ratios += [_part(row["mcse_mean"], 1.0, limit) for row in matching]
    return max(ratios)


def _part(error: float | None, deviation: float | None, allowed: float) -> float:
    return np.inf if error is None or deviation is None else error / (allowed * deviation)


def all_divergent(drawn: int) -> UserFault:
    """The fault of a job in which not one transition was sound."""
    advice = (
        "check the model's likelihood for values that are not finite, scale the data, set reparam to auto, "
        "or raise kernel.target_accept_prob"
    )
    return UserFault(
        "all_divergent", f"each of the first {drawn} transitions of every chain after warm-up diverged: {advice}", "/model"
    )


class Clock:
    """The running time of a job, all attempts together, as far as its measurements tell."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._before: float | None = None

    def seconds(self, outputs: Outputs) -> float:
        """Running time so far."""
        if self._before is None:
            past = outputs.series(ELAPSED)
            self._before = past[-1][1] if past else 0.0
        return self._before + time.monotonic() - self._began

    def is_up(self, seconds: float | None, outputs: Outputs) -> str | None:
        """`max_seconds` where so many have passed."""
        return "max_seconds" if seconds is not None and self.seconds(outputs) >= seconds else None
