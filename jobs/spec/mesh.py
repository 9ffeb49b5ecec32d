"""How many devices a job takes, and in which arrangement."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from jobs.errors import Issue
from jobs.spec import models, sharding
from jobs.spec.pointers import join, listed, nearest, quoted
from jobs.spec.resources import MOST_DEVICES, Resources
from jobs.spec.strict import Document, Name

OPEN = -1
"""The size of an axis that takes what a worker has."""
AXES: dict[str, tuple[str, ...]] = {"train": ("data", "model"), "mcmc": ("chains",), "svi": ("data",), "predict": ("data",)}
_MEANING = {
    "train": '"data" carries the batch, "model" the tensor-parallel dimensions',
    "mcmc": '"chains" carries the chains',
    "svi": "a guide is fitted on one device",
    "predict": "predictions are made on one device",
}


def _check_size(size: int) -> int:
    if size != OPEN and not 1 <= size <= MOST_DEVICES:
        detail = f"must be at least 1 and at most {MOST_DEVICES}, or -1 for as many as a worker has"
        raise PydanticCustomError("out_of_range", detail)  # pyright: ignore[reportArgumentType]
    return size


_SIZE_SCHEMA = {"anyOf": [{"const": OPEN}, {"type": "integer", "minimum": 1, "maximum": MOST_DEVICES}]}
AxisSize = Annotated[int, AfterValidator(_check_size), WithJsonSchema(_SIZE_SCHEMA)]
Preset = Literal["replicated", "dp", "fsdp", "tp", "fsdp_tp"]


class Mesh(Document):
    """The arrangement of devices."""

    axes: Annotated[dict[Name, AxisSize], Field(min_length=1, max_length=8)] | None = Field(
        default=None, description="Axis sizes by name; their product is the number of devices. One may be -1."
    )
    sharding: Preset | None = Field(default=None, description="Which logical axes lie on which mesh axes.")
    rules: dict[Name, Name | None] = Field(
        default_factory=dict[str, str | None],
        max_length=16,
        description="Logical axis to mesh axis, where the preset is not wanted.",
    )


@dataclass(frozen=True)
class Placement:
    """A mesh with nothing left open but the size of one axis.

    Attributes:
        axes: sizes by name in order; one may be -1.
        preset: the sharding preset.
        overrides: rules beside the preset.
        devices: how many it takes; with an open axis, the least.
    """

    axes: dict[str, int]
    preset: str
    overrides: dict[str, str | None]
    devices: int

    @property
    def open_axis(self) -> str | None:
        """The axis whose size is left to the worker."""
        return next((name for name, size in self.axes.items() if size == OPEN), None)

    @property
    def rules(self) -> dict[str, str | None]:
        """The mesh axis of each logical axis."""
        return sharding.rules(self.preset, self.overrides, self.axes)


def resolve_axes(axes: Mapping[str, int], devices: int, batch_size: int) -> dict[str, int] | None:
    """Give the open axis of a mesh the largest size that the devices allow.

    Args:
        axes: sizes by name; one may be -1.
        devices: how many there are.
        batch_size: what the open axis must divide (see `divisor`); 0 is divided by everything.

    Returns: all sizes, or None where the mesh does not fit on the devices.
    """
    fixed = math.prod(size for size in axes.values() if size != OPEN)
    if fixed > devices:
        return None
    largest = devices // fixed
    if batch_size:
        largest = next(size for size in range(min(largest, batch_size), 0, -1) if batch_size % size == 0)
    return {name: largest if size == OPEN else size for name, size in axes.items()}


def divisor(resolved: Mapping[str, Any]) -> int:
    """What the open axis of a resolved spec must divide: everything that lies on it. 0 where nothing does."""
    axes: dict[str, int] = resolved["mesh"]["axes"]
    name = next((name for name, size in axes.items() if size == OPEN), None)
    if name is None:
        return 0
    if resolved["kind"] != "train":
        return resolved.get("num_chains", 1)
    rules = sharding.rules(resolved["mesh"]["sharding"], resolved["mesh"]["rules"], axes)
    batch = resolved["data"]["batch_size"] // resolved["grad_accumulation"]
    sizes = [("batch", batch), *((axis, size) for axis, size, _ in models.logical_sizes(resolved["model"]))]
    return math.gcd(*(size for axis, size in sizes if rules[axis] == name), 0)


def place(kind: str, mesh: Mesh, resources: Resources) -> tuple[Placement | None, list[Issue]]:
    """Settle a job's mesh against the devices it asks for."""
    axes = mesh.axes or _default_axes(kind, mesh.sharding, resources.devices)
    issues = list(_faults_of_axes(kind, axes))
    preset = mesh.sharding or _default_preset(kind, axes)
    issues += [*_faults_of_preset(kind, preset, axes), *_faults_of_rules(kind, mesh.rules, axes)]
    if issues:
        return None, issues
    fixed = math.prod(size for size in axes.values() if size != OPEN)
    sizes, fault = _settle(axes, fixed, resources.devices)
    if fault is not None:
        return None, [fault]
    devices = math.prod(size for size in sizes.values() if size != OPEN)
    return Placement(sizes, preset, dict(mesh.rules), devices), []


def _settle(axes: dict[str, int], fixed: int, devices: int | None) -> tuple[dict[str, int], Issue | None]:
    """The sizes of all axes where the number of devices is given, which must agree."""
    if fixed > MOST_DEVICES:
        return axes, Issue("/mesh/axes", "out_of_range", f"the sizes multiply to more than {MOST_DEVICES} devices")
    if devices is None:
        return axes, None
    if OPEN not in axes.values():
        detail = (
            f"the sizes multiply to {fixed}, and resources.devices is {devices}: make them agree, or leave resources.devices out"
        )
        return axes, None if fixed == devices else Issue("/mesh/axes", "mismatch", detail)
    if devices % fixed:
        detail = f"resources.devices is {devices}, which the other axes' product of {fixed} does not divide"
        return axes, Issue("/mesh/axes", "not_divisible", detail)
    return {name: devices // fixed if size == OPEN else size for name, size in axes.items()}, None


def _default_axes(kind: str, preset: str | None, devices: int | None) -> dict[str, int]:
    if kind == "mcmc":
        return {"chains": devices or 1}
    return {"model" if preset == "tp" else "data": devices or 1} | ({"model": 1} if preset == "fsdp_tp" else {})


def _default_preset(kind: str, axes: Mapping[str, int]) -> str:
    if kind != "train":
        return "replicated"
    return "tp" if "model" in axes else "dp"


def _faults_of_axes(kind: str, axes: Mapping[str, int]) -> Iterator[Issue]:
    legal = AXES[kind]
    for name in axes:
        if name not in legal:
            detail = f"unknown mesh axis {quoted(name)}; {nearest(name, legal)}: {_MEANING[kind]}"
            yield Issue(join("/mesh/axes", name), "unknown_axis", detail)
    if list(axes.values()).count(OPEN) > 1:
        yield Issue("/mesh/axes", "conflict", "only one axis may be -1; give the others a size")


def _faults_of_preset(kind: str, preset: str, axes: Mapping[str, int]) -> Iterator[Issue]:
    if kind != "train":
        if preset != "replicated":
            detail = 'a sampler has no parameters to spread: use "replicated"; the mesh axis "chains" spreads its chains'
            yield Issue("/mesh/sharding", "conflict", detail)
        return
    for axis in sharding.NEEDS[preset]:
        if axis not in axes:
            detail = f'"{preset}" needs a mesh axis "{axis}": add it to mesh.axes (its size may be 1), or choose another preset'
            yield Issue("/mesh/axes", "missing_axis", detail)


def _faults_of_rules(kind: str, overrides: Mapping[str, str | None], axes: Mapping[str, int]) -> Iterator[Issue]:
    for logical, axis in overrides.items():
        pointer = join("/mesh/rules", logical)
        if kind != "train":
            yield Issue(pointer, "conflict", "a sampler has no logical axes to place; leave rules out")
        elif logical not in sharding.LOGICAL_AXES:
            detail = f"unknown logical axis {quoted(logical)}; {nearest(logical, sharding.LOGICAL_AXES)}"
            yield Issue(pointer, "unknown_axis", detail)
        elif axis is not None and axis not in axes:
            detail = f"the mesh has no axis {quoted(axis)}; use {listed(axes)}, or null to replicate"
            yield Issue(pointer, "unknown_axis", detail)
