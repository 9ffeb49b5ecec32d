"""What a finished job has to show for its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jobs.programs.outputs import Outputs
from jobs.programs.posterior.blocks import Blocks
from jobs.programs.posterior.netcdf import NetCdf, write_groups
from jobs.programs.posterior.table import HDI, rows, spread, tabulate

NETCDF, TABLE = "predictions.nc", "summary.csv"


def predicted(outputs: Outputs, data: Mapping[str, Any], stopped_by: str) -> tuple[dict[str, Any], list[str]]:
    """A finished job's result, and the artifacts written for it.

    Args:
        outputs: predictions (chains, draws, …) by site.
        data: what they were made for.
        stopped_by: why the run ended.
    """
    blocks = Blocks(outputs)
    path, table = outputs.folder / NETCDF, outputs.folder / TABLE
    with NetCdf(path, "w") as file:
        write_groups(file, blocks, {"predictions": ""})
        file.group("predictions_constant_data").keep({name: np.asarray(array) for name, array in data.items()})
    shown: dict[str, dict[str, float | None]] = {}
    total = 0
    with NetCdf(path, "r") as file:
        group = file.group("predictions")
        sites = {name: group.variable(name) for name in blocks.sites()}
        for name, row, fits in tabulate(sites, rows(sites, HDI, spread), table):
            total += 1
            if fits:
                shown[name] = row
    found = {
        "summary": shown,
        "stopped_by": stopped_by,
        "num_chains": blocks.chains,
        "num_draws": blocks.draws,
        "num_quantities": total,
    }
    return found, [NETCDF, *([table.name] if total > len(shown) else [])]
