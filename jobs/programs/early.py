"""When a watched metric ends a job before its last step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jobs.programs.outputs import Outputs


def stops(stop: Mapping[str, Any], step: int, outputs: Outputs, looks_at: Callable[[int], bool]) -> str | None:
    """`target`: the metric has reached it; `patience`: it has not got better in so many looks.

    Args:
        stop: the rule of a resolved spec.
        step: where the run stands.
        outputs: what has been measured.
        looks_at: the steps that count: they must not depend on where a run was resumed.
    """
    if stop["metric"] is None or not looks_at(step):
        return None
    sign = 1 if stop["mode"] == "min" else -1
    values = [(at, sign * value) for at, value in outputs.series(stop["metric"]) if at <= step and looks_at(at)]
    if not values:
        return None
    if stop["target"] is not None and values[-1][0] == step and values[-1][1] <= sign * stop["target"]:
        return "target"
    since = len(values) - 1 - min(range(len(values)), key=lambda i: values[i][1])
    return "patience" if stop["patience"] is not None and since >= stop["patience"] else None
