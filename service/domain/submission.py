"""From a document to a queued job: submit, validate, retry, clone, extend."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from sqlalchemy.engine import Connection, Row

from jobs.errors import Issue, SpecInvalid
from jobs.ids import new_id
from jobs.spec import extension
from jobs.spec.data import FindDataset, is_uri
from jobs.spec.dataset import DatasetFacts
from jobs.spec.extension import Extension
from jobs.spec.imports import bundles_of
from jobs.spec.job import Spec, read_spec
from jobs.spec.origin import CheckpointFacts, FindCheckpoint, start_of
from jobs.spec.resolve import total_of
from jobs.states import TERMINAL, Phase, Status
from service.context import Context
from service.db.queries import checkpoints, jobs, shares
from service.domain import code, datasets, fairness, idempotency, tables, uris
from service.domain.access import usage
from service.domain.checkpoints import best_step, holds_draws, parameter_paths
from service.domain.errors import Conflict, IllegalTransition, Invalid, QuotaExceeded
from service.domain.idempotency import Answer, Ticket
from service.domain.job_object import describe_one
from service.domain.lifecycle import Change, locked
from service.signals import QUEUE

LONGEST_NEED = 400
QUEUE_SECONDS = 30.0
"""When a project whose queue is full may ask again."""


def submit(change: Change, project: str, document: dict[str, Any], ticket: Ticket) -> Answer:
    """Queue the job that a document describes.

    The document is checked before the write transaction begins: a large one must not hold up heartbeats.

    Raises:
        SpecInvalid: it describes no job that can be accepted.
        KeyReused: the ticket's key belongs to another request.
    """
    with change.context.database.read() as connection:
        answer = idempotency.look(connection, ticket)
        if answer is not None:
            return answer
        spec = read(connection, change.context, project, document, keep=True)
    answer = idempotency.take(change.connection, ticket)
    if answer is not None:
        return answer
    _hold_source(change, project, spec.resolved)
    job = _queue(change, _row(change, project, spec), spec.needs, spec.warnings)
    return _answer(change, ticket, job)


def read(connection: Connection, context: Context, project: str, document: dict[str, Any], *, keep: bool = False) -> Spec:
    """Check a document against what the project has. `keep`: make a dataset of a file that it names by `data.uri`.

    Raises:
        SpecInvalid: with everything that is wrong with it.
    """
    spec = read_spec(
        document,
        _dataset_finder(connection, context, project, keep=keep),
        _checkpoint_finder(connection, project),
        partial(code.facts, connection, project),
        tables.finder(connection, context, project),
    )
    if context.settings.code == "off" and bundles_of(spec.resolved):
        raise SpecInvalid([Issue("/model", "code_disabled", "This service takes no user code: MESHYARD_CODE=on turns it on.")])
    if any(len(need) > LONGEST_NEED for need in spec.needs):
        raise SpecInvalid([Issue("/resources/labels", "out_of_range", "A label is too long; shorten its key or its value.")])
    return spec


def _dataset_finder(connection: Connection, context: Context, project: str, *, keep: bool) -> FindDataset:
    def find(reference: str) -> DatasetFacts | None:
        if is_uri(reference):
            return uris.facts(context, project, reference, keep=keep)
        return datasets.facts(connection, project, reference)

    return find


def _checkpoint_finder(connection: Connection, project: str) -> FindCheckpoint:
    def find(job_id: str, step: int | Literal["best"] | None) -> CheckpointFacts | None:
        job = jobs.get(connection, project, job_id)
        if job is None:
            return None
        at = best_step(connection, job_id) if step == "best" else step
        if step == "best" and at is None:
            return None
        row = checkpoints.newest(connection, job_id) if at is None else checkpoints.get(connection, job_id, at)
        return None if row is None else CheckpointFacts(job_id, row.step, job.resolved_spec, parameter_paths(row), holds_draws(row))

    return find


def _hold_source(change: Change, project: str, resolved: Mapping[str, Any]) -> None:
    """Make sure that the checkpoint to start from is there and stays: its job's row is held until this one's is in."""
    source = start_of(resolved)
    if source is None:
        return
    held = jobs.lock(change.connection, project, source["job"])
    if held is None or checkpoints.get(change.connection, source["job"], source["step"]) is None:
        raise Conflict("The checkpoint that this job would start from is gone.")


def _row(change: Change, project: str, spec: Spec) -> dict[str, Any]:
    return {
        "project": project,
        "kind": spec.kind,
        "name": spec.name,
        "metadata": spec.metadata,
        "priority": spec.priority,
        "spec": spec.document,
        "resolved_spec": spec.resolved,
        "spec_version": spec.resolved["spec_version"],
        "dataset_id": spec.dataset_id,
        "platform": spec.platform,
        "devices": spec.devices,
        "devices_open": spec.devices_open,
        "memory_bytes": spec.memory_bytes or 0,
        "timeout_seconds": spec.resolved["timeout_seconds"],
        "total": spec.total,
        "unit": spec.unit,
    }


COPIED = (
    *("project", "kind", "name", "metadata", "priority", "spec", "resolved_spec", "spec_version", "dataset_id"),
    *("platform", "devices", "devices_open", "memory_bytes", "timeout_seconds", "total", "unit"),
)
"""Columns that a job hands on to one made from it."""


def _queue(change: Change, row: dict[str, Any], needs: list[str], warnings: list[dict[str, Any]] | None = None) -> Row[Any]:
    source: dict[str, Any] = start_of(row["resolved_spec"]) or {}
    whole: dict[str, Any] = {
        **row,
        "id": new_id("job"),
        "status": Status.QUEUED.value,
        "phase": Phase.WAITING_CAPACITY.value,
        "init_from_job": source.get("job"),
        "init_from_step": source.get("step"),
        "queued_at": change.now,
        "available_at": change.now,
        "created_at": change.now,
        "turn": fairness.turn(change.context, change.now, row["priority"]),
        "traceparent": change.write.traceparent,
    }
    _mind_quota(change, row["project"])
    jobs.add(change.connection, whole, needs, row["metadata"])
    usage.note_submitted(change, row["project"])
    change.write.note(id=whole["id"])
    change.context.tracing.note(job_id=whole["id"])
    change.tell(whole["id"], "job.queued", {"warnings": warnings} if warnings else {})
    change.wake(QUEUE)
    return locked(change, row["project"], whole["id"])


def _mind_quota(change: Change, project: str) -> None:
    """Make sure that the project may queue one more job.

    Raises:
        QuotaExceeded: it may not.
    """
    row = shares.of(change.connection, [project]).get(project)
    if row is None or row.max_queued_jobs is None:
        return
    shares.lock(change.connection, project)
    if shares.queued(change.connection, project, row.max_queued_jobs + 1) >= row.max_queued_jobs:
        message = f"The project may have {row.max_queued_jobs} jobs in the queue and has: wait until some have started."
        raise QuotaExceeded(message, QUEUE_SECONDS)


def _answer(change: Change, ticket: Ticket, job: Row[Any]) -> Answer:
    body = describe_one(change.connection, change.context, job).model_dump(mode="json")
    return idempotency.keep(change.connection, ticket, Answer(201, body))


def retry(change: Change, project: str, job_id: str, ticket: Ticket) -> Answer:
    """Make a new job that does what an ended one should have done, from its last checkpoint on if it kept one.

    A job that succeeded has nothing left to do from there: it is run again from its own start.

    Raises:
        NotFound: no such job.
        IllegalTransition: it has not ended.
        Conflict: the checkpoint to start from is gone.
        KeyReused: the ticket's key belongs to another request.
    """
    answer = idempotency.take(change.connection, ticket)
    if answer is not None:
        return answer
    job = locked(change, project, job_id)
    if Status(job.status) not in TERMINAL:
        raise IllegalTransition(f"Only a job that has ended can be retried; this one is {job.status}.", job.status)
    kept = checkpoints.newest(change.connection, job_id) if job.status != Status.SUCCEEDED else None
    return _answer(change, ticket, _again(change, job, "retry", {} if kept is None else {"init_from": _whole(kept)}))


def _whole(kept: Row[Any]) -> dict[str, Any]:
    """A start from everything in a checkpoint."""
    exclude: list[str] = []
    return {"job": kept.job_id, "step": kept.step, "what": "all", "include": None, "exclude": exclude}


def clone(change: Change, project: str, job_id: str, ticket: Ticket) -> Answer:
    """Make a new job with the same spec, from the start.

    Raises:
        NotFound: no such job.
        Conflict: the checkpoint that the spec starts from is gone.
        KeyReused: the ticket's key belongs to another request.
    """
    answer = idempotency.take(change.connection, ticket)
    if answer is not None:
        return answer
    return _answer(change, ticket, _again(change, locked(change, project, job_id), "clone", {}))


def extend(change: Change, project: str, job_id: str, asked: Extension, ticket: Ticket) -> Answer:
    """Make a new job that goes on from the end of one that has succeeded, as if that had been longer.

    Raises:
        NotFound: no such job.
        Invalid: what is asked does not fit the job.
        IllegalTransition: it has not succeeded.
        Conflict: its kind cannot be made longer, or its last checkpoint is gone.
        KeyReused: the ticket's key belongs to another request.
    """
    answer = idempotency.take(change.connection, ticket)
    if answer is not None:
        return answer
    job = locked(change, project, job_id)
    if job.kind not in extension.LENGTHS:
        raise Conflict(f"A {job.kind} job cannot be made longer: submit another one.")
    issues = list(extension.faults(job.kind, job.resolved_spec, asked, job.step))
    if issues:
        raise Invalid("The job cannot be made longer in this way.", issues)
    if job.status != Status.SUCCEEDED:
        raise IllegalTransition(f"Only a job that has succeeded can be made longer; this one is {job.status}.", job.status)
    kept = checkpoints.newest(change.connection, job_id)
    if kept is None or kept.step != job.step:
        raise Conflict("The last checkpoint of the job is gone, so nothing can go on from there: clone it with a greater length.")
    longer = extension.changes(job.kind, job.resolved_spec, asked, job.step) | {"init_from": _whole(kept)}
    return _answer(change, ticket, _again(change, job, "extend", longer))


def _again(change: Change, job: Row[Any], relation: str, start: dict[str, Any]) -> Row[Any]:
    row = {column: getattr(job, column) for column in COPIED}
    current = {"name": job.name, "metadata": job.metadata, "priority": job.priority}
    row |= {"spec": job.spec | start, "resolved_spec": job.resolved_spec | current | start}
    row |= {"parent_id": job.id, "parent_relation": relation, "total": total_of(row["resolved_spec"])}
    _hold_source(change, job.project, row["resolved_spec"])
    return _queue(change, row, sorted(jobs.needs_of(change.connection, [job.id])[job.id]))
