"""Jobs: submitted, looked at, steered."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

from pydantic import BaseModel

from meshyard.effects import Flow, Items, Request, Sleep, send
from meshyard.errors import APIConnectionError, APIError, JobFailed, ServerError, WaitTimedOut
from meshyard.flows.patience import Patience
from meshyard.flows.requests import JobRef, fetch, fetch_list, get, job_path, paged, parse, query, with_json
from meshyard.models import Attempt, Event, Job, Metrics, Place, Program, Result, Validation

SpecLike: TypeAlias = Mapping[str, Any] | BaseModel | PathLike[str] | str | bytes
"""A job spec: a mapping, a model, the path of a JSON file, or JSON as bytes."""

SLOWEST_POLL_SECONDS = 2.0
SLOWEST_LOOK_SECONDS = 700.0
"""A worker's look at a spec: two tries, each of which may wait for a worker."""


def spec_body(spec: SpecLike) -> Any:
    """What goes into the body for a spec. A file's bytes are sent as they are, so that the service judges exactly them."""
    if isinstance(spec, (str, PathLike)):
        return Path(spec).read_bytes()
    return spec.model_dump(mode="json") if isinstance(spec, BaseModel) else spec


def _key(idempotency_key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": idempotency_key or str(uuid4())}


def submit(spec: SpecLike, idempotency_key: str | None = None) -> Flow[Job]:
    """Submit a job.

    Args:
        spec: a mapping, a model, the path of a JSON file, or JSON as bytes.
        idempotency_key: the same key with the same spec gives the same job. By default each call has a key of its own, so that
            sending it again after a lost answer never makes a second job.
    """
    return (yield from fetch(Job, with_json("POST", "/v1/jobs", spec_body(spec), _key(idempotency_key))))


def validate(spec: SpecLike, level: str | None = None) -> Flow[Validation]:
    """Tell whether a spec would be accepted and can run, and everything that is wrong with it. Nothing is queued.

    Args:
        spec: a mapping, a model, the path of a JSON file, or JSON as bytes.
        level: `schema` reads it; `shapes` has a worker trace it: parameters, memory, FLOPs, the checklist; `compile` has it
            compiled for its mesh as well. Raises ConflictError (`no_worker`) where no worker is free within half a minute.
    """
    request = with_json("POST", "/v1/jobs:validate", spec_body(spec), level=level)
    if level in ("shapes", "compile"):
        request = replace(request, read_seconds=SLOWEST_LOOK_SECONDS)
    return (yield from fetch(Validation, request))


def get_job(job: JobRef) -> Flow[Job]:
    """The job as it stands."""
    return (yield from fetch(Job, get(job_path(job))))


def place(job: JobRef) -> Flow[Place]:
    """Why a job waits, who is ahead of it, and which workers could take it."""
    return (yield from fetch(Place, get(job_path(job, "queue"))))


def list_jobs(
    *,
    status: str | Sequence[str] | None = None,
    kind: str | None = None,
    name: str | None = None,
    group: str | None = None,
    metadata: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> Items[Job]:
    """Jobs, newest first; pages are fetched as they are needed.

    Args:
        status: only jobs in this status, or in one of these.
        kind: only `train`, or only `mcmc`.
        name: only jobs of exactly this name.
        group: only the trials of one sweep.
        metadata: only jobs that have all of these.
        limit: stop after so many.
    """
    statuses = [status] if isinstance(status, str) else list(status or ())
    return paged(Job, "/v1/jobs", limit, status=statuses, kind=kind, name=name, group=group, metadata=metadata)


def update(
    job: JobRef,
    *,
    name: str | None = None,
    metadata: Mapping[str, str] | None = None,
    priority: int | None = None,
) -> Flow[Job]:
    """Change a job's name, metadata or priority; what is left out stays."""
    changes = {"name": name, "metadata": None if metadata is None else dict(metadata), "priority": priority}
    given = {field: value for field, value in changes.items() if value is not None}
    return (yield from fetch(Job, with_json("PATCH", job_path(job), given)))


def delete(job: JobRef) -> Flow[None]:
    """Delete a job that has ended, and its artifacts. Raises ConflictError while it runs or another job reads from it."""
    yield from send(Request("DELETE", job_path(job)))


def _steer(job: JobRef, word: str, **values: Any) -> Flow[Job]:
    return parse(Job, (yield from send(Request("POST", job_path(job, word), query(**values)))))


def cancel(job: JobRef, *, checkpoint: bool = True) -> Flow[Job]:
    """Cancel a job, for good. `checkpoint`: save a last one first."""
    return (yield from _steer(job, "cancel", checkpoint=None if checkpoint else False))


def pause(job: JobRef, *, checkpoint: bool = True) -> Flow[Job]:
    """Pause a job; it gives its devices back. `checkpoint`: save a last one first."""
    return (yield from _steer(job, "pause", checkpoint=None if checkpoint else False))


def resume(job: JobRef) -> Flow[Job]:
    """Queue a paused job again; it goes on from its newest checkpoint."""
    return (yield from _steer(job, "resume"))


def checkpoint(job: JobRef) -> Flow[Job]:
    """Have a running job save a checkpoint now."""
    return (yield from _steer(job, "checkpoint"))


def profile(job: JobRef, *, num_steps: int = 5, memory: bool = True) -> Flow[Job]:
    """Have a running job trace its next steps; the traces become artifacts. `memory`: tell of the devices' memory too."""
    wanted = {"num_steps": num_steps, "memory": memory}
    return (yield from fetch(Job, with_json("POST", job_path(job, "profile"), wanted)))


def retry(job: JobRef, idempotency_key: str | None = None) -> Flow[Job]:
    """Make a new job that does what an ended one should have done: from its last checkpoint on, unless it succeeded."""
    return (yield from fetch(Job, Request("POST", job_path(job, "retry"), headers=_key(idempotency_key))))


def clone(job: JobRef, idempotency_key: str | None = None) -> Flow[Job]:
    """Make a new job from the same spec, from the start."""
    return (yield from fetch(Job, Request("POST", job_path(job, "clone"), headers=_key(idempotency_key))))


def extend(
    job: JobRef, *, num_samples: int | None = None, steps: int | None = None, idempotency_key: str | None = None
) -> Flow[Job]:
    """Make a new job that goes on from the end of one that has succeeded, bit for bit as if that had been longer.

    Args:
        job: the job, or its id.
        num_samples: draws of each chain beyond those that it has, for a sampler.
        steps: steps beyond those that it has done, for training.
        idempotency_key: the same key with the same request gives the same job.
    """
    asked = {name: value for name, value in (("num_samples", num_samples), ("steps", steps)) if value is not None}
    return (yield from fetch(Job, with_json("POST", job_path(job, "extend"), asked, _key(idempotency_key))))


def events(job: JobRef, *, after: int | None = None) -> Items[Event]:
    """What happened to a job, from the first event or from behind `after` on."""
    return paged(Event, job_path(job, "events"), None, after=after)


def attempts(job: JobRef) -> Flow[list[Attempt]]:
    """Every try at a job."""
    return (yield from fetch_list(Attempt, job_path(job, "attempts")))


def metrics(
    job: JobRef,
    names: list[str] | None = None,
    *,
    from_step: int | None = None,
    max_points: int | None = None,
) -> Flow[Metrics]:
    """A job's metrics.

    Args:
        job: the job, or its id.
        names: only these; all by default.
        from_step: only points at this step or later.
        max_points: at most so many for each series, minima and maxima kept.
    """
    joined = None if names is None else ",".join(names)
    return (yield from fetch(Metrics, get(job_path(job, "metrics"), names=joined, from_step=from_step, max_points=max_points)))


def logs(job: JobRef, tail: int | None = None) -> Flow[str]:
    """What the job wrote, or its last `tail` lines."""
    return (yield from send(get(job_path(job, "logs"), tail=tail))).content.decode(errors="replace")


def program(job: JobRef) -> Flow[Program]:
    """The program that a sampling job's model is, or that its formula stands for."""
    return (yield from fetch(Program, get(job_path(job, "program"))))


def result(job: JobRef) -> Flow[Result]:
    """What a job came to."""
    return (yield from fetch(Result, get(job_path(job, "result"))))


def wait(job: JobRef, timeout: float | None = None) -> Flow[Job]:
    """Wait until a job succeeds.

    Args:
        job: the job, or its id.
        timeout: seconds to wait at most.

    Raises:
        JobFailed: it ended otherwise; the exception holds the job and its last log lines.
        WaitTimedOut: the time was up first.
    """
    started, pause_seconds, patience = time.monotonic(), 0.1, Patience()
    current: Job | None = None
    while current is None or not current.is_finished:
        if current is not None:
            left = SLOWEST_POLL_SECONDS if timeout is None else timeout - (time.monotonic() - started)
            if left <= 0:
                raise WaitTimedOut(current, timeout or 0.0)
            yield Sleep(min(pause_seconds, left))
            pause_seconds = min(pause_seconds * 1.5, SLOWEST_POLL_SECONDS)
        current = yield from _patiently(patience, get_job(job), current)
    if current.status != "succeeded":
        raise JobFailed(current, (yield from _last_lines(current)))
    return current


def _patiently(patience: Patience, asking: Flow[Job], last: Job | None) -> Flow[Job | None]:
    """The job as it stands; as it last stood, while the service is away for a while."""
    try:
        found = yield from asking
    except (APIConnectionError, ServerError) as error:
        patience.bear(error)
        yield from patience.pause()
        return last
    patience.renew()
    return found


def _last_lines(job: Job) -> Flow[str]:
    try:
        return (yield from logs(job, tail=JobFailed.lines_shown))
    except APIError:
        return ""  # the reason is known all the same
