"""From a resolved spec to the program that computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jobs.programs.data import ALONE, Beside
from jobs.programs.mcmc import McmcProgram
from jobs.programs.mesh import Layout, build_mesh
from jobs.programs.predict import PredictProgram
from jobs.programs.program import Program
from jobs.programs.svi import SviProgram
from jobs.programs.train import TrainProgram
from jobs.spec import sharding

PROGRAMS: Mapping[str, Callable[[dict[str, Any], Layout, Path | None, str | None, Beside], Program]] = {
    "train": TrainProgram,
    "mcmc": McmcProgram,
    "svi": SviProgram,
    "predict": PredictProgram,
}


def build_program(
    spec: dict[str, Any], axes: Mapping[str, int], path: Path | None, form: str | None, beside: Beside = ALONE
) -> Program:
    """The program of a resolved spec on this process's devices.

    Args:
        spec: the resolved spec.
        axes: mesh axis sizes, a `-1` resolved.
        path: the data file, None for inline and builtin data.
        form: the data file's format.
        beside: what is read beside the data file.

    Raises:
        UserFault: spec, data and devices do not fit together.
    """
    rules = sharding.rules(spec["mesh"]["sharding"], spec["mesh"]["rules"], dict(axes))
    layout = Layout(build_mesh(axes), tuple(sorted(rules.items())))
    return PROGRAMS[spec["kind"]](spec, layout, path, form, beside)
