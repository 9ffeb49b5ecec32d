"""What a network is built with beside its own arguments: number formats, the mesh, and what is kept for the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jobs.programs.mesh import HOST, Layout
from jobs.spec.optimizers import is_curved

FLOAT32 = jnp.dtype("float32")
SHORT = {"full": "nothing_saveable", "dots": "dots_saveable", "dots_with_no_batch_dims": "dots_with_no_batch_dims_saveable"}
"""Short names of policies of `jax.checkpoint_policies`; the library's own names are taken too."""

OFFLOADING = "offload_dot_with_no_batch_dims"
"""The policy of JAX that takes its arguments: it copies products to the host and back instead of computing them again."""


@dataclass(frozen=True)
class Remat:
    """Which activations are computed again in the backward pass instead of being kept.

    Attributes:
        policy: `none`, a short name, or the name of a policy of `jax.checkpoint_policies`.
        every: it goes for each `every`-th block, the first among them.
    """

    policy: str = "none"
    every: int = 1

    @classmethod
    def of(cls, remat: str | dict[str, Any]) -> Remat:
        """From the field `remat` of a resolved spec."""
        return cls(remat) if isinstance(remat, str) else cls(**remat)

    def wrap(self, call: Callable[..., Any], at: int) -> Callable[..., Any]:
        """A block's call, as function of the block and its input, with the policy applied where it is meant for block `at`."""
        if self.policy == "none" or at % self.every:
            return call
        policy = getattr(jax.checkpoint_policies, SHORT.get(self.policy, self.policy))
        return nnx.remat(call, policy=policy("device", HOST) if self.policy == OFFLOADING else policy)


@dataclass(frozen=True)
class Setting:
    """What is the same for every layer of a network.

    Attributes:
        layout: the mesh, and where logical axes lie on it.
        params, compute: formats of the parameters and of the arithmetic.
        remat: what is computed again in the backward pass.
        fuses: whether fused attention may be chosen, which is differentiated once, and backwards.
    """

    layout: Layout
    params: Any = FLOAT32
    compute: Any = FLOAT32
    remat: Remat = Remat()
    fuses: bool = True

    @classmethod
    def of(cls, spec: dict[str, Any], layout: Layout) -> Setting:
        """From a resolved spec."""
        precision = spec["precision"]
        formats = jnp.dtype(precision["params"]), jnp.dtype(precision["compute"])
        return cls(layout, *formats, Remat.of(spec["remat"]), fuses=not is_curved(spec["optimizer"]))

    @property
    def formats(self) -> dict[str, Any]:
        """The formats under the names that layers of Flax give them."""
        return {"dtype": self.compute, "param_dtype": self.params}


def drawn(std: float, *logical: str | None) -> nnx.Initializer:
    """Normal weights of this standard deviation, on these logical axes."""
    return nnx.with_partitioning(nnx.initializers.normal(std), logical)


def scaled(*logical: str | None) -> nnx.Initializer:
    """Weights that keep the variance of what comes in (LeCun normal), on these logical axes."""
    return nnx.with_partitioning(nnx.initializers.lecun_normal(), logical)


def orthogonal(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """An orthogonal matrix, made in float32 at least: there is no QR decomposition in shorter formats."""
    return nnx.initializers.orthogonal()(key, shape, jnp.promote_types(dtype, jnp.float32)).astype(dtype)
