"""Networks for tables and pictures: a multilayer perceptron and a small convolutional network."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jobs.programs.models.setting import Setting, scaled

ACTIVATIONS = {"relu": jax.nn.relu, "gelu": jax.nn.gelu, "tanh": jnp.tanh, "silu": jax.nn.silu}


class MLP(nnx.Module):
    """(batch, in_features) → (batch, out_features) in float32, through hidden layers with an activation and dropout.

    Odd layers place their output on the logical axis `mlp`, even ones take it from there, so that a pair of layers needs one sum
    across a tensor-parallel mesh axis and no gather.
    """

    def __init__(self, model: dict[str, Any], setting: Setting, rngs: nnx.Rngs) -> None:
        types = {**setting.formats, "rngs": rngs}
        widths = [model["in_features"], *model["hidden"], model["out_features"]]
        pairs: list[tuple[str, str | None]] = [("embed", "mlp") if i % 2 == 0 else ("mlp", "embed") for i in range(len(widths) - 1)]
        pairs[-1] = (pairs[-1][0], None)  # the outputs are few, and belong to no axis
        self.layers = nnx.List(
            [
                nnx.Linear(a, b, kernel_init=scaled(*axes), **types)
                for a, b, axes in zip(widths[:-1], widths[1:], pairs, strict=True)
            ]
        )
        self.activation = model["activation"]
        self.dropout = nnx.Dropout(model["dropout"], rngs=rngs)
        self.setting = setting

    def __call__(self, x: jax.Array) -> jax.Array:
        """The network's outputs for a batch."""
        x = self.setting.layout.constrain(x.reshape(x.shape[0], -1), "batch", None)
        for at, layer in enumerate(self.layers[:-1]):
            x = self.dropout(self.setting.remat.wrap(_activated_by(ACTIVATIONS[self.activation]), at)(layer, x))
        return self.layers[-1](x).astype(jnp.float32)


class CNN(nnx.Module):
    """(batch, height, width, channels) → (batch, out_features) in float32: convolutions with pooling, then one hidden layer."""

    def __init__(self, model: dict[str, Any], setting: Setting, rngs: nnx.Rngs) -> None:
        types = {**setting.formats, "rngs": rngs}
        height, width, channels = model["in_shape"]
        size = (model["kernel_size"],) * 2
        widths = [channels, *model["channels"]]
        axes = (None, None, None, "mlp")
        self.convolutions = nnx.List(
            [nnx.Conv(a, b, size, kernel_init=scaled(*axes), **types) for a, b in itertools.pairwise(widths)]
        )
        for _ in model["channels"]:
            height, width = -(-height // 2), -(-width // 2)
        self.hidden = nnx.Linear(height * width * widths[-1], model["hidden"], kernel_init=scaled(None, "mlp"), **types)
        self.out = nnx.Linear(model["hidden"], model["out_features"], kernel_init=scaled("mlp", None), **types)
        self.dropout = nnx.Dropout(model["dropout"], rngs=rngs)
        self.in_shape, self.setting = tuple(model["in_shape"]), setting

    def __call__(self, x: jax.Array) -> jax.Array:
        """The network's outputs for a batch."""
        x = self.setting.layout.constrain(x.reshape(x.shape[0], *self.in_shape), "batch", None, None, None)
        for at, convolution in enumerate(self.convolutions):
            x = self.setting.remat.wrap(_convolved, at)(convolution, x)
        x = self.dropout(jax.nn.relu(self.hidden(x.reshape(x.shape[0], -1))))
        return self.out(x).astype(jnp.float32)


def _activated_by(activation: Callable[[jax.Array], jax.Array]) -> Callable[[nnx.Linear, jax.Array], jax.Array]:
    return lambda layer, x: activation(layer(x))


def _convolved(convolution: nnx.Conv, x: jax.Array) -> jax.Array:
    return nnx.max_pool(jax.nn.relu(convolution(x)), (2, 2), strides=(2, 2), padding="SAME")
