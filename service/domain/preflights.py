"""Validations that a worker answers: asked, taken with a claim, answered, and taken from a worker that is silent.

A row stands for somebody who waits. It is given out as long as they can still be waiting, tried by a second worker if the first is
lost, and deleted by whoever asked once they know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection, Row

from jobs.errors import FAULT_OF_CODE, Issue
from jobs.ids import new_id
from jobs.preflight import Findings, refusal
from jobs.protocol import Claim, Failure, Level, Preflight, PreflightFinish, PreflightKept
from jobs.spec.job import Spec
from jobs.spec.resources import DEVICE
from service.context import Context
from service.db.queries import preflights as rows
from service.domain.assignment import assignment, mesh_axes_of, storage_of
from service.domain.callers import Caller
from service.domain.errors import NotFound, NoWorker, PreflightFailed, Superseded
from service.domain.instants import microseconds
from service.domain.lifecycle import Change
from service.signals import QUEUE

MOST_TRIES = 2
MOST_AT_ONCE = 20
SECONDS_KEPT = 3600.0
"""A row whose asker went without deleting it."""

LOST = Failure(code="worker_lost", message="The worker that looked at the spec was lost. Ask again.")


@dataclass(frozen=True)
class Answer:
    """What became of a validation: what was found, and what is wrong with the spec by it."""

    found: Findings | None
    issues: list[Issue]


def ask(change: Change, project: str, spec: Spec, level: Level) -> str:
    """Have a worker look at a spec; gives the id under which its answer will be found."""
    row: dict[str, Any] = {
        "id": new_id("pre"),
        "project": project,
        "level": level,
        "dataset_id": spec.dataset_id,
        "platform": spec.platform,
        "devices": spec.devices,
        "waiting_since": change.now,
        "created_at": change.now,
        "resolved_spec": spec.resolved,
    }
    rows.add(change.connection, row, _needs(spec, level))
    change.wake(QUEUE)
    return row["id"]


def _needs(spec: Spec, level: Level) -> Sequence[str]:
    """What a worker must offer. Shapes are the same on every worker that knows the names; the rest speaks of its devices."""
    return [need for need in spec.needs if level == "compile" or not need.startswith(("label:", DEVICE))]


def levels_of(request: Claim) -> list[Level]:
    """What validations a claim would take."""
    levels: tuple[Level, ...] = ("shapes", "compile")
    return [level for level in levels if level in request.takes]


def waits_for(connection: Connection, context: Context, worker: Row[Any], request: Claim, now: int) -> bool:
    """Whether a claim would be given a validation."""
    return rows.suits(connection, worker, _devices(worker, request), levels_of(request), _since(context, now))


def take(change: Change, worker: Row[Any], request: Claim) -> Preflight | None:
    """Give a worker the oldest validation that suits it."""
    if not levels_of(request):
        return None
    devices, lease_seconds = _devices(worker, request), change.context.settings.lease_seconds
    since = _since(change.context, change.now)
    row = rows.take(change.connection, worker, devices, levels_of(request), since, microseconds(lease_seconds))
    if row is None:
        return None
    axes = mesh_axes_of(row.resolved_spec, max(devices, row.devices))
    attempt = {"id": row.id, "number": row.fence, "fence": row.fence, "mesh_axes": axes}
    storage = storage_of(change.context, request.probe_token)
    given = assignment(change.context, change.connection, row, attempt, None, storage)
    return Preflight(
        preflight_id=row.id,
        seconds=change.context.settings.preflight_seconds,
        level=row.level,
        assignment=given.model_copy(update={"prefix": f"preflights/{row.id}"}),
    )


def _devices(worker: Row[Any], request: Claim) -> int:
    return min(request.devices, worker.device_count)


def _since(context: Context, now: int) -> int:
    return now - microseconds(context.settings.preflight_wait_seconds)


def require_own(connection: Connection, preflight_id: str, caller: Caller) -> None:
    """Refuse who would write for a validation that a worker of another key looks at; whoever administers all may.

    Raises:
        NotFound: no such validation of theirs.
    """
    if caller.bound_key is not None and rows.key_of(connection, preflight_id) != caller.bound_key:
        raise NotFound("There is no such validation.")


def renew(change: Change, preflight_id: str, fence: int) -> PreflightKept:
    """Give a try a new term.

    Raises:
        Superseded: nobody waits for this try any more.
    """
    seconds = change.context.settings.lease_seconds
    _held(change, preflight_id, fence, {"expires_at": change.now + microseconds(seconds)})
    return PreflightKept(lease_seconds=seconds)


def finish(change: Change, preflight_id: str, told: PreflightFinish) -> PreflightKept:
    """Take what a try came to.

    Raises:
        Superseded: nobody waits for this try any more.
    """
    row = _held(change, preflight_id, told.fence, {})
    error = told.error
    if error is not None and FAULT_OF_CODE.get(error.code) != "user":
        _try_again(change, row, error)
    else:
        _answer(change, row, told.model_dump(mode="json", include={"found", "error"}))
    return PreflightKept(lease_seconds=change.context.settings.lease_seconds)


def _held(change: Change, preflight_id: str, fence: int, values: dict[str, Any]) -> Row[Any]:
    row = rows.change(change.connection, preflight_id, fence, {"status": "taken", **values})
    if row is None:
        raise Superseded("Nobody waits for this any more.")
    return row


def release(change: Change, given: Preflight) -> None:
    """Take back what a claim was given, as its worker had hung up before it could hear of it."""
    row = rows.change(change.connection, given.preflight_id, given.assignment.fence, {"status": "waiting", "worker_id": None})
    if row is not None:
        change.wake(QUEUE)


def requeue_lost(change: Change) -> int:
    """Take validations from workers that are silent; gives how many."""
    lost = rows.expired(change.connection, MOST_AT_ONCE)
    for row in lost:
        _try_again(change, row, LOST)
    return len(lost)


def _try_again(change: Change, row: Row[Any], error: Failure) -> None:
    if row.fence >= MOST_TRIES:
        _answer(change, row, {"found": None, "error": error.model_dump(mode="json")})
        return
    again: dict[str, Any] = {"status": "waiting", "worker_id": None, "expires_at": None, "waiting_since": change.now}
    if rows.change(change.connection, row.id, row.fence, again) is not None:
        change.wake(QUEUE)


def _answer(change: Change, row: Row[Any], answer: dict[str, Any]) -> None:
    if rows.change(change.connection, row.id, row.fence, {"status": "done", "answer": answer}) is not None:
        change.wake(row.id)


def look(connection: Connection, preflight_id: str) -> Row[Any]:
    """Where a validation stands.

    Raises:
        NoWorker: its row is gone.
    """
    row = rows.get(connection, preflight_id)
    if row is None:
        raise NoWorker("The validation was given up. Ask again.")
    return row


def read_answer(row: Row[Any]) -> Answer:
    """What a validation that is done came to.

    Raises:
        PreflightFailed: no worker could tell.
    """
    error = Failure.model_validate(row.answer["error"]) if row.answer["error"] else None
    if error is not None:
        if FAULT_OF_CODE.get(error.code) != "user":
            raise PreflightFailed(error.message, error.code)
        return Answer(None, [Issue(error.param or "", error.code, error.message)])
    found = Findings.model_validate(row.answer["found"])
    return Answer(found, _issues(found))


def _issues(found: Findings) -> list[Issue]:
    """What of the findings makes a job that must fail."""
    told = refusal(found)
    return [] if told is None else [Issue(told[0], "would_oom", told[1])]
