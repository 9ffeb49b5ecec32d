"""A residual network of convolutions with batch statistics, which are part of the state and stand still in evaluation.

Source: He et al. (2015), arXiv:1512.03385, with the last scale of each block at zero after Goyal et al. (2017), arXiv:1706.02677.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jobs.programs.models.setting import Setting, drawn, scaled


class ResidualBlock(nnx.Module):
    """Two convolutions past which the input is added: (batch, height, width, channels), halved where `stride` is 2."""

    def __init__(self, channels: int, out: int, stride: int, setting: Setting, rngs: nnx.Rngs) -> None:
        self.first = _convolution(channels, out, 3, stride, setting, rngs)
        self.first_norm = _norm(out, setting, rngs)
        self.second = _convolution(out, out, 3, 1, setting, rngs)
        self.second_norm = _norm(out, setting, rngs, scale_init=nnx.initializers.zeros_init())
        self.changes = stride != 1 or channels != out
        if self.changes:
            self.shortcut = _convolution(channels, out, 1, stride, setting, rngs)
            self.shortcut_norm = _norm(out, setting, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolve, and add."""
        out = jax.nn.relu(self.first_norm(self.first(x)))
        out = self.second_norm(self.second(out))
        return jax.nn.relu(out + (self.shortcut_norm(self.shortcut(x)) if self.changes else x))


class ResNet(nnx.Module):
    """(batch, height, width, channels) → (batch, out_features) in float32.

    Args:
        model: the resolved `model` section: `in_shape, stages, widths, stem, out_features, dropout`.
        setting: formats, mesh, remat.
        rngs: random streams.
    """

    def __init__(self, model: dict[str, Any], setting: Setting, rngs: nnx.Rngs) -> None:
        widths, self.large = model["widths"], model["stem"] == "large"
        size, stride = (7, 2) if self.large else (3, 1)
        self.stem = _convolution(model["in_shape"][-1], widths[0], size, stride, setting, rngs, inside=None)
        self.stem_norm = _norm(widths[0], setting, rngs)
        self.blocks = nnx.List(list(_blocks(model["stages"], widths, setting, rngs)))
        self.dropout = nnx.Dropout(model["dropout"], rngs=rngs)
        kernel_init = drawn(widths[-1] ** -0.5, "embed", None)
        self.head = nnx.Linear(widths[-1], model["out_features"], kernel_init=kernel_init, **setting.formats, rngs=rngs)
        self.in_shape, self.setting = tuple(model["in_shape"]), setting

    def __call__(self, x: jax.Array) -> jax.Array:
        """The network's outputs for a batch."""
        x = self.setting.layout.constrain(x.reshape(x.shape[0], *self.in_shape), "batch", None, None, None)
        x = jax.nn.relu(self.stem_norm(self.stem(x)))
        if self.large:
            x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        for at, block in enumerate(self.blocks):
            x = self.setting.remat.wrap(ResidualBlock.__call__, at)(block, x)
        x = jnp.mean(x, axis=(1, 2), dtype=jnp.float32).astype(x.dtype)
        return self.head(self.dropout(x)).astype(jnp.float32)


def _blocks(stages: list[int], widths: list[int], setting: Setting, rngs: nnx.Rngs) -> Any:
    """The blocks of all stages; each stage but the first begins by halving height and width."""
    channels = widths[0]
    for at, (count, width) in enumerate(zip(stages, widths, strict=True)):
        for block in range(count):
            yield ResidualBlock(channels, width, 2 if at > 0 and block == 0 else 1, setting, rngs)
            channels = width


def _convolution(
    channels: int, out: int, size: int, stride: int, setting: Setting, rngs: nnx.Rngs, inside: str | None = "embed"
) -> nnx.Conv:
    kinds: dict[str, Any] = {"kernel_init": scaled(None, None, inside, "mlp"), "use_bias": False, **setting.formats}
    return nnx.Conv(channels, out, (size, size), strides=(stride, stride), rngs=rngs, **kinds)


def _norm(features: int, setting: Setting, rngs: nnx.Rngs, **more: Any) -> nnx.BatchNorm:
    return nnx.BatchNorm(features, momentum=0.9, **more, **setting.formats, rngs=rngs)
