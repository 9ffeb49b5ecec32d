"""A window of a run that is traced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from jobs.errors import Issue
from jobs.spec.strict import Document

MOST_PROFILED = 1000
"""Steps in one trace: a trace of more is too large to be looked at."""

WindowLength = Annotated[int, Field(ge=1, le=MOST_PROFILED)]


class Profile(Document):
    """Trace some steps: what the devices and the host did, and when."""

    start_step: Annotated[int, Field(ge=0, le=10**9)] = Field(
        default=10, description="Steps done before the trace begins; the first ones are not like the others."
    )
    num_steps: WindowLength = Field(default=5, description="Steps, or transitions of every chain, that are traced.")
    memory: bool = Field(default=True, description="Whether to say too what lies in the devices' memory at its end.")


def check_profile(profile: Profile, total: int) -> Iterator[Issue]:
    """Faults between the window and the job's length."""
    if profile.start_step >= total:
        detail = f"must be less than the {total} steps of the job: nothing would be traced"
        yield Issue("/profile/start_step", "out_of_range", detail)
