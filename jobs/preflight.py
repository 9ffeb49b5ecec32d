"""What a look at a job tells before any of it runs: the report of `POST /v1/jobs:validate` at the levels `shapes` and `compile`.

A worker's child fills it in, the service adds what it knows itself. Sizes are bytes; `…_per_device` is the largest share of any one
device. A part that does not apply to a kind of job or to a level is null or empty.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from jobs.spec.strict import Document, Json, Name, Text

Size = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Status = Literal["pass", "warn", "n/a"]


class Array(Document):
    """A parameter, or a state of the optimizer: where it lies on the mesh.

    `logical_axes` are what the model calls its dimensions; `partition` the mesh axis each lies along, null where it is whole.
    """

    path: Text
    shape: list[Size]
    dtype: Name
    logical_axes: list[Name | None] | None = None
    partition: list[Name | None]
    bytes: Size
    bytes_per_device: Size


class Total(Document):
    """All parameters together."""

    count: Size
    bytes: Size
    bytes_per_device: Size


class Memory(Document):
    """Bytes on the fullest device, by kind, as shapes tell them.

    `activations` are what the backward pass keeps of the forward pass, counted in the traced program before any compiler
    fuses it: an upper bound. Level `compile` gives what is really allocated.
    """

    parameters: Size
    optimizer: Size
    gradients: Size
    other: Size
    batch: Size
    activations: Size | None = None
    total: Size


class Flops(Document):
    """Floating-point operations of one step on all devices together.

    `per_step` is counted in the traced program as `formula` says; `analytic` is 6 x parameters x tokens (or samples), to compare.
    """

    per_step: Number
    formula: Text
    analytic: Number


class Curve(Document):
    """A schedule drawn as points: `values[i]` after `steps[i]` updates."""

    steps: list[Size]
    values: list[Number | None]


class DataFacts(Document):
    """What the job reads. `unit`: what a sample is (`window` of tokens, `row`). `passes`: how often each is seen on average."""

    unit: Name
    samples: Size
    batch_size: Size
    batches_per_pass: Number
    passes: Number
    arrays: dict[Name, list[Size]] = Field(default_factory=dict[str, list[int]])


class Site(Document):
    """A site of a sampler's model, as its draws are kept: `shape` without chains and draws."""

    name: Text
    shape: list[Size]
    dtype: Name
    draws_bytes: Size


class Sampling(Document):
    """What a sampler will keep.

    `draws_bytes`: all draws of all chains with their statistics, block by block on disk; `block_bytes`: of one block. `disk_bytes`:
    what they and the files made of them take where the attempt writes, `disk_free_bytes` what is free there, null where nobody
    knows. `memory_bytes`: what the host must hold at once. `fits`: whether there is so much memory and disk.
    """

    sites: list[Site]
    chains: Size
    draws: Size
    draws_bytes: Size
    block_bytes: Size
    disk_bytes: Size = 0
    disk_free_bytes: Size | None = None
    memory_bytes: Size = 0
    host_bytes: Size
    fits: bool


class ChecklistItem(Document):
    """One item of the checklist, with what was found in this job."""

    item: Text
    status: Status
    evidence: Text


class Notice(Document):
    """What would be accepted, and is probably not meant."""

    pointer: Text
    code: Name
    detail: Text


class Compiled(Document):
    """What the compiler made of a step, for each device. `collectives`: how many of each kind stand in the compiled program."""

    seconds: Number
    argument_bytes: Size
    output_bytes: Size
    alias_bytes: Size
    temp_bytes: Size
    code_bytes: Size
    flops: Number | None = None
    collectives: dict[Name, Size] = Field(default_factory=dict[str, int])


class Change(Document):
    """A field of the spec and the value it should take."""

    pointer: Text
    value: Json


class Suggestion(Document):
    """A change that was tried the same way, and what a device would then need."""

    title: Text
    changes: list[Change]
    need_bytes: Size
    fits: bool


class Verdict(Document):
    """Whether a step fits into a device. `need_bytes` are its arguments and temporaries; `limit` says whose bytes the limit is."""

    code: Literal["fits", "would_oom"]
    need_bytes: Size
    limit_bytes: Size
    limit: Text


class Examined(Document):
    """Where the look was taken. `virtual`: on CPU devices made for it, whatever the worker has."""

    platform: Name
    device_kind: Name
    devices: Size
    virtual: bool
    mesh_axes: dict[Name, Size]
    versions: dict[Name, Name]
    seconds: dict[Name, Number]


class Findings(Document):
    """All that a look at a job found."""

    examined: Examined | None = None
    parameters: list[Array] | None = None
    total_parameters: Total | None = None
    memory: Memory | None = None
    flops: Flops | None = None
    learning_rate: Curve | None = None
    data: DataFacts | None = None
    sampling: Sampling | None = None
    checklist: list[ChecklistItem] | None = None
    compiled: Compiled | None = None
    verdict: Verdict | None = None
    suggestions: list[Suggestion] | None = None
    notices: list[Notice] = Field(default_factory=list[Notice])
    """Told among the report's `warnings`."""


def refusal(found: Findings) -> tuple[str, str] | None:
    """Why a job must run out of memory: the pointer to what to change, and a sentence. None if it fits, or nobody knows."""
    verdict = found.verdict
    if verdict is None or verdict.code != "would_oom":
        return None
    told = f"a step needs {_gib(verdict.need_bytes)} on a device, more than the {_gib(verdict.limit_bytes)} of {verdict.limit}"
    tried = found.suggestions or []
    fitting = [each for each in tried if each.fits]
    pointer = fitting[0].changes[0].pointer if fitting else "/resources"
    listed = "; ".join(f"{each.title}: {_gib(each.need_bytes)}" for each in (fitting or tried)[:4])
    advice = (
        f"What would fit: {listed}"
        if fitting
        else f"Nothing that was tried fits ({listed or 'no change applies'}): take more devices"
    )
    return pointer, f"{told}. {advice}."


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"
