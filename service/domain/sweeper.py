"""What has to be done without anybody asking: ending attempts whose worker is silent, and forgetting what is over."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy.engine import Row

from jobs.protocol import STALL_PATIENCE
from jobs.states import STEPPING
from service.context import Context
from service.db.queries import attempts, audit, idempotency, workers
from service.db.queries import preflights as preflight_rows
from service.db.transaction import Read, Write
from service.domain import preflights, retention
from service.domain.conclusion import lose, take_back
from service.domain.instants import microseconds
from service.domain.lifecycle import Change
from service.domain.preemption import preempt_if_due

MOST_AT_ONCE = 20
"""Bounded, so that a claim is never held up by a mass of losses; the rest follows a second later."""
AGENTS_TURNS = 2.0
"""An agent takes a job back from a child that stands still, and has its stacks written; only one that doesn't is not waited for."""
AUDIT_AT_ONCE = 1000
SECONDS_WORKERS_ARE_SHOWN = 24 * 3600.0
SECONDS_UPLOADS_MAY_REST = 24 * 3600.0
"""An upload that nobody has added to for so long was given up."""


def sweep(change: Change) -> int:
    """End every attempt whose lease has run out; gives how many. Part of every claim, too."""
    swept = 0
    for lease in attempts.expired(change.connection, MOST_AT_ONCE):
        job = attempts.hold_expired(change.connection, lease.job_id, lease.attempt_id)
        attempt = attempts.get(change.connection, lease.attempt_id)
        if job is not None and attempt is not None:
            lose(change, job, attempt, lease.worker_id)
            swept += 1
    if swept:
        change.write.after(partial(change.context.telemetry.lost, swept))
    return swept


def _standing_still(read: Read, context: Context) -> Sequence[Row[*tuple[Any, ...]]]:
    """Attempts that have stood still for much longer than their own agents should have let them."""
    settings = context.settings
    seconds = AGENTS_TURNS * settings.stall_seconds + settings.lease_seconds
    limits = (microseconds(seconds), microseconds(STALL_PATIENCE * seconds))
    return attempts.standing_still(read.connection, [phase.value for phase in STEPPING], *limits, MOST_AT_ONCE)


def _take_back(context: Context, attempt_id: str, fence: int) -> None:
    with Write(context.database) as write:
        change = Change(write, context)
        job = attempts.hold(change.connection, attempt_id, fence)
        attempt = attempts.get(change.connection, attempt_id)
        if job is not None and attempt is not None:
            take_back(change, job, attempt)


def sweep_if_due(context: Context) -> None:
    """The same, by the service's own clock; begins no write where there is nothing to do."""
    with Read(context.database) as read:
        due = bool(attempts.expired(read.connection, 1))
        lost = bool(preflight_rows.expired(read.connection, 1))
        still = _standing_still(read, context)
    if due:
        with Write(context.database) as write:
            sweep(Change(write, context))
    if lost:
        with Write(context.database) as write:
            preflights.requeue_lost(Change(write, context))
    for attempt in still:
        _take_back(context, attempt.id, attempt.fence)
    preempt_if_due(context)


def spare(context: Context) -> None:
    """Give every lease a new term: no beat could arrive while the service was down, so silence until now proves nothing."""
    with Write(context.database) as write:
        attempts.extend_all(write.connection, microseconds(context.settings.lease_seconds))


def tidy(context: Context) -> None:
    """Forget old answers, workers long gone and uploads given up, and let checkpoints go that were kept until now."""
    with Write(context.database) as write:
        change = Change(write, context)
        idempotency.forget_before(write.connection, change.now - microseconds(context.settings.idempotency_hours * 3600))
        workers.forget_before(write.connection, change.now - microseconds(SECONDS_WORKERS_ARE_SHOWN))
        preflight_rows.forget_before(write.connection, change.now - microseconds(preflights.SECONDS_KEPT))
        audit.forget_before(write.connection, change.now - microseconds(context.settings.audit_days * 86_400), AUDIT_AT_ONCE)
        retention.sweep(write, context)
    context.store.prune(SECONDS_UPLOADS_MAY_REST)
