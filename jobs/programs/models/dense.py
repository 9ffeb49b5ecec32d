"""Networks for tables and pictures: a multilayer perceptron and a small convolutional network."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jobs.programs.mesh import Layout

ACTIVATIONS = {"relu": jax.nn.relu, "gelu": jax.nn.gelu, "tanh": jnp.tanh, "silu": jax.nn.silu}


def _kernel(*logical: str | None) -> nnx.Initializer:
    return nnx.with_partitioning(nnx.initializers.lecun_normal(), logical)


class MLP(nnx.Module):
    """(batch, in_features) → (batch, out_features) in float32, through hidden layers with an activation and dropout.

    Odd layers place their output on the logical axis `mlp`, even ones take it from there, so that a pair of layers needs one sum
    across a tensor-parallel mesh axis and no gather.
    """

    def __init__(self, model: dict[str, Any], params: jnp.dtype, compute: jnp.dtype, layout: Layout, rngs: nnx.Rngs) -> None:
        types = {"dtype": compute, "param_dtype": params, "rngs": rngs}
        widths = [model["in_features"], *model["hidden"], model["out_features"]]
        pairs: list[tuple[str, str | None]] = [("embed", "mlp") if i % 2 == 0 else ("mlp", "embed") for i in range(len(widths) - 1)]
        pairs[-1] = (pairs[-1][0], None)  # the outputs are few, and belong to no axis
        self.layers = nnx.List(
            [
                nnx.Linear(a, b, kernel_init=_kernel(*axes), **types)
                for a, b, axes in zip(widths[:-1], widths[1:], pairs, strict=True)
            ]
        )
        self.activation = model["activation"]
        self.dropout = nnx.Dropout(model["dropout"], rngs=rngs)
        self.layout = layout

    def __call__(self, x: jax.Array) -> jax.Array:
        """The network's outputs for a batch."""
        x = self.layout.constrain(x.reshape(x.shape[0], -1), "batch", None)
        for layer in self.layers[:-1]:
            x = self.dropout(ACTIVATIONS[self.activation](layer(x)))
        return self.layers[-1](x).astype(jnp.float32)


class CNN(nnx.Module):
    """(batch, height, width, channels) → (batch, out_features) in float32: convolutions with pooling, then one hidden layer."""

    def __init__(self, model: dict[str, Any], params: jnp.dtype, compute: jnp.dtype, layout: Layout, rngs: nnx.Rngs) -> None:
        types = {"dtype": compute, "param_dtype": params, "rngs": rngs}
        height, width, channels = model["in_shape"]
        size = (model["kernel_size"],) * 2
        widths = [channels, *model["channels"]]
        axes = (None, None, None, "mlp")
        self.convolutions = nnx.List(
            [nnx.Conv(a, b, size, kernel_init=_kernel(*axes), **types) for a, b in itertools.pairwise(widths)]
        )
        for _ in model["channels"]:
            height, width = -(-height // 2), -(-width // 2)
        self.hidden = nnx.Linear(height * width * widths[-1], model["hidden"], kernel_init=_kernel(None, "mlp"), **types)
        self.out = nnx.Linear(model["hidden"], model["out_features"], kernel_init=_kernel("mlp", None), **types)
        self.dropout = nnx.Dropout(model["dropout"], rngs=rngs)
        self.in_shape, self.layout = tuple(model["in_shape"]), layout

    def __call__(self, x: jax.Array) -> jax.Array:
        """The network's outputs for a batch."""
        x = self.layout.constrain(x.reshape(x.shape[0], *self.in_shape), "batch", None, None, None)
        for convolution in self.convolutions:
            x = nnx.max_pool(jax.nn.relu(convolution(x)), (2, 2), strides=(2, 2), padding="SAME")
        x = self.dropout(jax.nn.relu(self.hidden(x.reshape(x.shape[0], -1))))
        return self.out(x).astype(jnp.float32)
