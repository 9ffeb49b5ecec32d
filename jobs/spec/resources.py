"""What a job needs of the machines it runs on, and how often it may be tried again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from jobs.spec.strict import Document, Label

MOST_DEVICES = 2**20
DEVICE = "device:"
"""What begins the need of a kind of device; the service offers each worker's own in its name."""

Platform = Literal["any", "cpu", "gpu", "tpu"]


class Resources(Document):
    """Where a job may run."""

    platform: Platform = Field(default="any", description="The kind of accelerator.")
    kind: Label | None = Field(default=None, description="The devices' own name, as `/v1/workers` shows it: `NVIDIA H200`.")
    devices: Annotated[int, Field(ge=1, le=MOST_DEVICES)] | None = Field(
        default=None, description="Devices in all; null: the product of the mesh axes."
    )
    hosts: Annotated[int, Field(ge=1, le=1)] = Field(default=1, description="Machines; this version runs a job on one.")
    memory_gib: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] | None = Field(
        default=None, description="Host memory that a worker must have."
    )
    labels: dict[Label, Label] = Field(default_factory=dict[str, str], max_length=64, description="Labels that a worker must bear.")


class Retries(Document):
    """How often a job is tried again."""

    max_failures: Annotated[int, Field(ge=0, le=1000)] = Field(default=0, description="After failures of its own.")
    max_infra_retries: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        default=100, description="After failures of what is around it."
    )
