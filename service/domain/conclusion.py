"""The end of an attempt, and what becomes of the job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.engine import Row

from jobs.protocol import Failure, Finish, Finished
from jobs.states import Status
from service.db.queries import attempts, jobs
from service.domain import artifacts, checkpoints
from service.domain.access import usage
from service.domain.attempts import refusal
from service.domain.endings import LOST, STALLED, UNKEPT, End, Spent, Verdict, decide
from service.domain.instants import MICROSECONDS, microseconds, wire
from service.domain.ledger import silent, without_lost
from service.domain.lifecycle import Change, move


@dataclass(frozen=True)
class Told:
    """What is known of how an attempt ended; `seconds` by phase and `result` only where its worker said so."""

    ending: Literal["succeeded", "failed", "paused", "cancelled", "released", "lost"]
    step: int
    cause: Failure | None = None
    seconds: dict[str, float] | None = None
    result: dict[str, Any] | None = None


def finish(change: Change, attempt_id: str, outcome: Finish) -> Finished:
    """Take the end of an attempt. The same end told again gets the same answer.

    Raises:
        NotFound: no such attempt.
        Superseded: the fence is stale, or the attempt has ended in another way.
    """
    job = attempts.hold(change.connection, attempt_id, outcome.fence)
    attempt = attempts.get(change.connection, attempt_id)
    if job is None or attempt is None:
        return _told_before(change, attempt, outcome)
    if outcome.artifacts:
        artifacts.keep(change.write, change.context, job, attempt, outcome.artifacts, attempt.storage == "file")
    if outcome.corrupt_step is not None:
        _condemn(change, job, outcome.corrupt_step)
    told = Told(outcome.ending, outcome.step, outcome.error, outcome.seconds, outcome.result)
    return Finished(status=end(change, job, attempt, told).status)


def _told_before(change: Change, attempt: Row[Any] | None, outcome: Finish) -> Finished:
    if attempt is None or (attempt.fence, attempt.ending) != (outcome.fence, outcome.ending):
        raise refusal(attempt)
    return Finished(status=jobs.status_of(change.connection, attempt.job_id) or outcome.ending)


def lose(change: Change, job: Row[Any], attempt: Row[Any], worker_id: str) -> Row[Any]:
    """End an attempt whose lease has run out."""
    change.tell(job.id, "worker.lost", {"worker_id": worker_id, "attempt_id": attempt.id})
    return end(change, job, attempt, Told("lost", attempt.step, LOST))


def take_back(change: Change, job: Row[Any], attempt: Row[Any]) -> Row[Any]:
    """End an attempt that beats and does not move. Its worker learns of it by its next beat."""
    return end(change, job, attempt, Told("lost", attempt.step, STALLED))


def end(change: Change, job: Row[Any], attempt: Row[Any], told: Told) -> Row[Any]:
    """End an attempt that holds its job, and take the job where that leads; gives the job's row after it."""
    usage.note_attempt(change, job.project, attempt)
    again = _same_as_before(change, attempt, told)
    kept = _close(change, attempt, told)
    ending = End(told.ending, told.step, told.cause, attempt.id, again, kept)
    verdict = decide(Status(job.status), job.command, _spent(change, job), ending)
    elapsed = (change.now - attempt.started_at) / MICROSECONDS
    values: dict[str, Any] = {
        "step": told.step,
        "running_seconds": job.running_seconds + elapsed,
        "failures": verdict.failures,
        "infra_retries": verdict.infra_retries,
    }
    return _follow(change, job, told, verdict, values)


def _follow(change: Change, job: Row[Any], told: Told, verdict: Verdict, values: dict[str, Any]) -> Row[Any]:
    if verdict.status == Status.QUEUED:
        available_at = change.now + microseconds(verdict.wait_seconds)
        reason = told.cause.code if told.cause is not None else "preempted" if job.command == "preempt" else told.ending
        data = {"reason": reason, "available_at": wire(available_at)}
        phase = verdict.phase.value if verdict.phase is not None else None
        return move(change, job, Status.QUEUED, data, "job.requeued", available_at=available_at, phase=phase, **values)
    if verdict.status == Status.FAILED:
        return move(change, job, Status.FAILED, {"error": verdict.error}, error=verdict.error, **values)
    if verdict.status == Status.SUCCEEDED:
        return move(change, job, Status.SUCCEEDED, {"step": told.step}, result=told.result, **values)
    return move(change, job, verdict.status, {"step": told.step}, **values)


def _close(change: Change, attempt: Row[Any], told: Told) -> bool:
    """Close the attempt's row and give back its lease; tells whether it kept a checkpoint beyond the one it started from."""
    kept = checkpoints.latest(change.connection, attempt.job_id)
    safe = max(kept.step if kept is not None else 0, attempt.resumed_from or 0)
    cause = told.cause.model_dump() if told.cause is not None else None
    lost = 0 if told.ending == "succeeded" else max(0, told.step - safe)
    values = {"ended_at": change.now, "ending": told.ending, "cause": cause, "step": told.step, "steps_lost": lost, "phase": None}
    wall = (change.now - attempt.started_at) / MICROSECONDS
    seconds = silent(attempt.seconds, wall) if told.ending == "lost" else told.seconds or {}
    spent = without_lost(seconds, told.step - (attempt.resumed_from or 0), lost)
    attempts.change(change.connection, attempt.id, values | {"seconds": spent or None})
    attempts.release(change.connection, attempt.id)
    data = {"attempt_id": attempt.id, "number": attempt.number, "ending": told.ending, "step": told.step, "steps_lost": lost}
    change.tell(attempt.job_id, "attempt.ended", data | {"cause": cause})
    return safe > (attempt.resumed_from or 0)


def _same_as_before(change: Change, attempt: Row[Any], told: Told) -> bool:
    before = attempts.numbered(change.connection, attempt.job_id, attempt.number - 1)
    if before is None or before.cause is None or told.cause is None:
        return False
    return before.cause["code"] == told.cause.code and (before.step == told.step or told.cause.code == UNKEPT)


def _spent(change: Change, job: Row[Any]) -> Spent:
    budgets = jobs.retries_of(change.connection, job.id)
    return Spent(job.failures, job.infra_retries, budgets["max_failures"], budgets["max_infra_retries"])


def _condemn(change: Change, job: Row[Any], step: int) -> None:
    """Take back the checkpoint that the attempt could not start from: the job's own, else the one it was given."""
    own = checkpoints.forget_corrupt(change.write, change.context, job.id, step)
    if not own and job.init_from_job is not None and job.init_from_step == step:
        checkpoints.forget_corrupt(change.write, change.context, job.init_from_job, step)
