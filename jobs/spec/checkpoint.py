"""When a job is saved, and which checkpoints are kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from jobs.errors import Issue
from jobs.spec.strict import Document

Metric = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_./\-\[\], ]+$")]
Every = Annotated[int, Field(ge=1, le=10**9)]


class KeepBest(Document):
    """Keep the checkpoints at which a metric was best."""

    metric: Metric = Field(description="The metric, such as eval/loss.")
    mode: Literal["min", "max"] = Field(default="min", description="Whether less is better, or more.")
    count: Annotated[int, Field(ge=1, le=1000)] = Field(default=1, description="How many to keep.")


class Checkpoint(Document):
    """What is the same for all kinds of job."""

    every_seconds: Annotated[float, Field(ge=1, le=10**9, allow_inf_nan=False)] | None = Field(
        default=None, description="Save at the first chance after so many seconds."
    )
    keep_latest: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=3, description="How many of the newest to keep; null: all."
    )
    keep_best: KeepBest | None = Field(default=None, description="Which to keep beside the newest.")
    keep_every: Every | None = Field(
        default=None, description="Keep for good what is saved at a multiple of so many steps (draws, for a sampler)."
    )
    ttl_seconds: Annotated[float, Field(ge=1, le=10**9, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Delete a checkpoint so many seconds after its save, unless it is the newest or kept for good.",
    )


class TrainCheckpoint(Checkpoint):
    """When a training job is saved. The last step always is."""

    every_steps: Every | None = Field(
        default=None, description="Steps between checkpoints; left out: a tenth of all. null: only by time."
    )


class McmcCheckpoint(Checkpoint):
    """When a sampling job is saved. The last draw always is."""

    every_draws: Every = Field(
        default=250, description="Draws of each chain between checkpoints, warm-up included; stop rules are looked at then."
    )


def warn_of_keep_every(checkpoint: Mapping[str, Any], total: int) -> Iterator[Issue]:
    """A rule for keeping that no save will ever meet."""
    every, keep = checkpoint.get("every_steps", checkpoint.get("every_draws")), checkpoint["keep_every"]
    if every is not None and keep is not None and math.lcm(every, keep) > total:
        detail = (
            f"nothing is saved at a multiple of {keep}: what is saved every {every} first meets it after {math.lcm(every, keep)}"
        )
        yield Issue("/checkpoint/keep_every", "never_reached", f"{detail}; make it a multiple of {every}")
