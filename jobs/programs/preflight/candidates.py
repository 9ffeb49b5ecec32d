"""What would make a step fit: each change is tried the way the job itself was, and its figure told."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.errors import UserFault
from jobs.preflight import Change, Suggestion
from jobs.programs.preflight.compiling import Limit, compile_step, needs
from jobs.programs.preflight.placing import state_bytes
from jobs.programs.program import Program

MOST_SECONDS = 120.0
"""No further change is tried after so long."""

Edit = tuple[str, dict[str, Any]]
"""A title and the values to set by JSON Pointer."""


@dataclass(frozen=True)
class Retrial:
    """Tries changes of a spec.

    Attributes:
        spec: the resolved spec that does not fit.
        axes: its mesh.
        build: makes a program of a changed spec.
        limit: what a device has.
    """

    spec: dict[str, Any]
    axes: Mapping[str, int]
    build: Callable[[dict[str, Any]], Program]
    limit: Limit

    def ranked(self, need_bytes: int) -> list[Suggestion]:
        """Every change that goes with the job and needs less than it does: those that fit first, then by what they need.

        Args:
            need_bytes: what a device needs for the job as it is.
        """
        until = time.monotonic() + MOST_SECONDS
        tried = [found for edit in edits(self.spec, self.axes) if time.monotonic() < until and (found := self._try(edit))]
        less = [found for found in tried if found.need_bytes < need_bytes]
        return sorted(less, key=lambda found: (not found.fits, 0 if found.fits else found.need_bytes))

    def _try(self, edit: Edit) -> Suggestion | None:
        title, values = edit
        try:
            need = self._need(self.build(changed(self.spec, values)))
        except (UserFault, ValueError, TypeError):
            return None  # this change does not go with this job
        changes = [Change(pointer=pointer, value=value) for pointer, value in values.items()]
        return Suggestion(title=title, changes=changes, need_bytes=need, fits=need <= self.limit.bytes)

    def _need(self, program: Program) -> int:
        """What a step needs; where the state alone is too much, that, for it is not worth compiling."""
        state = state_bytes(program)
        return state if state > self.limit.bytes else needs(compile_step(program)[0])


def changed(spec: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A spec with values set by JSON Pointer."""
    spec = copy.deepcopy(spec)
    for pointer, value in values.items():
        *above, last = pointer.split("/")[1:]
        place = spec
        for part in above:
            place = place[part]
        place[last] = value
    return spec


def edits(spec: dict[str, Any], axes: Mapping[str, int]) -> Iterator[Edit]:
    """Changes worth trying. First those that leave every number of the run as it is, then those that do not."""
    if spec["kind"] != "train":
        if spec["chain_method"] != "sequential":
            yield "run the chains one after another", {"/chain_method": "sequential"}
        return
    if spec["remat"] == "none":
        yield "compute activations again in the backward pass", {"/remat": "full"}
    for times in (2, 4):
        pieces = spec["grad_accumulation"] * times
        if _divides(spec["data"]["batch_size"], pieces, axes):
            yield f"split the batch into {pieces} micro-batches", {"/grad_accumulation": pieces}
            if times == 4 and spec["remat"] == "none":
                yield f"both: remat, and {pieces} micro-batches", {"/remat": "full", "/grad_accumulation": pieces}
    yield from _elsewhere(spec, axes)
    for part in (2, 4):
        size = spec["data"]["batch_size"] // part
        if size and _divides(size, spec["grad_accumulation"], axes):
            yield f"a batch of {size} (another run than was asked for)", {"/data/batch_size": size}


def _elsewhere(spec: dict[str, Any], axes: Mapping[str, int]) -> Iterator[Edit]:
    """Other places for what a device holds."""
    if axes.get("data", 1) > 1 and not spec["mesh"]["sharding"].startswith("fsdp"):
        sharding = "fsdp_tp" if spec["mesh"]["sharding"] == "tp" else "fsdp"
        yield "spread parameters and optimizer over the data axis", {"/mesh/sharding": sharding}
    if spec["offload"] == "none":
        yield "keep the optimizer's state in the host's memory", {"/offload": "opt_state"}


def _divides(batch: int, pieces: int, axes: Mapping[str, int]) -> bool:
    return batch % (pieces * axes.get("data", 1)) == 0
