"""The fields that every kind of job has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from jobs.spec.data import Seed
from jobs.spec.mesh import Mesh
from jobs.spec.numerics import Debug, Precision
from jobs.spec.origin import InitFrom
from jobs.spec.profile import Profile
from jobs.spec.resources import Resources, Retries
from jobs.spec.strict import Document, Name, Text

SPEC_VERSION = 1
MOST_SECONDS = 10**9
Priority = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]
Metadata = Annotated[dict[Name, Text], Field(max_length=64)]


class Envelope(Document):
    """What every job says."""

    spec_version: Literal[1] = Field(default=SPEC_VERSION, description="The version of this language.")
    name: Name | None = Field(default=None, description="A name for people.")
    metadata: Metadata = Field(default_factory=dict[str, str], description="Texts by key, to find jobs by; at most 64.")
    priority: Priority = Field(default=0, description="Jobs of higher priority go first.")
    mesh: Mesh = Field(default=Mesh(), description="The arrangement of devices.")
    precision: Precision = Field(default=Precision(), description="Number formats.")
    debug: Debug = Field(default=Debug(), description="Switches for finding faults.")
    profile: Profile | None = Field(default=None, description="Steps that are traced.")
    init_from: InitFrom | None = Field(default=None, description="A checkpoint of another job to start from.")
    resources: Resources = Field(default=Resources(), description="What the job needs of a worker.")
    retries: Retries = Field(default=Retries(), description="How often the job is tried again.")
    timeout_seconds: Annotated[float, Field(gt=0, le=MOST_SECONDS, allow_inf_nan=False)] | None = Field(
        default=None, description="Running time of all attempts together; null: no limit."
    )
    seed: Seed = Field(default=0, description="Seed of everything random but the order of samples.")
