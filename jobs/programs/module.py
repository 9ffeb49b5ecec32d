"""An NNX module as flat dictionaries of arrays, and back.

A state that is only arrays by dotted path (`blocks.0.attention.qkv.kernel`) costs the least to pass through `jax.jit`, reads
the same in a checkpoint, in safetensors and in an error message, and needs no Flax to restore.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

Flat = dict[str, Any]


class ModuleForm:
    """The fixed part of a module: its graph, its paths and kinds of variable.

    Args:
        build: makes the module from random streams; called abstractly, nothing is allocated.
    """

    def __init__(self, build: Callable[[nnx.Rngs], nnx.Module]) -> None:
        self._build = build
        with nnx.use_eager_sharding(False):  # noqa: FBT003  (the library's signature)
            module = nnx.eval_shape(lambda: build(nnx.Rngs(jax.random.key(0))))
        self._graph, *parts = nnx.split(module, nnx.Param, nnx.RngState, ...)
        self._templates = [list(nnx.to_flat_state(part)) for part in parts]

    @property
    def logical_axes(self) -> dict[str, tuple[str | None, ...] | None]:
        """The logical axes that each parameter's dimensions were annotated with."""
        return {_dotted(path): variable.get_metadata().get("out_sharding") for path, variable in self._templates[0]}

    def fresh(self, seed: int) -> dict[str, Flat]:
        """New variables: `params`, `rngs` and, where the module has any, `batch_stats`."""
        with nnx.use_eager_sharding(False):  # noqa: FBT003  (the library's signature)
            return self.take(self._build(nnx.Rngs(jax.random.key(seed))))

    def take(self, module: nnx.Module) -> dict[str, Flat]:
        """The variables of a module by section."""
        _, *parts = nnx.split(module, nnx.Param, nnx.RngState, ...)
        flats = [{_dotted(path): variable.get_value() for path, variable in nnx.to_flat_state(part)} for part in parts]
        return {
            name: flat for name, flat in zip(("params", "rngs", "batch_stats"), flats, strict=True) if flat or name != "batch_stats"
        }

    def give(self, sections: dict[str, Flat]) -> Any:
        """The module that holds these variables."""
        names = ("params", "rngs", "batch_stats")
        states = [
            nnx.from_flat_state([(path, variable.replace(sections[name][_dotted(path)])) for path, variable in template])
            for name, template in zip(names, self._templates, strict=True)
        ]
        return nnx.merge(self._graph, *states)


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in path)
