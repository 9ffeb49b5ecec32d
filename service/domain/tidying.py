"""Retention by the operator's policy: bounded work, each piece in a transaction of its own, until nothing is left or time is up."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from service.context import Context
from service.db.queries import clock, contents, leftovers, metrics, outbox
from service.db.transaction import Read, Write
from service.domain import control, rollup
from service.domain.errors import DomainError
from service.domain.instants import microseconds
from service.domain.leftovers import collect_some
from service.domain.lifecycle import Change

AT_ONCE = 20
MOST_SECONDS = 10.0
"""Of a run: the rest follows in the next."""
DAY = 86_400.0
SECONDS_BEFORE_ROLLING = 3600.0


def retain(context: Context) -> None:
    """Let go of what the policy no longer keeps."""
    until = time.monotonic() + MOST_SECONDS
    for piece in (roll_up, thin_out, collect, forget_events, remove_jobs, remove_datasets, forget_deliveries):
        while piece(context) >= AT_ONCE and time.monotonic() < until:
            pass


def _before(change: Change, days: float) -> int:
    return change.now - microseconds(days * DAY)


def roll_up(context: Context) -> int:
    """Put the metrics of jobs that have ended together."""
    with Read(context.database) as read:
        before = clock.now(read.connection) - microseconds(SECONDS_BEFORE_ROLLING)
        found = metrics.unrolled(read.connection, before, AT_ONCE)
    for job_id in found:
        with Write(context.database) as write:
            rollup.roll_up(write.connection, job_id)
    return len(found)


def thin_out(context: Context) -> int:
    """Thin the metrics of jobs that ended long ago."""
    days, most = context.settings.thin_metrics_days, context.settings.thin_metrics_points
    if days == 0:
        return 0
    with Read(context.database) as read:
        found = metrics.unthinned(read.connection, clock.now(read.connection) - microseconds(days * DAY), AT_ONCE)
    thinned = 0
    for job_id in found:
        with Write(context.database) as write:
            thinned += rollup.thin_out(Change(write, context), job_id, most)
    context.telemetry.forgotten("metrics", thinned)
    return len(found)


def collect(context: Context) -> int:
    """Remove what attempts have left behind."""
    return collect_some(context, AT_ONCE)


def forget_events(context: Context) -> int:
    """Forget the events of jobs that ended long ago."""
    return _within(context, context.settings.keep_event_days, "events", _forget_events)


def _forget_events(change: Change, before: int) -> int:
    return leftovers.forget_events(change.connection, before, AT_ONCE)


def forget_deliveries(context: Context) -> int:
    """Forget old messages for webhooks."""
    return _within(context, context.settings.keep_delivery_days, "deliveries", _forget_deliveries)


def _forget_deliveries(change: Change, before: int) -> int:
    return outbox.forget_before(change.connection, before, 50 * AT_ONCE)


def remove_jobs(context: Context) -> int:
    """Delete jobs that ended long ago, with all they have left."""
    return _within(context, context.settings.keep_job_days, "jobs", _remove_jobs)


def _remove_jobs(change: Change, before: int) -> int:
    found = leftovers.ended_jobs(change.connection, before, AT_ONCE)
    return sum(_is_deleted(change, job.project, job.id) for job in found)


def _is_deleted(change: Change, project: str, job_id: str) -> bool:
    try:
        control.delete(change, project, job_id)
    except DomainError:  # a live job has come to start from it meanwhile, or it is gone
        return False
    return True


def remove_datasets(context: Context) -> int:
    """Delete datasets that no job names."""
    return _within(context, context.settings.keep_dataset_days, "datasets", _remove_datasets)


def _remove_datasets(change: Change, before: int) -> int:
    found = leftovers.unused_datasets(change.connection, before, AT_ONCE)
    for row in found:
        leftovers.remove_dataset(change.connection, row.id)
        change.write.after(partial(_drop_bytes, change.context, row.key))
    return len(found)


def _drop_bytes(context: Context, key: str) -> None:
    """Delete a dataset's bytes, unless another project has the same."""
    with Write(context.database) as write:
        if not contents.DATASETS.any_at(write.connection, key):
            context.store.delete(key)


def _within(context: Context, days: float, kind: str, remove: Callable[[Change, int], int]) -> int:
    if days == 0:
        return 0
    with Write(context.database) as write:
        change = Change(write, context)
        gone = remove(change, _before(change, days))
    context.telemetry.forgotten(kind, gone)
    return gone
