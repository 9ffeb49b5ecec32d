"""What a worker's agent and the service say to each other.

Every message after the claim carries the attempt's `fence`. The service refuses a stale one with 409 `attempt_superseded`.
Instants are RFC 3339 UTC strings; durations are seconds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from jobs.preflight import Findings
from jobs.spec.profile import WindowLength
from jobs.spec.strict import Document, Json, Name, Sha256, Text
from jobs.states import Phase

MetricName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_./\-\[\], ]+$")]
Step = Annotated[int, Field(ge=0, lt=2**53)]
Fence = Annotated[int, Field(ge=1, lt=2**53)]
Size = Annotated[int, Field(ge=0, lt=2**53)]
RelativePath = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00\\]+$")]

Command = Literal["continue", "checkpoint", "pause", "cancel", "drain"]
Level = Literal["shapes", "compile"]
"""How deep a worker looks at a spec before any of it runs: shapes alone, or lowered and compiled for the mesh."""
Take = Literal["attempt", "compile", "shapes"]
Ending = Literal["succeeded", "failed", "paused", "cancelled", "released"]
"""How an attempt ended. `released`: handed back unfinished (drain, preemption); the job goes on elsewhere."""


STALL_PATIENCE = 4.0
"""How much longer than a step anything else may take: a compilation, a download, an evaluation."""


class File(Document):
    """A file of a manifest: path relative to what it belongs to, size in bytes, SHA-256 in hex."""

    path: RelativePath
    bytes: Size
    sha256: Sha256


class Register(Document):
    """`POST /v1/workers`: a process that owns accelerators introduces itself. One registration per process and life."""

    platform: Name
    device_kind: Name
    device_count: Annotated[int, Field(ge=1, le=100_000)]
    memory_bytes: Size
    slots: Annotated[int, Field(ge=1, le=1024)] = 1
    labels: dict[Name, Text] = Field(default_factory=dict)
    versions: dict[Name, Name] = Field(default_factory=dict)
    catalog_digest: Name
    code: dict[str, Json] | None = None
    """Whether it runs code of users, and how it contains it: `mode`, `willing`, `measures`, `missing`."""
    offers: list[Name] = Field(default_factory=list[str], max_length=10_000)
    """Every catalog entry this worker can build, as `section/type` (`models/transformer`), and `label:key=value` for its labels."""


class Probe(Document):
    """A file in the service's artifact folder. A worker that can read `token` from `path` shares that folder."""

    path: Text
    token: Name


class Registered(Document):
    """Answer to `Register`."""

    id: Name
    lease_seconds: float
    probe: Probe | None


class Claim(Document):
    """`POST /v1/workers/{id}/claim`: ask for work, waiting up to `wait_seconds` for some.

    `takes`: what the worker can use just now. A preflight (`compile`, `shapes`) comes before an attempt: somebody waits for it.
    """

    devices: Annotated[int, Field(ge=1, le=100_000)]
    wait_seconds: Annotated[float, Field(ge=0, le=60)] = 20.0
    probe_token: Name | None = None
    takes: list[Take] = Field(default_factory=lambda: list[Take](["attempt"]), min_length=1, max_length=3)


class FileStorage(Document):
    """The worker shares the artifact folder: it reads and writes below `root` directly."""

    type: Literal["file"] = "file"
    root: Text


class HttpStorage(Document):
    """Bytes travel through the service: datasets by `GET`, files by `PUT /v1/attempts/{id}/files/{path}`."""

    type: Literal["http"] = "http"


class Dataset(Document):
    """The data an attempt reads. `key`: where it lies below the artifact folder."""

    id: Name
    format: Name
    sha256: Sha256
    bytes: int
    key: Text


class Code(Document):
    """A bundle of user code that an attempt imports. `module`: what it is called if it is a single file; `key` as for a dataset."""

    id: Name
    module: str
    sha256: Sha256
    bytes: int
    key: Text


class Resume(Document):
    """The checkpoint an attempt starts from.

    `prefix` is the checkpoint's folder below the artifact folder; `files` are relative to it. `outputs` are the artifacts that the
    job had put out for good by that step (blocks of draws); `keys` tells where each lies below the artifact folder.
    """

    job_id: Name
    step: Step
    what: Literal["all", "params", "draws"]
    prefix: Text
    files: list[File]
    outputs: list[File]
    keys: dict[Text, Text]


class Assignment(Document):
    """Answer to `Claim` (204 when there is nothing to do): the right to run one attempt.

    `mesh_axes` are the axis sizes of this attempt, a `-1` resolved; `prefix` is the attempt's own folder below the artifact folder
    (`jobs/{job}/{attempt}`), where it may write `checkpoints/{step}/…` and `outputs/…`.
    """

    job_id: Name
    attempt_id: Name
    number: int
    fence: Fence
    lease_seconds: float
    spec: dict[str, Json]
    mesh_axes: dict[Name, int]
    devices: int
    prefix: Text
    storage: FileStorage | HttpStorage
    dataset: Dataset | None
    beside: dict[Name, Dataset] = Field(default_factory=dict)
    """Files that the job reads beside its data, by what they are for: `tokenizer`, `eval`."""
    code: list[Code] = Field(default_factory=list[Code])
    """Bundles that the job's model and loss come from."""
    resume: Resume | None
    stall_seconds: float | None = None
    """So long may step and phase stand still while steps are done, `STALL_PATIENCE` times as long otherwise; null: for ever."""
    traceparent: str | None = None
    """The place in a trace from which the job was asked for (W3C Trace Context)."""
    request_id: str | None = None
    """The claim's own, as in the service's logs."""


class Preflight(Document):
    """Another answer to `Claim`: a spec to look at for somebody who waits. Nothing of it is run.

    `assignment` is what an attempt at the job would be given, its ids those of the preflight; its fence counts the tries. A try may
    take `seconds`.
    """

    preflight_id: Name
    seconds: float
    level: Level
    assignment: Assignment


class PreflightBeat(Document):
    """`POST /v1/preflights/{id}/heartbeat`: still at it."""

    fence: Fence


class PreflightKept(Document):
    """Answer to `PreflightBeat` and `PreflightFinish`: the try is still wanted, and has so long until its next beat."""

    lease_seconds: float


class Heartbeat(Document):
    """`POST /v1/attempts/{id}/heartbeat`: still here.

    `handled` is the last `Beat.sequence` whose command was carried out, `profiled` the last `Window.sequence` that was passed on;
    `seconds` by phase are those so far.
    """

    fence: Fence
    step: Step
    phase: Annotated[Phase, Field(strict=False)]
    last_step_at: Name | None = None
    handled: Size = 0
    profiled: Size = 0
    seconds: dict[Name, float] = Field(default_factory=dict)


class Window(Document):
    """A trace that a user wants of a running job: `num_steps` from where it stands. Later ones have higher sequences."""

    sequence: Size
    num_steps: WindowLength
    memory: bool


class Beat(Document):
    """Answer to `Heartbeat`: the lease is renewed, and what to do.

    `save`: keep a last checkpoint before leaving off. `profile`: trace so many steps, beside whatever else is to be done.
    """

    command: Command
    sequence: int
    save: bool = True
    lease_seconds: float
    profile: Window | None = None


MOST_POINTS = 200_000
"""Of one series in one report."""


class Series(Document):
    """Points of one metric. `nonfinite` maps an index into `values` to "NaN", "Infinity" or "-Infinity"; `values` is null there."""

    name: MetricName
    labels: dict[Name, Text] = Field(default_factory=dict, max_length=32)
    steps: list[Step] = Field(max_length=MOST_POINTS)
    values: list[float | None] = Field(max_length=MOST_POINTS)
    nonfinite: dict[str, Literal["NaN", "Infinity", "-Infinity"]] = Field(default_factory=dict)


class Committed(Document):
    """A checkpoint whose every byte is durable.

    `files` are relative to `checkpoints/{step}` of the attempt; `outputs` to its `outputs` folder, and name all that the job has
    put out up to this step, earlier attempts' included. `fresh` are the outputs that this attempt wrote since its last report of
    any.
    """

    step: Step
    metrics: dict[MetricName, float | None] = Field(default_factory=dict)
    files: list[File]
    outputs: list[File] = Field(default_factory=list[File])
    fresh: list[File] = Field(default_factory=list[File])


class Happened(Document):
    """An event from the worker's side (`compile.finished`, `checkpoint.skipped`, `sharding.warning`, …)."""

    type: Annotated[str, StringConstraints(pattern=r"^[a-z_]+(\.[a-z_]+)+$", max_length=100)]
    data: dict[str, Json] = Field(default_factory=dict)


class Report(Document):
    """`POST /v1/attempts/{id}/report`. Batches are numbered from 1; one that has been taken before changes nothing."""

    fence: Fence
    batch: Annotated[int, Field(ge=1, lt=2**53)]
    series: list[Series] = Field(default_factory=list[Series], max_length=10_000)
    logs: Annotated[str, StringConstraints(max_length=4_000_000)] = ""
    checkpoints: list[Committed] = Field(default_factory=list[Committed])
    artifacts: list[File] = Field(default_factory=list[File], max_length=10_000)
    """Further files of the attempt's `outputs` folder that are whole."""
    events: list[Happened] = Field(default_factory=list[Happened])


class Taken(Document):
    """Answer to `Report`."""

    batch: int


class Failure(Document):
    """Why an attempt failed: a code of `jobs.errors.FAULT_OF_CODE`."""

    code: Name
    message: Text
    param: Text | None = None
    detail: dict[str, Json] | None = None
    """What else is known of the cause: of user code `code`, `file`, `line` and `hint`."""


class Finish(Document):
    """`POST /v1/attempts/{id}/finish`: the attempt's end. `seconds` by phase sum to its wall time."""

    fence: Fence
    ending: Ending
    step: Step
    error: Failure | None = None
    corrupt_step: Step | None = None
    """Set with `checkpoint_corrupt`: the step whose bytes did not match their manifest; it is never offered again."""
    seconds: dict[Name, float] = Field(default_factory=dict)
    result: dict[str, Json] | None = None
    artifacts: list[File] = Field(default_factory=list[File])
    """Relative to the attempt's `outputs` folder."""


class PreflightFinish(Document):
    """`POST /v1/preflights/{id}/finish`: what a look at a spec came to.

    Either what was found, or why nothing could be: the spec's own fault, or one of the worker, after which another may try.
    """

    fence: Fence
    found: Findings | None = None
    error: Failure | None = None


class Finished(Document):
    """Answer to `Finish`: the job's status after it."""

    status: Name


class Uploaded(Document):
    """Answer to `PUT /v1/attempts/{id}/files/{path}`: bytes held so far; `complete` once size and SHA-256 agree."""

    bytes: int
    complete: bool
