"""How fast a job went, as its result tells it."""

from __future__ import annotations

from typing import Any

import jax

from jobs.programs.flops import FORMULA, MFU_FORMULA, peak_of
from jobs.programs.program import Program
from worker.ledger import DATA_WAIT, Ledger
from worker.pace import Pace

STEPPING = ("training", "warmup", "sampling", DATA_WAIT)


def performance(program: Program, pace: Pace, ledger: Ledger, steps: int) -> dict[str, Any]:
    """Figures of this attempt, the last of its job.

    Args:
        program: what has run.
        pace: its blocks' times.
        ledger: seconds by phase.
        steps: done by this attempt.

    Returns: `steps`, `step_seconds` {p50, p95, mean}, the rate by its name, `data_wait_fraction`, and for training FLOPs with their
        formula and, on devices whose peak is known, `mfu`. Null where nothing is known.
    """
    spent = ledger.seconds()
    total = sum(spent.get(phase, 0.0) for phase in STEPPING)
    each = pace.percentiles()
    found: dict[str, Any] = {
        "steps": steps,
        "step_seconds": each and each | {"mean": round(total / steps, 6)},
        "data_wait_fraction": round(spent.get(DATA_WAIT, 0.0) / total, 4) if total else None,
        "devices": jax.device_count(),
        "device_kind": jax.devices()[0].device_kind,
    }
    units = program.effort()
    if units is None or each is None:
        return found
    return found | {units.rate: round(units.in_step / each["p50"], 3), **_flops(units.flops, each["p50"])}


def _flops(flops: float | None, step_seconds: float) -> dict[str, Any]:
    peak = peak_of(jax.devices()[0].device_kind)
    if flops is None:
        return {}
    found: dict[str, Any] = {"flops_per_step": flops, "flops_formula": FORMULA, "peak_flops_per_device": peak, "mfu": None}
    if peak is not None:
        found |= {"mfu": round(flops / (step_seconds * jax.device_count() * peak), 4), "mfu_formula": MFU_FORMULA}
    return found
