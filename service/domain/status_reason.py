"""Why a queued job has not started: one code, by fixed precedence, with a message and something to do about it.

`NoMatchingWorker > ExceedsQuota > WaitingForQuota > WaitingForCapacity > Backoff`; what the contract's longer list has in between
belongs to gangs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy.engine import Connection, Row

from service.context import Context
from service.db.queries import clock, jobs, reservations, workers
from service.domain import fairness, room
from service.domain.fairness import Budget
from service.domain.instants import Instant, microseconds, wire

LEASES_UNTIL_GONE = 3
"""A worker not heard of for this many lease terms is gone."""
GIBIBYTE = 1024**3


class StatusReason(BaseModel):
    """Why a queued job waits. `since`: when it began to."""

    code: Literal["NoMatchingWorker", "ExceedsQuota", "WaitingForQuota", "WaitingForCapacity", "Backoff"]
    message: str
    hint: str | None
    since: Instant


@dataclass(frozen=True)
class Worker:
    """What matters of a worker that is there and takes work.

    Attributes:
        platform, devices, memory_bytes: what it has.
        free_devices: what of it no attempt holds.
        offers: those of its offers that the jobs at hand need.
        kept_for: the job that it is kept for, if any.
    """

    platform: str
    devices: int
    memory_bytes: int
    free_devices: int
    offers: frozenset[str]
    kept_for: str | None = None


@dataclass(frozen=True)
class Wants:
    """What a queued job wants of a worker, and since when it waits. `available_at`: a later instant than now during a backoff."""

    platform: str
    devices: int
    memory_bytes: int
    needs: frozenset[str]
    queued_at: int
    available_at: int
    job_id: str = ""


@dataclass(frozen=True)
class Limits:
    """What the job's project may take still, how many devices it may hold at all, and whether there is no room for any job."""

    budget: Budget = field(default_factory=Budget)
    max_devices: int | None = None
    full: bool = False


NO_LIMITS = Limits()


def gone_before(context: Context, now: int) -> int:
    """A worker last heard of before this instant is gone."""
    return now - microseconds(LEASES_UNTIL_GONE * context.settings.lease_seconds)


def reasons_for(connection: Connection, context: Context, project: str, rows: Sequence[Row[Any]]) -> dict[str, StatusReason]:
    """The reason of each of these queued jobs, by job id."""
    if not rows:
        return {}
    now = clock.now(connection)
    needs = jobs.needs_of(connection, [row.id for row in rows])
    there = _workers(connection, project, gone_before(context, now), set[str]().union(*needs.values()))
    share = fairness.shares_of(connection, [project])[0]
    budget = fairness.budget(connection, share, now)
    limits = Limits(budget, share.row.max_devices if share.row is not None else None, room.is_low(context))
    return {row.id: reason_for(wants_of(row, needs[row.id]), there, now, limits) for row in rows}


def _workers(connection: Connection, project: str, seen_since: int, needs: Iterable[str]) -> list[Worker]:
    offers = workers.offers_among(connection, needs)
    kept = reservations.all_of(connection)
    rows = workers.taking_work(connection, project, seen_since)
    return [worker_of(row, frozenset(offers.get(row.id, ())), kept.get(row.id)) for row in rows]


def worker_of(row: Row[Any], offers: frozenset[str], kept_for: str | None = None) -> Worker:
    """What matters of a worker's row, of `workers.taking_work`."""
    return Worker(row.platform, row.device_count, row.memory_bytes, free_of(row), offers, kept_for)


def free_of(row: Row[Any]) -> int:
    """How many devices of a worker (a row of `workers.taking_work`) no attempt holds."""
    return row.device_count - row.leased_devices if row.leases < row.slots else 0


def wants_of(row: Row[Any], needs: set[str]) -> Wants:
    """What a queued job wants."""
    return Wants(row.platform, row.devices, row.memory_bytes, frozenset(needs), row.queued_at, row.available_at, row.id)


def reason_for(wants: Wants, workers: Sequence[Worker], now: int, limits: Limits = NO_LIMITS) -> StatusReason:
    """The reason of one queued job."""
    since = wire(wants.queued_at)
    suited = [worker for worker in workers if _suits(worker, wants)]
    if not suited:
        message, hint = _nobody(wants, workers)
        return StatusReason(code="NoMatchingWorker", message=message, hint=hint, since=since)
    held_back = _by_limits(wants, limits)
    if held_back is not None:
        return held_back
    if all(worker.free_devices < wants.devices or worker.kept_for not in (None, wants.job_id) for worker in suited):
        if any(worker.kept_for == wants.job_id for worker in suited):
            message = f"A worker is kept for this job until {wants.devices} of its devices are free."
            return StatusReason(code="WaitingForCapacity", message=message, hint="Then it starts.", since=since)
        message = f"{len(suited)} worker(s) can run this job; none has {wants.devices} free device(s) now."
        return StatusReason(code="WaitingForCapacity", message=message, hint="It starts when one is free.", since=since)
    if wants.available_at > now:
        message = f"The last attempt failed; the next may start at {wire(wants.available_at)}."
        return StatusReason(code="Backoff", message=message, hint="See the job's attempts for the cause.", since=since)
    return StatusReason(code="WaitingForCapacity", message="A worker is free and about to claim.", hint=None, since=since)


def _by_limits(wants: Wants, limits: Limits) -> StatusReason | None:
    """The reason of a job that its project's quotas hold back, or the room that is left for what jobs write."""
    since, budget = wire(wants.queued_at), limits.budget
    if limits.max_devices is not None and wants.devices > limits.max_devices:
        message = f"The job needs {wants.devices} devices; the project may hold {limits.max_devices}."
        return StatusReason(
            code="ExceedsQuota", message=message, hint="Make the mesh smaller, or have the quota raised.", since=since
        )
    if budget.spent is not None:
        return StatusReason(code="WaitingForQuota", message=budget.spent, hint=budget.hint, since=since)
    if budget.within(wants.devices) < wants.devices:
        message = f"The job needs {wants.devices} devices; the project may take {budget.devices} more now."
        return StatusReason(code="WaitingForQuota", message=message, hint=fairness.ENDS, since=since)
    if limits.full:
        message, hint = "There is too little room left where artifacts lie, and no job begins.", "Delete jobs or datasets."
        return StatusReason(code="WaitingForCapacity", message=message, hint=hint, since=since)
    return None


def _suits(worker: Worker, wants: Wants) -> bool:
    large_enough = worker.devices >= wants.devices and worker.memory_bytes >= wants.memory_bytes
    return large_enough and wants.platform in ("any", worker.platform) and wants.needs <= worker.offers


def lacks(worker: Worker, wants: Wants) -> list[str]:
    """What a job wants and a worker has not, each in a few words."""
    missing = [] if wants.platform in ("any", worker.platform) else [f"platform {wants.platform}"]
    if worker.devices < wants.devices:
        missing.append(f"{wants.devices} devices")
    if worker.memory_bytes < wants.memory_bytes:
        missing.append(f"{wants.memory_bytes / GIBIBYTE:.1f} GiB of memory")
    return [*missing, *sorted(wants.needs - worker.offers)]


def _nobody(wants: Wants, workers: Sequence[Worker]) -> tuple[str, str]:
    """Message and hint for a job that no worker can run: the first want, from the plainest on, that nobody meets."""
    if not workers:
        return "No worker is connected.", "Start one with: meshyard work"
    on_platform = [worker for worker in workers if wants.platform in ("any", worker.platform)]
    if not on_platform:
        there = ", ".join(sorted({worker.platform for worker in workers}))
        return f"No connected worker has the platform {wants.platform}.", f"Connected: {there}."
    most = max(worker.devices for worker in on_platform)
    if most < wants.devices:
        return f"The job needs {wants.devices} devices; the largest worker has {most}.", "Make the mesh smaller or add devices."
    memory = max(worker.memory_bytes for worker in on_platform)
    if memory < wants.memory_bytes:
        sizes = f"{wants.memory_bytes / GIBIBYTE:.1f} GiB; the largest worker has {memory / GIBIBYTE:.1f} GiB"
        return f"The job needs {sizes}.", "Lower resources.memory_gib or add a larger worker."
    return _unmet(wants, on_platform)


def _unmet(wants: Wants, workers: Sequence[Worker]) -> tuple[str, str]:
    closest = min((wants.needs - worker.offers for worker in workers), key=len)
    missing = sorted(wants.needs - frozenset().union(*(worker.offers for worker in workers)))
    if missing:
        own = any(need.endswith("/import") for need in missing)
        hint = (
            "Start a worker that runs code of users: MESHYARD_CODE=on." if own else "Start a worker that does, or change the spec."
        )
        return f"No connected worker offers {', '.join(missing)}.", hint
    unmet = ", ".join(sorted(closest)) or "all of it at once"
    return "No single worker offers all that the job needs.", f"The closest one lacks {unmet}."
