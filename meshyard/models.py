"""What the client gives: the service's documents, typed.

Readers are lenient where the service is strict: an unknown field is kept (`model_extra`), an unknown word in place of a known one
is only a string, a missing field is None. So a client reads the answers of an older or a newer service.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from jobs.states import TERMINAL


def _rfc3339(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Instant = Annotated[datetime, PlainSerializer(_rfc3339, return_type=str, when_used="json")]
Document = dict[str, Any]


class Model(BaseModel):
    """Root of all results."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    def to_dict(self) -> Document:
        """The document as the service sent it: what it left out is left out, what the client has no name for is there."""
        return self.model_dump(mode="json", exclude_unset=True)


class ProblemItem(Model):
    """One fault: JSON Pointer into what was sent, stable code, sentence."""

    pointer: str = ""
    code: str = ""
    detail: str = ""


class Problem(Model):
    """An error as RFC 9457 has it."""

    type: str = "about:blank"
    title: str = ""
    status: int | None = None
    detail: str = ""
    code: str | None = None
    request_id: str | None = None
    errors: list[ProblemItem] = Field(default_factory=list[ProblemItem])


class Progress(Model):
    """How far a job has come: `step` of `total`, counted in `unit` ("step" or "draw")."""

    step: int | None = None
    total: int | None = None
    unit: str | None = None


def _progress(value: Any) -> Any:
    return Progress() if value is None else value


class StatusReason(Model):
    """Why a queued job is not running."""

    code: str = ""
    message: str = ""
    hint: str | None = None
    since: Instant | None = None


class Place(Model):
    """A job's place in the queue: why it waits, the jobs `ahead` of it, and the `workers` with what each `lacks` for it."""

    job_id: str = ""
    status: str = ""
    status_reason: StatusReason | None = None
    queue_position: int | None = None
    ahead: list[Document] = Field(default_factory=list[Document])
    workers: list[Document] = Field(default_factory=list[Document])


class Fault(Model):
    """Why a job failed."""

    code: str = ""
    message: str = ""
    param: str | None = None
    retryable: bool | None = None
    detail: Document | None = None
    fault: str | None = None
    attempt_id: str | None = None


class Parent(Model):
    """The job this one was made from, and how (`retry`, `clone`, `extend`)."""

    job: str = ""
    relation: str = ""


class Job(Model):
    """One thing a user asked for."""

    object: str = "job"
    id: str
    kind: str = ""
    name: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    project: str | None = None
    priority: int | None = None
    spec: Document | None = None
    resolved_spec: Document | None = None
    spec_version: int | None = None
    status: str
    phase: str | None = None
    status_reason: StatusReason | None = None
    queue_position: int | None = None
    progress: Annotated[Progress, BeforeValidator(_progress)] = Field(default_factory=Progress)
    attempt: int | None = None
    parent: Parent | None = None
    group: str | None = None
    error: Fault | None = None
    created_at: Instant | None = None
    started_at: Instant | None = None
    finished_at: Instant | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the job has ended for good."""
        return self.status in TERMINAL

    @property
    def reason(self) -> str:
        """Why the job is as it is, in a sentence; empty if there is nothing to say."""
        if self.error is not None:
            return f"{self.error.message} ({self.error.code})"
        return self.status_reason.message if self.status_reason is not None else ""


class Event(Model):
    """Something that happened to a job; `seq` has no gaps."""

    seq: int
    type: str
    created_at: Instant | None = None
    data: Document = Field(default_factory=dict[str, Any])


class NonFinite(Model):
    """A value that JSON cannot hold: "NaN", "Infinity" or "-Infinity" at a step."""

    step: int
    value: str


class Series(Model):
    """Points of one metric, for one set of labels, by rising step."""

    name: str
    labels: dict[str, str] = Field(default_factory=dict[str, str])
    steps: list[int] = Field(default_factory=list[int])
    values: list[float | None] = Field(default_factory=list[float | None])
    nonfinite: list[NonFinite] = Field(default_factory=list[NonFinite])
    total_points: int | None = None
    downsampled: bool | None = None

    def points(self) -> list[tuple[int, float]]:
        """Every point as (step, value), with NaN and infinities in their places."""
        odd = {item.step: float(item.value) for item in self.nonfinite}
        pairs = zip(self.steps, self.values, strict=True)
        return [(step, value if value is not None else odd.get(step, float("nan"))) for step, value in pairs]

    @property
    def key(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """Name and labels: what tells one series from another."""
        return self.name, tuple(sorted(self.labels.items()))


class Metrics(Model):
    """Series of a job: all of them when asked for, or the newest points of some while watching."""

    object: str = "metrics"
    series: list[Series] = Field(default_factory=list[Series])

    def find(self, name: str, **labels: str) -> Series:
        """The series of that name and those labels. Raises KeyError if there is none."""
        for series in self.series:
            if series.name == name and labels.items() <= series.labels.items():
                return series
        raise KeyError(name)


class Attempt(Model):
    """One try at a job."""

    id: str = ""
    number: int | None = None
    fence: int | None = None
    workers: list[str] = Field(default_factory=list[str])
    started_at: Instant | None = None
    ended_at: Instant | None = None
    ending: str | None = None
    cause: Document | None = None
    step: int | None = None
    steps_done: int | None = None
    resumed_from: int | None = None
    steps_lost: int | None = None
    seconds: dict[str, float] | None = None


class Checkpoint(Model):
    """A committed checkpoint: after `step` optimizer updates, or transitions of every chain."""

    step: int
    metrics: dict[str, float | None] = Field(default_factory=dict[str, float | None])
    bytes: int | None = None
    manifest_sha256: str | None = None
    pinned: bool = False
    created_at: Instant | None = None
    expires_at: Instant | None = None


class File(Model):
    """A file of a checkpoint, or an artifact: relative path, size, SHA-256 in hex."""

    path: str
    bytes: int
    sha256: str


class Program(Model):
    """The program that a sampling job's model is; `design` tells what its data holds where a formula stands for it."""

    job: str
    model: Document
    design: Document | None = None


class Result(Model):
    """What a job came to. Training fills `final` and `best`; sampling `summary`, `diagnostics`, `warnings` and `stopped_by`.

    `loo` and `waic` are there where log likelihoods were asked for. `performance` tells how fast the last attempt went.
    """

    final: Document | None = None
    best: Document | None = None
    summary: dict[str, dict[str, Any]] = Field(default_factory=dict[str, dict[str, Any]])
    diagnostics: Document | None = None
    warnings: list[dict[str, str]] = Field(default_factory=list[dict[str, str]])
    loo: Document | None = None
    waic: Document | None = None
    stopped_by: Any = None
    performance: Document | None = None


class Dataset(Model):
    """An uploaded dataset."""

    id: str
    name: str | None = None
    format: str = ""
    sha256: str = ""
    bytes: int = 0
    rows: int | None = None
    created_at: Instant | None = None


class Code(Model):
    """An uploaded bundle of code."""

    id: str
    name: str | None = None
    sha256: str = ""
    bytes: int = 0
    files: list[Document] = Field(default_factory=list[Document])
    modules: list[Document] = Field(default_factory=list[Document])
    warnings: list[Document] = Field(default_factory=list[Document])
    created_at: Instant | None = None


class Worker(Model):
    """A process that owns accelerators."""

    id: str
    platform: str | None = None
    device_kind: str | None = None
    device_count: int | None = None
    status: str | None = None
    slots: int | None = None
    running: list[Document] = Field(default_factory=list[Document])
    seen_at: Instant | None = None
    labels: dict[str, str] = Field(default_factory=dict[str, str])


class Webhook(Model):
    """A URL that is told what happens. `secret` is there in the answer that made it, and never again."""

    id: str
    name: str | None = None
    url: str = ""
    events: list[str] = Field(default_factory=list[str])
    enabled: bool | None = None
    disabled_reason: str | None = None
    secret: str | None = None
    last_success_at: Instant | None = None
    created_at: Instant | None = None


class WebhookDelivery(Model):
    """A message for a webhook, and what came of it."""

    id: str
    message_id: str | None = None
    type: str | None = None
    status: str | None = None
    attempts: int | None = None
    next_attempt_at: Instant | None = None
    created_at: Instant | None = None
    last_status: int | None = None
    last_error: str | None = None
    payload: Document = Field(default_factory=dict[str, Any])


class Examined(Model):
    """What a service says of itself. `date`: its clock, as HTTP writes it."""

    date: str | None = None
    version: str | None = None
    ready: bool = False


class Validation(Model):
    """Whether a spec would be accepted, and every reason why not."""

    valid: bool
    errors: list[ProblemItem] = Field(default_factory=list[ProblemItem])
    report: Document | None = None

    @property
    def warnings(self) -> list[ProblemItem]:
        """What would be accepted, and is probably not meant."""
        found: list[Any] = (self.report or {}).get("warnings") or []
        return [ProblemItem.model_validate(item) for item in found]


class CatalogEntry(Model):
    """A legal `type` of a section of the catalog, with what it takes."""

    type: str = ""
    doc: str | None = None


class Key(Model):
    """A key. `key` is there in the answer that made or rotated it, and never again."""

    id: str
    name: str | None = None
    project: str = ""
    prefix: str = ""
    scopes: list[str] = Field(default_factory=list[str])
    all_projects: bool = False
    status: str | None = None
    key: str | None = None
    expires_at: Instant | None = None
    previous_expires_at: Instant | None = None
    revoked_at: Instant | None = None
    last_used_at: Instant | None = None
    created_at: Instant | None = None


class Project(Model):
    """Whom jobs and data belong to."""

    id: str
    name: str = ""
    weight: float = 1.0
    quotas: Document = Field(default_factory=dict[str, Any])
    created_at: Instant | None = None


class Usage(Model):
    """What a project used on a day."""

    project: str = ""
    day: str = ""
    device_seconds: float = 0.0
    attempts: int = 0
    jobs_submitted: int = 0
    jobs_succeeded: int = 0
    jobs_failed: int = 0
    jobs_cancelled: int = 0
    stored_bytes: int | None = None


class AuditEntry(Model):
    """Something that a person changed."""

    id: str
    project: str = ""
    key_id: str = ""
    action: str = ""
    target: str = ""
    request_id: str = ""
    address: str | None = None
    created_at: Instant | None = None
    data: Document = Field(default_factory=dict[str, Any])
