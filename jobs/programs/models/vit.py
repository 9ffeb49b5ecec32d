"""A transformer over the patches of a picture.

Source: Dosovitskiy et al. (2020), arXiv:2010.11929; the mean over patches instead of a token of its own after Beyer, Zhai and
Kolesnikov (2022), arXiv:2205.01580.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jobs.programs.models.blocks import INIT_STD, Shape, blocks_of, norm_of, through
from jobs.programs.models.setting import Setting, drawn, scaled


class ViT(nnx.Module):
    """(batch, height, width, channels) → (batch, out_features) in float32.

    Args:
        model: the resolved `model` section.
        setting: formats, mesh, remat.
        rngs: random streams.
    """

    def __init__(self, model: dict[str, Any], setting: Setting, rngs: nnx.Rngs) -> None:
        shape = _shape_of(model)
        height, width, channels = model["in_shape"]
        side, kinds = model["patch_size"], {**setting.formats, "rngs": rngs}
        self.grid = (height // side, width // side)
        self.patches = nnx.Linear(side * side * channels, shape.dim, kernel_init=scaled(None, "embed"), **kinds)
        self.position = nnx.Embed(self.grid[0] * self.grid[1], shape.dim, embedding_init=drawn(INIT_STD, None, "embed"), **kinds)
        self.dropout = nnx.Dropout(shape.dropout, rngs=rngs)
        self.blocks = blocks_of(shape, setting, rngs)
        self.norm = norm_of(shape, setting, rngs)
        self.head = nnx.Linear(shape.dim, model["out_features"], kernel_init=drawn(INIT_STD, "embed", None), **kinds)
        self.in_shape, self.side, self.setting = tuple(model["in_shape"]), side, setting

    def __call__(self, x: jax.Array) -> jax.Array:
        """The network's outputs for a batch."""
        rows, columns = self.grid
        x = x.reshape(x.shape[0], rows, self.side, columns, self.side, self.in_shape[-1])
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape[0], rows * columns, -1)
        x = self.patches(x) + self.position(jnp.arange(rows * columns))
        x = self.setting.layout.constrain(self.dropout(x), "batch", None, None)
        x = self.norm(through(self.blocks, x, self.setting))
        x = jnp.mean(x, axis=1, dtype=jnp.float32).astype(x.dtype)
        return self.head(x).astype(jnp.float32)


def _shape_of(model: dict[str, Any]) -> Shape:
    same = ("dim", "n_layers", "n_heads", "mlp_dim", "activation", "norm", "use_bias", "dropout", "attention")
    sizes = {name: model[name] for name in same}
    return Shape(**sizes, n_kv_heads=model["n_heads"], causal=False, rotary_base=None, scan=model["scan_layers"])
