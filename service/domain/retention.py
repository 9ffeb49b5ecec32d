"""Which checkpoints go. A pure choice first; then rows in the transaction, files after its commit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy.engine import Row

from service.context import Context
from service.db.queries import checkpoints, clock, events, jobs, uploads
from service.db.transaction import Write
from service.domain.instants import microseconds

MOST_AT_ONCE = 20


@dataclass(frozen=True)
class Kept:
    """A checkpoint as retention sees it; instants in microseconds.

    Attributes:
        expires_at: its owner's word: kept until then, whatever the policy says.
        lapses_at: the job's `ttl_seconds`: kept no longer than that.
    """

    step: int
    metrics: Mapping[str, float | None]
    pinned: bool
    expires_at: int | None
    lapses_at: int | None = None


def choose(kept: Sequence[Kept], policy: Mapping[str, Any], now: int, needed: set[int]) -> list[int]:
    """The steps to delete.

    A pin keeps a checkpoint for good and an expiry until then; after it the checkpoint goes, however few there are. One that has
    lapsed goes although the policy would keep it. The newest stays whatever is said: the job goes on from it.

    Args:
        kept: a job's checkpoints, ascending.
        policy: `checkpoint` of the resolved spec: `keep_latest` (None keeps all), `keep_best` and `keep_every`.
        now: the instant, in microseconds.
        needed: steps that other jobs start from.
    """
    wanted = {
        *_latest(kept, policy.get("keep_latest")),
        *_best(kept, policy.get("keep_best")),
        *(one.step for one in kept if is_permanent(one.step, policy)),
    }
    return [one.step for one in kept[:-1] if one.step not in needed and not one.pinned and _is_over(one, now, wanted)]


def _is_over(one: Kept, now: int, wanted: set[int]) -> bool:
    if one.expires_at is not None:
        return one.expires_at < now
    return one.step not in wanted or (one.lapses_at is not None and one.lapses_at < now)


def is_permanent(step: int, policy: Mapping[str, Any]) -> bool:
    """Whether `keep_every` keeps what is saved at a step."""
    every: int | None = policy.get("keep_every")
    return every is not None and step > 0 and step % every == 0


def lifetime(step: int, policy: Mapping[str, Any]) -> int | None:
    """Microseconds after which a checkpoint lapses; None if it never does."""
    seconds: float | None = policy.get("ttl_seconds")
    return None if seconds is None or is_permanent(step, policy) else microseconds(seconds)


def _latest(kept: Sequence[Kept], count: int | None) -> list[int]:
    steps = [one.step for one in kept]
    return steps if count is None else steps[max(0, len(steps) - count) :]


def _best(kept: Sequence[Kept], rule: Mapping[str, Any] | None) -> list[int]:
    if rule is None:
        return []
    return ranked({one.step: one.metrics for one in kept}, rule["metric"], rule["mode"])[: rule["count"]]


def ranked(metrics: Mapping[int, Mapping[str, float | None]], metric: str, mode: str) -> list[int]:
    """Steps by a metric, best first; of equals the later one first. Steps without a finite value are left out."""
    sign = -1.0 if mode == "max" else 1.0
    values = {step: value for step, found in metrics.items() if (value := found.get(metric)) is not None and math.isfinite(value)}
    return sorted(values, key=lambda step: (sign * values[step], -step))


def apply(write: Write, context: Context, job_id: str) -> list[int]:
    """Delete what a job's policy no longer keeps; gives the steps. The transaction must hold the job."""
    rows = checkpoints.all_of(write.connection, job_id)
    kept = [Kept(row.step, row.metrics, row.pinned, row.expires_at, row.lapses_at) for row in rows]
    policy = checkpoints.policy(write.connection, job_id)
    needed = checkpoints.read_by_live_jobs(write.connection, job_id)
    steps = choose(kept, policy, clock.now(write.connection), needed)
    for row in checkpoints.remove(write.connection, job_id, steps) if steps else ():
        dispose(write, context, row, "checkpoint.deleted")
    return steps


def dispose(write: Write, context: Context, row: Row[Any], event: str) -> None:
    """Tell that a checkpoint is gone, whose row has been deleted, and let its files go once that is committed."""
    events.append(write.connection, row.job_id, event, {"step": row.step})
    uploads.forget_below(write.connection, row.attempt_id, row.prefix)
    write.after(partial(context.store.delete, row.prefix))
    write.after(partial(context.signals.wake, row.job_id))


def sweep(write: Write, context: Context) -> int:
    """Delete checkpoints that have expired or lapsed, of a few jobs at a time; gives how many."""
    deleted = 0
    for job_id in checkpoints.jobs_with_expired(write.connection, MOST_AT_ONCE):
        if jobs.lock(write.connection, None, job_id) is not None:
            deleted += len(apply(write, context, job_id))
    return deleted
