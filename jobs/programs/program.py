"""The one protocol of every job: `init` gives a state, `advance` takes it one block further.

A block is a fixed number of optimizer steps or of draws. The state holds everything that the future of a run depends on; what a
block puts out for good (metrics, draws) leaves with the block and is never carried along. So one run loop, one checkpoint
format and one way to stop serve training and sampling alike.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from jobs.errors import UserFault
from jobs.programs.outputs import Outputs

PyTree = Any
PLAIN_NAME = re.compile(r"[\w.\-]{1,100}")
Sections = dict[str, PyTree]
"""The arrays of a state by section: `params`, `opt_state`, `rngs`, `counters`, …; `kernel_state` for a sampler."""


@dataclass(frozen=True)
class State:
    """Where a run stands.

    Attributes:
        step: optimizer updates done, or transitions of every chain, warm-up included.
        sections: device arrays by section.
        position: where the data stands, `{"next_index": n}`: the batches consumed so far.
    """

    step: int
    sections: Sections
    position: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class Measurement:
    """Values measured at one step. Device scalars, or with `label` arrays of shape (k,): one value for each of `label` 0 … k-1."""

    step: int
    values: Mapping[str, Any]
    label: str | None = None


@dataclass(frozen=True)
class Block:
    """What one `advance` puts out.

    Attributes:
        step: the step it reaches.
        metrics: to be read later, off the step path.
        ready: a small device array of this block, to wait on when too many blocks are in flight.
        draws: host arrays of shape (chains, draws, …) to be kept for good, by site; None where a block draws nothing.
    """

    step: int
    metrics: list[Measurement]
    ready: jax.Array
    draws: Mapping[str, np.ndarray] | None = None


class NotFinite(UserFault):
    """A step put out a number that is not finite, and the job is to end there.

    Args:
        step: the step.
        message: what was seen and what to do.
        param: JSON Pointer to what is to blame.
    """

    def __init__(self, step: int, message: str, param: str) -> None:
        super().__init__("nan_loss", message, param)
        self.step = step


@dataclass(frozen=True)
class Finding:
    """Where a number that is not finite came from: a sentence or two, and a pointer to what is to blame."""

    told: str
    param: str


@dataclass(frozen=True)
class Effort:
    """What one step of a program takes.

    Attributes:
        rate: the name of its rate: `tokens_per_second`.
        in_step: how many of those units a step has.
        flops: floating-point operations of a step; None where they cannot be told.
    """

    rate: str
    in_step: int
    flops: float | None


class Program(Protocol):
    """A job that can be run block by block."""

    total: int
    """Steps or transitions after which it is done."""

    unit: str

    def init(self) -> State:
        """The state at step 0, already placed on the mesh."""
        ...

    def abstract(self) -> Sections:
        """The sections of a state as `jax.ShapeDtypeStruct` with shardings: the target to restore into."""
        ...

    def adopt(self, state: State, params: Sections) -> State:
        """A fresh state that starts from the parameters of another job."""
        ...

    def place(self, step: int, sections: Sections, position: dict[str, int]) -> State:
        """Take up a restored state."""
        ...

    def compile(self, state: State) -> None:
        """Compile `advance` for this state, ahead of the first call."""
        ...

    @property
    def executable(self) -> jax.stages.Compiled | None:
        """What `compile` has made; None before, and where nothing is compiled."""
        ...

    def lower(self, sections: Sections) -> jax.stages.Lowered:
        """What `compile` compiles, for arrays or their shapes: it allocates nothing."""
        ...

    def phase(self, state: State) -> str:
        """The phase in which the next block runs: `training`, `warmup`, `sampling`."""
        ...

    def fetch(self, state: State) -> None:
        """Wait for the data that the next block needs. `advance` does so itself where it has not been done."""
        ...

    def advance(self, state: State) -> tuple[State, Block]:
        """One block further. The given state's arrays are donated: they must not be used again."""
        ...

    def effort(self) -> Effort | None:
        """What a step takes; None where steps differ, as a sampler's do."""
        ...

    def settle(self, block: Block) -> None:
        """Wait until a block is done on the devices. Raises UserFault where it shows that the job cannot go on."""
        ...

    def explain(self, state: State) -> Finding | None:
        """Do the block after this state once more, slowly, to find what raised NotFinite; None where it does not happen again."""
        ...

    def saves_at(self, step: int) -> bool:
        """Whether the state after `step` is to be kept. The last one always is."""
        ...

    def evaluates_at(self, step: int) -> bool:
        """Whether `evaluate` belongs to this step."""
        ...

    def evaluate(self, state: State, outputs: Outputs, interrupted: Callable[[], bool]) -> Measurement | None:
        """Measure the state; None if `interrupted` said to leave off before the end."""
        ...

    def stops(self, step: int, outputs: Outputs) -> str | None:
        """The reason to stop early at this step, or None: a function of the run so far alone, so that a resumed run agrees."""
        ...

    def companions(self, folder: Path) -> list[str]:
        """Write the files that a user of a saved state needs beside it; gives their names."""
        ...

    def result(self, state: State, outputs: Outputs, stopped_by: str) -> tuple[dict[str, Any], list[str]]:
        """The job's result, and the artifacts written into the folder of outputs for it."""
        ...


@runtime_checkable
class Concluding(Protocol):
    """A program that puts something out for the state it ends with, which is to be saved with that state."""

    def conclude(self, state: State, outputs: Outputs) -> None:
        """Put it out, unless it is there already."""
        ...


def flatten(tree: PyTree) -> dict[str, jax.Array]:
    """A pytree as one flat dictionary by dotted path; random keys become their `uint32` data.

    The names are what a checkpoint shows: `blocks.0.attention.qkv.kernel`, `1.0.mu.head.kernel`.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_dotted(path): _plain(leaf) for path, leaf in leaves}


def unflatten(template: PyTree, flat: Mapping[str, jax.Array]) -> PyTree:
    """The inverse of `flatten` for a tree of the template's structure. Raises KeyError for a leaf that is missing."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    return jax.tree_util.tree_unflatten(structure, [_typed(leaf, flat[_dotted(path)]) for path, leaf in leaves])


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(_component(jax.tree_util.keystr((part,), simple=True)) for part in path)


def _component(name: str) -> str:
    # A kernel names blocks of its mass matrix by the tuple of all sites in them: no file could bear such a name.
    return name if PLAIN_NAME.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()[:12]


def is_key(leaf: Any) -> bool:
    """Whether a leaf is a typed random key."""
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> Any:
    if not is_key(leaf):
        return leaf
    if isinstance(leaf, jax.ShapeDtypeStruct):
        data = jax.eval_shape(jax.random.key_data, leaf)
        return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=leaf.sharding)
    return jax.random.key_data(leaf)


def _typed(template: Any, value: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(value) if is_key(template) else value
