"""Writes a checkpoint with Orbax itself, as a worker's child does. Run as a script: the service's tests stay without JAX.

python orbax_checkpoint.py FOLDER (zarr2|zarr3) (state|draws)
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as ocp

STEP = 200


def arrays() -> dict[str, dict[str, np.ndarray]]:
    """What is saved, by section and dotted path."""
    random = np.random.default_rng(0)
    return {
        "params": {
            "blocks.0.attn.kernel": random.normal(size=(8, 6)).astype(np.float32),
            "blocks.0.attn.bias": random.normal(size=6).astype(jnp.bfloat16),
            "head.kernel": random.normal(size=(3, 5, 7)).astype(np.float16),
            "scale": np.array(2.5, np.float32),
            "mask": np.array([True, False, True]),
            "zeros": np.zeros((4, 4), np.float32),
        },
        "batch_stats": {"norm.mean": random.normal(size=5).astype(np.float32), "norm.count": np.array(7, np.int32)},
        "opt_state": {"0.mu.blocks.0.attn.kernel": random.normal(size=(8, 6)).astype(np.float32)},
        "rngs": {"default.key": np.array([0, 42], np.uint32)},
        "counters": {"step": np.array(STEP, np.int64)},
    }


def save(folder: Path, *, zarr3: bool, sections: set[str]) -> None:
    """Save on a mesh of four devices, the first kernel cut along it."""
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_enable_x64", True)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    cut = NamedSharding(mesh, PartitionSpec("data"))
    state = {
        section: {path: jax.device_put(array, cut if path == "blocks.0.attn.kernel" else None) for path, array in found.items()}
        for section, found in arrays().items()
        if section in sections
    }
    context = ocp.Context()
    context.array.saving.use_ocdbt = False
    context.array.saving.use_zarr3 = zarr3
    with context, ocp.training.Checkpointer(str(folder)) as checkpointer:
        checkpointer.save_checkpointables(STEP, {"state": state, "meta": {"position": 3, "kind": "train"}})


if __name__ == "__main__":
    wanted = set(arrays()) if sys.argv[3] == "state" else {"opt_state", "rngs", "counters"}
    save(Path(sys.argv[1]), zarr3=sys.argv[2] == "zarr3", sections=wanted)
