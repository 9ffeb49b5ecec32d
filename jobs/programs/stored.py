"""States as they lie on disk: Orbax's free functions, set as all of this project's checkpoints are written and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

Flat = dict[str, jax.Array]

CHUNK_BYTES = 32 * 1024 * 1024
"""Largest piece of an array that is stored as one: a restore onto another mesh then reads little more than it needs."""

PARAMETERS = ("params", "batch_stats")
"""The sections that a model is made of."""


def context(*, partial: bool = False) -> ocp.Context:
    """How states are written and read.

    Args:
        partial: leave what is not asked for unread.
    """
    made = ocp.Context()
    made.array.saving.use_ocdbt = False
    made.array.saving.use_zarr3 = True
    made.array.saving.use_replica_parallel = False
    made.array.saving.storage_options.chunk_byte_size = CHUNK_BYTES
    if partial:
        made.pytree.loading.partial_load = True
    return made


def shapes(folder: Path) -> dict[str, Flat]:
    """Shape and dtype of every array of a checkpoint's state, by section and dotted path."""
    return ocp.checkpointables_metadata(str(folder)).metadata["state"]


def read(folder: Path, wanted: dict[str, Any]) -> dict[str, Flat]:
    """Some arrays of a checkpoint's state.

    Args:
        folder: the checkpoint.
        wanted: `jax.ShapeDtypeStruct` with shardings, by section and dotted path.
    """
    with context(partial=True):
        return ocp.load_checkpointables(str(folder), {"state": wanted})["state"]
