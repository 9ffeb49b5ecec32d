"""Blocks of attention and a feed-forward network, and stacks of them: what language models and pictures share.

Source: Vaswani et al. (2017), arXiv:1706.03762; initialisation of the residual projections after Radford et al. (2019), GPT-2,
§2.3; rotary positions after Su et al. (2021), arXiv:2104.09864; grouped queries after Ainslie et al. (2023), arXiv:2305.13245;
gated networks after Shazeer (2020), arXiv:2002.05202.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jobs.errors import UserFault
from jobs.programs.models.setting import Setting, drawn

INIT_STD = 0.02
GATED = {"swiglu": jax.nn.silu, "geglu": jax.nn.gelu}
PLAIN = {"gelu": jax.nn.gelu, "relu": jax.nn.relu, "silu": jax.nn.silu}
FUSED_FORMATS = ("bfloat16", "float16")
LARGEST_FUSED_HEAD = 128


@dataclass(frozen=True)
class Shape:
    """The sizes and choices of a stack's blocks.

    Attributes:
        dim: features of the residual stream.
        n_layers, n_heads, n_kv_heads: blocks, heads of queries, heads of keys and values.
        mlp_dim: features inside the feed-forward network.
        activation: `gelu`, `relu`, `silu`, or the gated `swiglu`, `geglu`.
        norm: `rmsnorm` or `layernorm`.
        use_bias: whether linear maps add a bias.
        dropout: on what each half of a block adds.
        causal: whether a position sees those before it alone.
        rotary_base: the base of the wavelengths of rotary positions; None: no rotation.
        attention: `auto`, `xla` or `cudnn`.
        scan: whether the blocks are one stacked block that is scanned over.
    """

    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    mlp_dim: int
    activation: str
    norm: str
    use_bias: bool
    dropout: float
    causal: bool
    rotary_base: float | None
    attention: str
    scan: bool

    @property
    def head_dim(self) -> int:
        """Features of a head."""
        return self.dim // self.n_heads

    @property
    def residual_std(self) -> float:
        """Of the weights that write to the residual stream, so that its variance does not grow with depth."""
        return INIT_STD / (2 * self.n_layers) ** 0.5


def rotate(x: jax.Array, base: float) -> jax.Array:
    """Turn each pair of features by an angle that grows with the position.

    Args:
        x: (batch, length, heads, features), features even.
        base: of the wavelengths, which go from 2π to nearly 2π times it.

    Returns: an array of the same shape.
    """
    length, half = x.shape[1], x.shape[-1] // 2
    rates = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = jnp.arange(length, dtype=jnp.float32)[:, None] * rates
    cos, sin = jnp.cos(angles)[None, :, None, :].astype(x.dtype), jnp.sin(angles)[None, :, None, :].astype(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)


def has_fused_attention(device: Any) -> bool:
    """Whether cuDNN has flash attention for a device: an NVIDIA GPU of compute capability 8.0 or more."""
    if device.platform != "gpu" or "cuda" not in device.client.platform_version:
        return False
    return int(device.compute_capability.split(".")[0]) >= 8


def attention_of(wanted: str, setting: Setting, head_dim: int) -> Literal["xla", "cudnn"]:
    """The implementation of attention on this process's devices: `cudnn` where it is wanted or can be had, else `xla`.

    Raises:
        UserFault: `cudnn` is wanted, and these devices or formats have none.
    """
    if wanted == "xla":
        return "xla"
    has_device = has_fused_attention(setting.layout.mesh.devices.flat[0])
    fits = setting.fuses and setting.compute.name in FUSED_FORMATS and head_dim % 8 == 0 and head_dim <= LARGEST_FUSED_HEAD
    if has_device and fits:
        return "cudnn"
    if wanted == "cudnn":
        needs = "bfloat16 and heads of 8, 16, … 128 features" if has_device else "an NVIDIA GPU from Ampere on, which is not here"
        raise UserFault("compile_failed", f'fused attention needs {needs}: set model.attention to "auto"', "/model/attention")
    return "xla"


class Attention(nnx.Module):
    """Multi-head self-attention: (batch, length, dim) → the same. Groups of query heads may share a head of keys and values."""

    def __init__(self, shape: Shape, setting: Setting, rngs: nnx.Rngs) -> None:
        kinds = {**setting.formats, "use_bias": shape.use_bias, "rngs": rngs}
        heads, features = shape.n_heads, shape.head_dim
        self.grouped = shape.n_kv_heads < heads
        if self.grouped:
            self.q = nnx.LinearGeneral(shape.dim, (heads, features), kernel_init=drawn(INIT_STD, "embed", "heads", None), **kinds)
            kv_init = drawn(INIT_STD, "embed", None, "kv_heads", None)
            self.kv = nnx.LinearGeneral(shape.dim, (2, shape.n_kv_heads, features), kernel_init=kv_init, **kinds)
        else:
            qkv_init = drawn(INIT_STD, "embed", None, "heads", None)
            self.qkv = nnx.LinearGeneral(shape.dim, (3, heads, features), kernel_init=qkv_init, **kinds)
        out_init = drawn(shape.residual_std, "heads", None, "embed")
        self.out = nnx.LinearGeneral((heads, features), shape.dim, axis=(-2, -1), kernel_init=out_init, **kinds)
        self.rotary_base, self.causal, self.layout = shape.rotary_base, shape.causal, setting.layout
        self.implementation: Literal["xla", "cudnn"] = attention_of(shape.attention, setting, features)
        self.of_any_length = shape.attention == "auto"

    def __call__(self, x: jax.Array, documents: jax.Array | None = None) -> jax.Array:
        """Mix the values of positions; with the number of each one's document, (batch, length), those of one document alone."""
        q, k, v = self._projected(x)
        if self.rotary_base is not None:
            q, k = rotate(q, self.rotary_base), rotate(k, self.rotary_base)
        shared = "kv_heads" if self.grouped else "heads"
        q = self.layout.constrain(q, "batch", None, "heads", None)
        k, v = (self.layout.constrain(part, "batch", None, shared, None) for part in (k, v))
        if documents is not None:  # cuDNN takes such a mask as a bias, which not every transformation of it knows
            same = documents[:, None, :, None] == documents[:, None, None, :]
            mixed = jax.nn.dot_product_attention(q, k, v, mask=same, is_causal=self.causal, implementation="xla")
        else:
            fused = self.implementation if x.shape[1] % 2 == 0 or not self.of_any_length else "xla"  # cuDNN trains on even lengths
            mixed = jax.nn.dot_product_attention(q, k, v, is_causal=self.causal, implementation=fused)
        return self.out(mixed)

    def _projected(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        if self.grouped:
            kv = self.kv(x)
            return self.q(x), kv[:, :, 0], kv[:, :, 1]
        qkv = self.qkv(x)
        return qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]


class FeedForward(nnx.Module):
    """Two linear maps with a nonlinearity between, or, where it is gated, a product of two: (…, dim) → (…, dim)."""

    def __init__(self, shape: Shape, setting: Setting, rngs: nnx.Rngs) -> None:
        kinds = {**setting.formats, "use_bias": shape.use_bias, "rngs": rngs}
        self.up = nnx.Linear(shape.dim, shape.mlp_dim, kernel_init=drawn(INIT_STD, "embed", "mlp"), **kinds)
        self.down = nnx.Linear(shape.mlp_dim, shape.dim, kernel_init=drawn(shape.residual_std, "mlp", "embed"), **kinds)
        self.gated = shape.activation in GATED
        if self.gated:
            self.gate = nnx.Linear(shape.dim, shape.mlp_dim, kernel_init=drawn(INIT_STD, "embed", "mlp"), **kinds)
        self.activation, self.layout = shape.activation, setting.layout

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transform each position by itself."""
        # As rows of one matrix: with more axes XLA on the CPU lays the gradient of what is inside out anew for the weights', and
        # computes it once more on the way (a fifth of a small model's step).
        rows = self.layout.constrain(self._hidden(x.reshape(-1, x.shape[-1])), "batch", "mlp")
        return self.down(rows).reshape(x.shape)

    def _hidden(self, x: jax.Array) -> jax.Array:
        if self.gated:
            return GATED[self.activation](self.gate(x)) * self.up(x)
        return PLAIN[self.activation](self.up(x))


def norm_of(shape: Shape, setting: Setting, rngs: nnx.Rngs) -> nnx.Module:
    """A normalisation over features."""
    if shape.norm == "rmsnorm":
        return nnx.RMSNorm(shape.dim, **setting.formats, rngs=rngs)
    return nnx.LayerNorm(shape.dim, use_bias=shape.use_bias, **setting.formats, rngs=rngs)


class Block(nnx.Module):
    """Attention, then a feed-forward network, each on a normalised input and added to the residual stream."""

    def __init__(self, shape: Shape, setting: Setting, rngs: nnx.Rngs) -> None:
        self.attention_norm = norm_of(shape, setting, rngs)
        self.attention = Attention(shape, setting, rngs)
        self.mlp_norm = norm_of(shape, setting, rngs)
        self.mlp = FeedForward(shape, setting, rngs)
        self.dropout = nnx.Dropout(shape.dropout, rngs=rngs)
        self.layout = setting.layout

    def __call__(self, x: jax.Array, documents: jax.Array | None = None) -> jax.Array:
        """Attend, then transform."""
        x = x + self.dropout(self.attention(self.attention_norm(x), documents))
        x = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return self.layout.constrain(x, "batch", None, None)


def blocks_of(shape: Shape, setting: Setting, rngs: nnx.Rngs) -> Any:
    """The blocks of a stack: a list of them, or one whose arrays have a first axis of layers that lies on no mesh axis.

    One block to scan over compiles in a time that does not grow with depth; a list leaves more for the compiler to fuse.
    """
    if not shape.scan:
        return nnx.List([Block(shape, setting, rngs) for _ in range(shape.n_layers)])

    @nnx.split_rngs(splits=shape.n_layers)
    @nnx.vmap(in_axes=0, out_axes=0, transform_metadata={nnx.PARTITION_NAME: None})
    def stacked(rngs: nnx.Rngs) -> Block:
        return Block(shape, setting, rngs)

    return stacked(rngs)


def through(blocks: Any, x: jax.Array, setting: Setting, documents: jax.Array | None = None) -> jax.Array:
    """What comes out of a stack of blocks."""

    def through_one(block: Block, x: jax.Array) -> jax.Array:
        return block(x, documents)

    if isinstance(blocks, Block):
        call = setting.remat.wrap(through_one, 0)
        scan = nnx.scan(call, in_axes=(0, nnx.Carry), out_axes=nnx.Carry, transform_metadata={nnx.PARTITION_NAME: None})
        return scan(blocks, x)
    for at, block in enumerate(blocks):
        x = setting.remat.wrap(through_one, at)(block, x)
    return x
