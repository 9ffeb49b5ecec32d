"""The device mesh of an attempt, and where each array lies on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jobs.errors import UserFault

HOST = "pinned_host"
"""The kind of memory that belongs to the host and that a device copies from directly."""


def build_mesh(axes: Mapping[str, int]) -> Mesh:
    """A mesh over the first devices of this process.

    Args:
        axes: axis sizes by name, in order; their product is the number of devices used.

    The axes are `Auto`: `jax.make_mesh` would make them `Explicit`, for which stock NNX layers are not written.
    """
    sizes = tuple(axes.values())
    needed = int(np.prod(sizes))
    devices = jax.devices()
    if needed > len(devices):
        raise UserFault("would_oom", f"the mesh needs {needed} devices and this worker's child has {len(devices)}", "/mesh/axes")
    return jax.make_mesh(sizes, tuple(axes), axis_types=(AxisType.Auto,) * len(sizes), devices=devices[:needed])


@dataclass(frozen=True)
class Layout:
    """A mesh and the rules that place logical axes on it.

    Hashable, so that modules may hold it as a static attribute.

    Attributes:
        mesh: the devices.
        rules: (logical axis, mesh axis or None) pairs; `batch` is the axis of examples.
    """

    mesh: Mesh
    rules: tuple[tuple[str, str | None], ...]

    def spec(self, logical: tuple[str | None, ...]) -> PartitionSpec:
        """The partition of an array whose dimensions bear these names, logical or of the mesh; an unnamed one is replicated."""
        table = {axis: axis for axis in self.mesh.axis_names} | dict(self.rules)
        return PartitionSpec(*(table.get(name) if name is not None else None for name in logical))

    def sharding(self, *logical: str | None) -> NamedSharding:
        """The sharding of an array whose dimensions bear these logical names."""
        return NamedSharding(self.mesh, self.spec(logical))

    def constrain(self, array: jax.Array, *logical: str | None) -> jax.Array:
        """Pin an intermediate value's sharding. Without it XLA sometimes gathers a whole activation to reshard it."""
        return jax.lax.with_sharding_constraint(array, self.sharding(*logical))

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of an array that every device holds whole."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def data_shards(self) -> int:
        """How many parts a batch is split into."""
        axis = dict(self.rules).get("batch")
        return self.mesh.shape[axis] if axis is not None else 1

    def of_parameter(self, path: str, shape: tuple[int, ...], logical: tuple[str | None, ...] | None) -> NamedSharding:
        """The sharding of a parameter.

        Raises:
            UserFault: a dimension does not divide by its mesh axis, or two dimensions claim the same axis.
        """
        spec = self.spec(logical or ())
        used = [axis for axis in spec if axis is not None]
        if len(set(used)) < len(used):
            raise UserFault("compile_failed", f"two dimensions of {path} are placed on the same mesh axis", "/mesh/rules")
        for size, axis in zip(shape, spec, strict=False):
            if axis is not None and size % self.mesh.shape[axis]:
                parts = self.mesh.shape[axis]
                raise UserFault("compile_failed", f"{path}: a dimension of {size} does not divide by {axis}={parts}", "/mesh/axes")
        return NamedSharding(self.mesh, spec)


def shapes_with(shardings: Any, shapes: Any) -> Any:
    """Join a tree of shapes with a tree of shardings to restore targets."""
    return jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), shapes, shardings)
