"""Making a job that has ended longer: the spec of the longer one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from jobs.errors import Issue
from jobs.spec.strict import Document

MOST = 10**9
LENGTHS: Mapping[str, str] = {"train": "steps", "svi": "steps", "mcmc": "num_samples"}
"""The field that says how long a job of each kind is."""

TARGETS = ("metric", "target", "patience", "min_ess_bulk", "min_ess_tail", "max_r_hat", "max_mcse", "max_seconds")
"""Rules that end a job early."""

More = Annotated[int, Field(ge=1, le=MOST)]


class Extension(Document):
    """How much longer: `steps` for training, `num_samples` for sampling."""

    num_samples: More | None = Field(default=None, description="Draws of each chain beyond those that the job has (sampling).")
    steps: More | None = Field(default=None, description="Steps beyond those that the job has done (training).")


def faults(kind: str, resolved: Mapping[str, Any], asked: Extension, done: int) -> Iterator[Issue]:
    """What is wrong with what is asked of a job of this kind that has done so many steps."""
    field = LENGTHS[kind]
    for name in ("num_samples", "steps"):
        if name != field and getattr(asked, name) is not None:
            yield Issue(f"/{name}", "conflict", f"does not say how long a {kind} job is: use {field} in its place")
    if getattr(asked, field) is None:
        yield Issue(f"/{field}", "missing", f"is required: how many {field} more the {kind} job is to have")
        return
    length = _length(kind, resolved, asked, done)
    thinning: int = resolved.get("thinning", 1)
    if length > MOST:
        yield Issue(f"/{field}", "out_of_range", f"would make the job longer than {MOST}: ask for at most {MOST - done}")
    elif length % thinning:
        better = getattr(asked, field) + thinning - length % thinning
        detail = f"would make {length} draws of each chain, which thinning ({thinning}) does not divide: ask for {better}"
        yield Issue(f"/{field}", "not_divisible", detail)


def changes(kind: str, resolved: Mapping[str, Any], asked: Extension, done: int) -> dict[str, Any]:
    """The fields of the longer job's spec that differ: all else stays as it was resolved, to go on as the first would have.

    A rule that has ended the first job early would end the longer one where it begins: it is left out.
    """
    changed: dict[str, Any] = {LENGTHS[kind]: _length(kind, resolved, asked, done)}
    if done < _total(kind, resolved):
        changed["stop"] = {name: None if name in TARGETS else value for name, value in resolved["stop"].items()}
    return changed


def _length(kind: str, resolved: Mapping[str, Any], asked: Extension, done: int) -> int:
    return done - resolved.get("num_warmup", 0) + getattr(asked, LENGTHS[kind])


def _total(kind: str, resolved: Mapping[str, Any]) -> int:
    return resolved[LENGTHS[kind]] + resolved.get("num_warmup", 0)
