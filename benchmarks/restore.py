"""How long a restore onto another mesh takes, with pieces of several sizes and with one piece a shard."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as ocp

from benchmarks.table import show, spread
from jobs.programs import stored

ROUNDS = 3
SIDE, LEAVES = 4096, 2
"""Arrays of 64 MiB, of which a shard on (4, 2) is half."""

SAVED_ON = (4, 2)
PIECES = {"one piece a shard": None, "pieces of 8 MiB": 8 * 2**20, "pieces of 2 MiB": 2 * 2**20}


def mesh_of(*sizes: int) -> Mesh:
    """A mesh over the first devices."""
    names = ("data", "model")[: len(sizes)]
    count = int(jnp.prod(jnp.asarray(sizes)))
    return jax.make_mesh(sizes, names, axis_types=(AxisType.Auto,) * len(sizes), devices=jax.devices()[:count])


def save(folder: Path, chunk_bytes: int | None) -> None:
    """Save arrays that lie split along `model` on four by two."""
    placed = NamedSharding(mesh_of(*SAVED_ON), PartitionSpec(None, "model"))
    keys = jax.random.split(jax.random.key(0), LEAVES)
    arrays = {f"{i}": jax.device_put(jax.random.normal(key, (SIDE, SIDE)), placed) for i, key in enumerate(keys)}
    context = stored.context()
    context.array.saving.storage_options.chunk_byte_size = chunk_bytes
    with context:
        ocp.save_checkpointables(str(folder), {"state": {"params": arrays}})


def restore(folder: Path, placed: NamedSharding) -> float:
    """Seconds of a restore."""
    target: dict[str, Any] = {f"{i}": jax.ShapeDtypeStruct((SIDE, SIDE), jnp.float32, sharding=placed) for i in range(LEAVES)}
    began = time.perf_counter()
    jax.block_until_ready(stored.read(folder, {"params": target}))
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    jax.config.update("jax_num_cpu_devices", 8)
    targets = {
        "(1)": NamedSharding(mesh_of(1), PartitionSpec()),
        "(8), by rows": NamedSharding(mesh_of(8), PartitionSpec("data")),
    }
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as name:
        for title, chunk_bytes in PIECES.items():
            folder = Path(name) / title.replace(" ", "-")
            save(folder, chunk_bytes)
            seconds = {to: [restore(folder, placed) for _ in range(ROUNDS)] for to, placed in targets.items()}
            rows.append([title, *(spread(found, " s") for found in seconds.values())])
    megabytes = LEAVES * SIDE * SIDE * 4 // 2**20
    show(f"Restores of {megabytes} MiB saved on (4, 2), {ROUNDS} runs: median (min to max)", ["saved in", *targets], rows)


if __name__ == "__main__":
    main()
