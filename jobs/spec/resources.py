"""What a job needs of the machines it runs on, and how often it may be tried again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from jobs.spec.strict import Document, Name, Text

MOST_DEVICES = 2**20
Platform = Literal["any", "cpu", "gpu", "tpu"]


class Resources(Document):
    """Where a job may run."""

    platform: Platform = Field("any", description="The kind of accelerator.")
    devices: Annotated[int, Field(ge=1, le=MOST_DEVICES)] | None = Field(
        None, description="Devices in all; null: the product of the mesh axes."
    )
    hosts: Annotated[int, Field(ge=1, le=1)] = Field(1, description="Machines; this version runs a job on one.")
    memory_gib: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] | None = Field(
        None, description="Host memory that a worker must have."
    )
    labels: dict[Name, Text] = Field({}, max_length=64, description="Labels that a worker must bear.")


class Retries(Document):
    """How often a job is tried again."""

    max_failures: Annotated[int, Field(ge=0, le=1000)] = Field(0, description="After failures of its own.")
    max_infra_retries: Annotated[int, Field(ge=0, le=1_000_000)] = Field(100, description="After failures of what is around it.")
