"""The life of a job: its statuses, its phases, and which change is legal.

The table below is the only place that says so. The service guards every write with it, the client reads `TERMINAL` from it, the
documentation draws it.
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Where a job stands. Closed: a new status is a new version of the API."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Phase(StrEnum):
    """What a job is doing just now. Open: readers must accept phases they do not know."""

    VALIDATING = "validating"
    WAITING_CAPACITY = "waiting_capacity"
    WAITING_GANG = "waiting_gang"
    BACKOFF = "backoff"
    ASSIGNED = "assigned"
    RESTORING = "restoring"
    COMPILING = "compiling"
    TRAINING = "training"
    WARMUP = "warmup"
    SAMPLING = "sampling"
    EVALUATING = "evaluating"
    CHECKPOINTING = "checkpointing"
    DIAGNOSING = "diagnosing"
    FINALIZING = "finalizing"
    PREEMPTED = "preempted"


STEPPING: frozenset[Phase] = frozenset({Phase.TRAINING, Phase.WARMUP, Phase.SAMPLING})
"""Phases in which steps are being done, one after another."""

TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.PAUSING, Status.CANCELLING, Status.FAILED}),
    Status.RUNNING: frozenset({Status.QUEUED, Status.SUCCEEDED, Status.FAILED, Status.PAUSING, Status.CANCELLING}),
    # A job that reaches its end, or fails, before the word to stop reaches it is paused or cancelled all the same: its last
    # checkpoint stands, and a paused one finishes at once when it is resumed.
    Status.PAUSING: frozenset({Status.PAUSED, Status.CANCELLING}),
    Status.PAUSED: frozenset({Status.QUEUED, Status.CANCELLING}),
    Status.CANCELLING: frozenset({Status.CANCELLED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}

TERMINAL: frozenset[Status] = frozenset(status for status, targets in TRANSITIONS.items() if not targets)
ACTIVE: frozenset[Status] = frozenset({Status.RUNNING, Status.PAUSING, Status.CANCELLING})
"""Statuses in which an attempt may hold a lease. A queued job may pass through PAUSING or CANCELLING without one."""


def may_become(current: Status, target: Status) -> bool:
    """Tell whether a job may go from `current` to `target` in one step."""
    return target in TRANSITIONS[current]
