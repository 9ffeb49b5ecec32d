"""When the devices have no memory left: what fills it, by name, and the next setting that is likely to fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax

from jobs.errors import JobError, UserFault
from jobs.programs.program import Program, flatten
from worker import devices

MOST_NAMED = 5
LONGEST_CAUSE = 300
Suggestion = tuple[str, str]
"""A pointer into the spec, and what to do there."""


def is_shortage(error: BaseException) -> bool:
    """Whether an exception says that memory has run out. A full disk uses the same word for itself."""
    text = str(error)
    full = "RESOURCE_EXHAUSTED" in text or "Out of memory" in text
    return isinstance(error, MemoryError) or (full and "No space left" not in text)


@contextmanager
def explained(program: Program, spec: Mapping[str, Any], doing: str = "the job") -> Iterator[None]:
    """While inside, memory that has run out becomes the job's error `oom`.

    Args:
        program: what is run: its state tells what fills the memory.
        spec: its resolved spec.
        doing: what for, in words.

    Raises:
        UserFault: `oom`.
    """
    try:
        yield
    except JobError:
        raise
    except Exception as error:
        if not is_shortage(error):
            raise
        raise shortage(program, spec, str(error), devices.describe()["memory_bytes"], doing) from error


def shortage(program: Program, spec: Mapping[str, Any], cause: str, memory_bytes: int, doing: str) -> UserFault:
    """The error `oom` with the largest buffers and what to try next."""
    each = _bytes_on_one_device(program)
    largest = sorted(each.items(), key=lambda item: -item[1])[:MOST_NAMED]
    totals: dict[str, int] = {}
    for path, size in each.items():
        section = path.partition(".")[0]
        totals[section] = totals.get(section, 0) + size
    if "opt_state" in totals:
        totals["gradients"] = totals["params"]
    tips = list(_suggestions(spec, sum(totals.values()), memory_bytes))
    told = (
        f"the devices ran out of memory in {doing} ({' '.join(cause.split())[:LONGEST_CAUSE]}). "
        f"Largest on one device: {', '.join(f'{path} {_size(size)}' for path, size in largest)}. "
        f"In all: {', '.join(f'{name} {_size(size)}' for name, size in totals.items())}, beside activations, "
        f"of {_size(memory_bytes)}. "
        f"Next, {'; or '.join(words for _, words in tips[:3])}."
    )
    return UserFault("oom", told, tips[0][0])


def _bytes_on_one_device(program: Program) -> dict[str, int]:
    found: dict[str, int] = {}
    for section, tree in program.abstract().items():
        for path, leaf in flatten(tree).items():
            shape = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding is not None else leaf.shape
            found[f"{section}.{path}"] = math.prod(shape) * leaf.dtype.itemsize
    return found


def _suggestions(spec: Mapping[str, Any], state_bytes: int, memory_bytes: int) -> Iterator[Suggestion]:
    """What to try, the likeliest to help first: a state that fills the memory must be spread, else activations must shrink."""
    if spec["kind"] != "train":
        yield from _for_sampling(spec)
        return
    crowded = state_bytes > memory_bytes / 2
    if crowded:
        yield from _spreading(spec, state_bytes, memory_bytes)
    yield from _shrinking(spec)
    if not crowded:
        yield from _spreading(spec, state_bytes, memory_bytes)


def _spreading(spec: Mapping[str, Any], state_bytes: int, memory_bytes: int) -> Iterator[Suggestion]:
    axes, preset = spec["mesh"]["axes"], spec["mesh"]["sharding"]
    if preset in ("replicated", "dp", "tp") and axes.get("data", 1) > 1:
        better = "fsdp_tp" if preset == "tp" else "fsdp"
        yield "/mesh/sharding", f'set mesh.sharding to "{better}", which splits parameters and optimizer state over the data axis'
    count = jax.device_count()
    more = max(2 * count, count * math.ceil(2 * state_bytes / max(memory_bytes, 1)))
    yield "/mesh/axes", f'take more devices with mesh.sharding "fsdp", about {more}, or a smaller model'


def _shrinking(spec: Mapping[str, Any]) -> Iterator[Suggestion]:
    pieces, batch = spec["grad_accumulation"], spec["data"]["batch_size"]
    parts = spec["mesh"]["axes"].get("data", 1)
    if batch % (2 * pieces) == 0 and batch // (2 * pieces) % max(parts, 1) == 0:
        yield "/grad_accumulation", f"set grad_accumulation to {2 * pieces}, which halves the activations and changes no update"
    if spec["remat"] == "none":
        yield "/remat", 'set remat to "full", which keeps each block\'s inputs alone'
    if spec["precision"]["compute"] == "float32":
        yield "/precision/compute", 'set precision.compute to "bfloat16"'
    yield "/data/batch_size", f"set data.batch_size to {max(1, batch // 2)}"


def _for_sampling(spec: Mapping[str, Any]) -> Iterator[Suggestion]:
    if spec["checkpoint"]["every_draws"] > 50:
        yield "/checkpoint/every_draws", "set checkpoint.every_draws lower: the draws of one block lie on the devices"
    if spec["chain_method"] != "sequential":
        yield "/chain_method", 'set chain_method to "sequential", which runs the chains of a device one after another'
    yield "/num_chains", "run fewer chains, or spread them over more devices with the mesh axis chains"


def _size(count: int) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024  # type: ignore[assignment]
    return f"{count:.4g} TiB"
