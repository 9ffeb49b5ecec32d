"""Bytes of arrays where they lie."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from jobs.programs.mesh import HOST
from jobs.programs.program import Program, is_key


def size_of(leaf: Any) -> int:
    """Bytes of an array, or of one of such a shape. A random key is two 32-bit integers."""
    return math.prod(leaf.shape) * (8 if is_key(leaf) else np.dtype(leaf.dtype).itemsize)


def on_device(leaf: Any) -> int:
    """Bytes of an array on the fullest device it lies on; none of one that lies in the host's memory."""
    sharding = getattr(leaf, "sharding", None)
    if getattr(sharding, "memory_kind", None) == HOST:
        return 0
    return size_of(leaf if sharding is None else jax.ShapeDtypeStruct(sharding.shard_shape(leaf.shape), leaf.dtype))


def state_bytes(program: Program) -> int:
    """Bytes of a program's state on the fullest device."""
    return sum(map(on_device, jax.tree.leaves(program.abstract())))
