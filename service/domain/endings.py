"""What becomes of a job when an attempt at it ends: the retry policy, as a function of plain values."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal

from jobs.errors import FAULT_OF_CODE, NEVER_RETRIED, Fault
from jobs.protocol import Failure
from jobs.states import Phase, Status

LONGEST_BACKOFF_SECONDS = 60.0
DEADLINE = "deadline"
"""The command of a job whose time is up: its attempt hears `cancel`, and the job fails."""

AT_ONCE = frozenset({"worker_lost", "checkpoint_corrupt", "preempted"})
"""Codes that say nothing about the next try: it need not wait."""
REPEATABLE = frozenset({"child_killed", "internal"})
"""Codes that twice in a row at one step are no accident."""
UNKEPT = "checkpoint_failed"
"""A code that twice in a row is no accident at any step, where nothing was kept in between: what is not kept is lost."""

UNEXPLAINED = Failure(code="internal", message="The attempt failed and gave no reason; its log may.")
LOST = Failure(code="worker_lost", message="The worker stopped sending heartbeats and its lease ran out.")
STALLED = Failure(code="stalled", message="The worker's heartbeats went on, but neither step nor phase changed any more.")
LATE = Failure(code="deadline_exceeded", message="The job ran longer than its timeout_seconds.", param="/timeout_seconds")


@dataclass(frozen=True)
class Spent:
    """How often a job has been tried again, and how often it may be."""

    failures: int
    infra_retries: int
    max_failures: int
    max_infra_retries: int


@dataclass(frozen=True)
class End:
    """How an attempt ended.

    Attributes:
        ending: as the worker told it, or `lost` when its lease ran out.
        step: the last step it told of.
        cause: what went wrong, if anything did.
        attempt_id: the attempt.
        again: the attempt before this one ended with the same code, and at the same step where that matters.
        kept: it kept a checkpoint further on than the one it started from.
    """

    ending: Literal["succeeded", "failed", "paused", "cancelled", "released", "lost"]
    step: int
    cause: Failure | None
    attempt_id: str
    again: bool = False
    kept: bool = False


@dataclass(frozen=True)
class Verdict:
    """What becomes of the job.

    Attributes:
        status: where it goes.
        phase: its phase there.
        error: what its `error` shows, where it fails.
        wait_seconds: how long it stays away from workers, where it is queued.
        failures, infra_retries: what it has spent then.
    """

    status: Status
    failures: int
    infra_retries: int
    phase: Phase | None = None
    error: dict[str, Any] | None = None
    wait_seconds: float = 0.0


def decide(status: Status, command: str | None, spent: Spent, end: End) -> Verdict:
    """Tell what becomes of a job.

    Args:
        status: where it stands: running, pausing or cancelling.
        command: what its attempt had last been asked.
        spent: its retry budgets.
        end: how the attempt ended.
    """
    if status in (Status.PAUSING, Status.CANCELLING):
        target = Status.PAUSED if status == Status.PAUSING else Status.CANCELLED
        return Verdict(target, spent.failures, spent.infra_retries)
    if end.ending == "succeeded":
        return Verdict(Status.SUCCEEDED, spent.failures, spent.infra_retries)
    if command == DEADLINE:
        return _failed(spent, end, LATE)
    if end.ending in ("failed", "lost"):
        return _after_failure(spent, end, end.cause or (LOST if end.ending == "lost" else UNEXPLAINED))
    # Handed back, or stopped by its worker without having been asked: nothing went wrong, so it costs nothing.
    return Verdict(Status.QUEUED, spent.failures, spent.infra_retries, Phase.PREEMPTED)


def _after_failure(spent: Spent, end: End, cause: Failure) -> Verdict:
    fault = fault_of(cause.code)
    if cause.code in NEVER_RETRIED:
        return _failed(spent, end, cause)
    if end.again and cause.code == UNKEPT and not end.kept:
        return _failed(spent, end, _repeated(cause, "The attempt before could not keep its state either"))
    if end.again and cause.code in REPEATABLE and not end.kept:
        return _failed(spent, end, _repeated(cause), "user" if cause.code == "child_killed" else fault)
    if fault == "user":
        return _retry_or_fail(spent, end, cause, failures=spent.failures + 1, infra_retries=spent.infra_retries)
    return _retry_or_fail(spent, end, cause, failures=spent.failures, infra_retries=spent.infra_retries + 1)


def _retry_or_fail(spent: Spent, end: End, cause: Failure, *, failures: int, infra_retries: int) -> Verdict:
    if failures > spent.max_failures or infra_retries > spent.max_infra_retries:
        return _failed(spent, end, cause)
    # A job that comes further with every try loses nothing by trying at once, however often it is killed.
    at_once = end.kept and cause.code == "child_killed"
    tries = failures if failures > spent.failures else infra_retries
    wait = 0.0 if at_once else _wait_seconds(cause.code, tries)
    return Verdict(Status.QUEUED, failures, infra_retries, Phase.BACKOFF if wait else Phase.WAITING_CAPACITY, None, wait)


def _wait_seconds(code: str, tries: int) -> float:
    """Exponential from one second to a minute, with jitter; a child killed for the first time is tried again at once."""
    doublings = tries - 2 if code == "child_killed" else tries - 1
    if code in AT_ONCE or doublings < 0:
        return 0.0
    return min(LONGEST_BACKOFF_SECONDS, 2.0 ** min(doublings, 16)) * random.uniform(0.5, 1.0)  # noqa: S311  (not a secret)


def _repeated(cause: Failure, how: str = "The same happened at the same step in the attempt before") -> Failure:
    message = f"{cause.message} {how}, so it is not tried again."
    return Failure(code=cause.code, message=message, param=cause.param)


def _failed(spent: Spent, end: End, cause: Failure, fault: Fault | None = None) -> Verdict:
    error = error_of(cause, end.attempt_id, fault)
    return Verdict(Status.FAILED, spent.failures, spent.infra_retries, error=error)


def error_of(cause: Failure, attempt_id: str | None, fault: Fault | None = None) -> dict[str, Any]:
    """What a failed job's `error` shows.

    Args:
        cause: code, message and the spec's field to blame.
        attempt_id: the attempt it came of.
        fault: whose fault it is, where that is not the code's own.
    """
    blamed = fault or fault_of(cause.code)
    retryable = blamed != "user" and cause.code not in NEVER_RETRIED
    return {**cause.model_dump(), "retryable": retryable, "fault": blamed, "attempt_id": attempt_id}


def fault_of(code: str) -> Fault:
    """Whose fault a code is; one that we do not know is taken for a defect of ours."""
    return FAULT_OF_CODE.get(code, "service")
