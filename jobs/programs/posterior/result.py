"""What a finished job has to show for its draws."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobs.programs.outputs import Outputs
from jobs.programs.posterior import convergence
from jobs.programs.posterior.advice import Worst, of_comparison, warnings
from jobs.programs.posterior.blocks import STATISTIC, Blocks
from jobs.programs.posterior.netcdf import NetCdf, write_draws
from jobs.programs.posterior.predictive import write_predictive
from jobs.programs.posterior.replay import Replay
from jobs.programs.posterior.table import number, rows, tabulate
from jobs.programs.posterior.zarr import write_zarr
from jobs.spec.outputs import PosteriorOutputs

NETCDF, ZARR, TABLE, PLOTS = "posterior.nc", "posterior.zarr", "summary.csv", "plots"
DEFAULTS: Mapping[str, Any] = PosteriorOutputs().model_dump()


@dataclass(frozen=True)
class Table:
    """The table as the result shows it."""

    shown: dict[str, dict[str, float | None]]
    worst: Worst
    file: str | None


def result(
    outputs: Outputs,
    observed: Mapping[str, Any],
    spec: Mapping[str, Any],
    stopped_by: str,
    replay: Replay | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """A finished job's result, and the artifacts written for it.

    Args:
        outputs: the draws, (chains, draws, …) by site; statistics of a kernel bear the prefix `STATISTIC` and may be missing.
        observed: the data, by name.
        spec: the resolved spec.
        stopped_by: why the run ended.
        replay: the model in the form that was sampled, over its data; None leaves out what needs it.
    """
    wanted = {**DEFAULTS, **(spec.get("outputs") or {})}
    blocks = Blocks(outputs)
    path = outputs.folder / NETCDF
    with NetCdf(path, "w") as file:
        write_draws(file, blocks)
        if replay is None:
            file.group("observed_data").keep({name: np.asarray(array) for name, array in observed.items()})
        else:
            _write_model(file, blocks, replay, wanted, spec["seed"])
    artifacts = [NETCDF]
    with NetCdf(path, "r") as file:
        group = file.group("posterior")
        table = _table(
            {name: group.variable(name) for name in blocks.sites()}, blocks.chains, wanted["hdi_prob"], outputs.folder / TABLE
        )
        artifacts += [table.file] if table.file else []
        if wanted["zarr"]:
            artifacts += [f"{ZARR}/{name}" for name in write_zarr(file, outputs.folder / ZARR)]
        if wanted["plots"]:
            artifacts += _plots(file, wanted["hdi_prob"], outputs.folder)
    told = diagnostics({name: blocks.whole(STATISTIC + name) for name in blocks.statistics()}, spec)
    told |= {"r_hat_max": table.worst.most_r_hat, "ess_bulk_min": table.worst.least_bulk, "ess_tail_min": table.worst.least_tail}
    loo, waic = _compared(path) if wanted["log_likelihood"] and replay is not None else ({}, {})
    found = {
        "summary": table.shown,
        "diagnostics": told,
        "warnings": [*warnings(table.worst, told, blocks.chains * blocks.draws, spec), *of_comparison(loo)],
        "loo": loo,
        "waic": waic,
        "stopped_by": stopped_by,
        "num_chains": blocks.chains,
        "num_draws": blocks.draws,
        "num_quantities": table.worst.total,
    }
    return found, artifacts


def _write_model(file: NetCdf, blocks: Blocks, replay: Replay, wanted: Mapping[str, Any], seed: int) -> None:
    observations = replay.observations()
    file.group("observed_data").keep(observations)
    file.group("constant_data").keep({name: np.asarray(data) for name, data in replay.data.items() if name not in observations})
    write_predictive(file, blocks, replay, wanted, seed)


def _plots(file: NetCdf, hdi: float, folder: Path) -> list[str]:
    from jobs.programs.posterior import pictures  # noqa: PLC0415  (large imports that most jobs do without)
    from jobs.programs.posterior.plots import plots  # noqa: PLC0415

    (folder / PLOTS).mkdir(exist_ok=True)
    written: list[str] = []
    for name, plot in plots(file, hdi).items():
        (folder / PLOTS / f"{name}.json").write_text(json.dumps(plot, allow_nan=False))
        pictures.draw(plot, folder / PLOTS / f"{name}.png")
        written += [f"{PLOTS}/{name}.json", f"{PLOTS}/{name}.png"]
    return sorted(written)


def _compared(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from jobs.programs.posterior.comparison import compare  # noqa: PLC0415  (as above)

    with NetCdf(path, "r") as file:
        group = file.group("log_likelihood")
        return compare({name: group.variable(name) for name in group.names()})


def diagnostics(statistics: Mapping[str, np.ndarray], spec: Mapping[str, Any]) -> dict[str, Any]:
    """What the kernel's statistics tell of the run as a whole; nothing of those that it does not have."""
    found: dict[str, Any] = {}
    if "diverging" in statistics:
        found["divergences"] = int(statistics["diverging"].sum())
        found["divergences_by_chain"] = [int(n) for n in statistics["diverging"].sum(axis=1)]
    if "energy" in statistics:
        found["bfmi"] = [number(value) for value in convergence.bfmi(np.asarray(statistics["energy"], np.float64))]
    for name, key in (("accept_prob", "mean_accept_prob"), ("num_steps", "mean_num_steps")):
        if name in statistics:
            found[key] = number(statistics[name].mean())
    if "step_size" in statistics:
        found["step_size"] = [number(value) for value in statistics["step_size"][:, -1]]
    most = most_steps(spec)
    if most is not None and "num_steps" in statistics:
        found["max_tree_depth_reached"] = int((statistics["num_steps"] >= most).sum())
    return found


def most_steps(spec: Mapping[str, Any]) -> int | None:
    """The steps of a transition whose tree has its greatest depth; None where there are no trees."""
    depth = (spec.get("kernel") or {}).get("max_tree_depth")
    deepest = depth[-1] if isinstance(depth, list | tuple) else depth
    return 2**deepest - 1 if isinstance(deepest, int) else None


def _table(sites: Mapping[str, Any], chains: int, hdi: float, path: Path) -> Table:
    """The table, row by row: the first ones for the result, all of them into a file where there are more."""
    shown: dict[str, dict[str, float | None]] = {}
    worst = Worst(chains)
    for name, row, fits in tabulate(sites, rows(sites, hdi), path):
        worst.take(name, row)
        if fits:
            shown[name] = row
    return Table(shown, worst, path.name if worst.total > len(shown) else None)
