"""How long training stands still for a checkpoint: our asynchronous save over Orbax's synchronous one of the same state."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp

from benchmarks.table import show, spread
from jobs.programs.program import State
from worker.checkpoint import Saver

ROUNDS = 7
SIZES_MIB = (8, 64, 256)
LEAVES = 48


def state_of(mebibytes: int, seed: int) -> State:
    """A state of random float32 arrays, which do not compress."""
    side = mebibytes * 1024 * 1024 // 4 // LEAVES
    keys = jax.random.split(jax.random.key(seed), LEAVES)
    params = {f"layer.{i}.kernel": jax.random.normal(key, (side // 256, 256), jnp.float32) for i, key in enumerate(keys)}
    return State(seed + 1, jax.block_until_ready({"params": params}), {"next_index": 0})


def synchronous(state: State, folder: Path) -> float:
    """Seconds of Orbax's own blocking save."""
    context = ocp.Context()
    context.array.saving.use_ocdbt = False
    began = time.perf_counter()
    with context:
        ocp.save_checkpointables(str(folder / str(state.step)), {"state": state.sections})
    return time.perf_counter() - began


def asynchronous(state: State, saver: Saver) -> tuple[float, float]:
    """Seconds that `save` blocks, and seconds until the state is durable."""
    began = time.perf_counter()
    saver.save(state, {}, must=True)
    blocked = time.perf_counter() - began
    saver.wait()
    return blocked, time.perf_counter() - began


def _ignore(step: int, measured: dict[str, float]) -> None:
    """Nobody is told."""


def main() -> None:
    """Measure and print."""
    rows: list[list[str]] = []
    for size in SIZES_MIB:
        blocked, whole, plain = [], [], []
        with tempfile.TemporaryDirectory() as name:
            saver = Saver(Path(name) / "ours", _ignore, {})
            asynchronous(state_of(size, 100), saver)
            for i in range(ROUNDS):
                state = state_of(size, i)
                stood, took = asynchronous(state, saver)
                blocked.append(stood)
                whole.append(took)
                plain.append(synchronous(state, Path(name) / "plain"))
            saver.close()
        ratios = [a / b for a, b in zip(blocked, plain, strict=True)]
        rows.append([f"{size} MiB", spread(blocked, " s"), spread(whole, " s"), spread(plain, " s"), spread(ratios)])
    header = ["state", "blocked, asynchronous", "until durable", "blocked, synchronous", "ratio blocked"]
    show(f"Checkpoints, {ROUNDS} runs: median (min to max)", header, rows)


if __name__ == "__main__":
    main()
