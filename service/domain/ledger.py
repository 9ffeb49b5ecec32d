"""Where an attempt's time went: what its worker told, less what was lost with it."""

from __future__ import annotations

from collections.abc import Mapping

LOST = "lost_after_restart"
STEPPING = frozenset({"training", "warmup", "sampling", "data_wait"})
"""Phases whose time goes into steps."""


def silent(told: Mapping[str, float] | None, wall: float) -> dict[str, float]:
    """Seconds by phase of an attempt whose worker fell silent: what it had told, and the rest of its time, which gave nothing.

    Args:
        told: by its last heartbeat.
        wall: seconds from its start to its end.
    """
    known = dict(told or {})
    return known | {LOST: max(0.0, wall - sum(known.values()))}


def without_lost(seconds: Mapping[str, float], steps: int, lost: int) -> dict[str, float]:
    """The same seconds with those of the steps that no checkpoint kept booked as lost; their sum stays what it is.

    Args:
        seconds: by phase.
        steps: done by the attempt.
        lost: those of them that the next attempt has to do again. Each is taken to have cost what a step cost on average.
    """
    share = min(1.0, lost / steps) if steps > 0 else 0.0
    moved = {phase: spent * share for phase, spent in seconds.items() if phase in STEPPING}
    gone = seconds.get(LOST, 0.0) + sum(moved.values())
    kept = {phase: round(spent - moved.get(phase, 0.0), 6) for phase, spent in seconds.items() if phase != LOST}
    return kept | ({LOST: round(gone, 6)} if gone > 0 else {})
