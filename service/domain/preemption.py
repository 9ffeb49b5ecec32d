"""Making room for jobs of higher priority, where the operator allows it.

Running jobs of lower priority, of the same project, are asked to save and are queued again; nothing is spent for it. The worker is
kept for the job that they made room for. An attempt that has just begun is left alone for a while: no two jobs chase each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Row

from service.context import Context
from service.db.queries import clock, preemption, reservations
from service.db.transaction import Read, Write
from service.domain import control
from service.domain.instants import microseconds
from service.domain.lifecycle import Change
from service.domain.status_reason import gone_before

MOST_LOOKED_AT = 20
Line = Row[*tuple[Any, ...]]


@dataclass(frozen=True)
class Plan:
    """A job, the worker where it is to run, and the jobs that make room for it there."""

    job_id: str
    worker_id: str
    victims: list[str]


def preempt_if_due(context: Context) -> None:
    """Make room for the jobs that may ask for it."""
    if context.settings.preemption == "off":
        return
    with Read(context.database) as read:
        now = clock.now(read.connection)
        plans = [plan for job in preemption.askers(read.connection, MOST_LOOKED_AT) if (plan := _plan(read, context, job, now))]
    for plan in plans[:1]:  # the next look, a second later, sees what this one has changed
        with Write(context.database) as write:
            _carry_out(Change(write, context), plan)


def _plan(read: Read, context: Context, job: Line, now: int) -> Plan | None:
    seen_since = gone_before(context, now)
    if reservations.of_job(read.connection, job.id, seen_since) is not None:
        return None
    workers = preemption.able(read.connection, job, seen_since)
    if any(_free(worker) >= job.devices for worker in workers):
        return None
    begun_before = now - microseconds(context.settings.preemption_cooldown_seconds)
    weaker = preemption.weaker(read.connection, job, begun_before)
    return _cheapest(job, workers, weaker)


def _free(worker: Line) -> int:
    return worker.device_count - worker.leased_devices if worker.leases < worker.slots else 0


def _cheapest(job: Line, workers: Iterable[Line], weaker: Sequence[Line]) -> Plan | None:
    """The plan that stops the fewest jobs."""
    on: dict[str, list[Line]] = defaultdict(list)
    for victim in weaker:
        on[victim.worker_id].append(victim)
    plans = [Plan(job.id, worker.id, chosen) for worker in workers if (chosen := _chosen(job, worker, on[worker.id]))]
    return min(plans, key=lambda plan: len(plan.victims), default=None)


def _chosen(job: Line, worker: Line, weaker: Sequence[Line]) -> list[str]:
    """Jobs of a worker, weakest and youngest first, until enough devices are free; empty if there are not enough."""
    free = worker.device_count - worker.leased_devices
    chosen: list[str] = []
    for victim in weaker:
        chosen.append(victim.job_id)
        free += victim.devices
        if free >= job.devices:
            return chosen
    return []


def _carry_out(change: Change, plan: Plan) -> None:
    asked = [control.preempt(change, victim, plan.job_id) for victim in plan.victims]
    if all(asked):
        reservations.make(change.connection, plan.worker_id, plan.job_id, change.now)
