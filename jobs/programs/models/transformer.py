"""A decoder-only transformer for next-token prediction.

Pre-norm blocks of causal self-attention and a GELU network, RMS normalisation, learned or rotary positions.

Source: Vaswani et al. (2017), arXiv:1706.03762; initialisation of the residual projections after Radford et al. (2019), GPT-2,
§2.3; rotary positions after Su et al. (2021), arXiv:2104.09864.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from jobs.programs.mesh import Layout

INIT_STD = 0.02
ROTARY_BASE = 10_000.0


def _weights(std: float, *logical: str | None) -> nnx.Initializer:
    return nnx.with_partitioning(nnx.initializers.normal(std), logical)


def rotate(x: jax.Array) -> jax.Array:
    """Turn each pair of features by an angle that grows with the position.

    Args:
        x: (batch, length, heads, features), features even.

    Returns: an array of the same shape.
    """
    length, half = x.shape[1], x.shape[-1] // 2
    rates = ROTARY_BASE ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = jnp.arange(length, dtype=jnp.float32)[:, None] * rates
    cos, sin = jnp.cos(angles)[None, :, None, :].astype(x.dtype), jnp.sin(angles)[None, :, None, :].astype(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)


class Attention(nnx.Module):
    """Causal multi-head self-attention: (batch, length, dim) → the same."""

    def __init__(self, config: Config, layout: Layout, rngs: nnx.Rngs) -> None:
        heads, features = config.n_heads, config.dim // config.n_heads
        types = {"dtype": config.compute, "param_dtype": config.params, "rngs": rngs}
        self.qkv = nnx.LinearGeneral(
            config.dim, (3, heads, features), use_bias=False, kernel_init=_weights(INIT_STD, "embed", None, "heads", None), **types
        )
        self.out = nnx.LinearGeneral(
            (heads, features), config.dim, axis=(-2, -1), use_bias=False,
            kernel_init=_weights(config.residual_std, "heads", None, "embed"), **types,
        )  # fmt: skip
        self.rotary = config.positions == "rotary"
        self.layout = layout

    def __call__(self, x: jax.Array) -> jax.Array:
        """Mix values of earlier positions."""
        q, k, v = (self.qkv(x)[:, :, i] for i in range(3))
        if self.rotary:
            q, k = rotate(q), rotate(k)
        q, k, v = (self.layout.constrain(part, "batch", None, "heads", None) for part in (q, k, v))
        return self.out(jax.nn.dot_product_attention(q, k, v, is_causal=True))


class FeedForward(nnx.Module):
    """Two linear maps with a GELU between: (…, dim) → (…, dim)."""

    def __init__(self, config: Config, layout: Layout, rngs: nnx.Rngs) -> None:
        types = {"dtype": config.compute, "param_dtype": config.params, "use_bias": False, "rngs": rngs}
        self.up = nnx.Linear(config.dim, config.mlp_dim, kernel_init=_weights(INIT_STD, "embed", "mlp"), **types)
        self.down = nnx.Linear(config.mlp_dim, config.dim, kernel_init=_weights(config.residual_std, "mlp", "embed"), **types)
        self.layout = layout

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transform each position by itself."""
        hidden = self.layout.constrain(jax.nn.gelu(self.up(x)), "batch", None, "mlp")
        return self.down(hidden)


class TransformerBlock(nnx.Module):
    """Attention, then a feed-forward network, each on a normalised input and added to the residual stream."""

    def __init__(self, config: Config, layout: Layout, rngs: nnx.Rngs) -> None:
        norm = {"dtype": config.compute, "param_dtype": config.params, "rngs": rngs}
        self.attention_norm = nnx.RMSNorm(config.dim, **norm)
        self.attention = Attention(config, layout, rngs)
        self.mlp_norm = nnx.RMSNorm(config.dim, **norm)
        self.mlp = FeedForward(config, layout, rngs)
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)
        self.layout = layout

    def __call__(self, x: jax.Array) -> jax.Array:
        """Attend, then transform."""
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        x = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return self.layout.constrain(x, "batch", None, None)


class Config:
    """A transformer's resolved spec with its precision.

    Args:
        model: the resolved `model` section (`vocab_size, dim, n_layers, n_heads, context, dropout, mlp_dim, positions,
        tie_embeddings`).
        params, compute: dtypes of the parameters and of the arithmetic.
        remat: recompute each block's activations in the backward pass instead of keeping them.
    """

    def __init__(self, model: dict, params: jnp.dtype, compute: jnp.dtype, *, remat: bool) -> None:
        self.vocab_size: int = model["vocab_size"]
        self.dim: int = model["dim"]
        self.n_layers: int = model["n_layers"]
        self.n_heads: int = model["n_heads"]
        self.context: int = model["context"]
        self.dropout: float = model["dropout"]
        self.mlp_dim: int = model["mlp_dim"]
        self.positions: str = model["positions"]
        self.tie_embeddings: bool = model["tie_embeddings"]
        self.params, self.compute, self.remat = params, compute, remat
        self.residual_std = INIT_STD / (2 * self.n_layers) ** 0.5


class Transformer(nnx.Module):
    """Tokens (batch, length) of integers → logits (batch, length, vocab_size) in float32. `length` is at most `context`."""

    def __init__(self, config: Config, layout: Layout, rngs: nnx.Rngs) -> None:
        types = {"dtype": config.compute, "param_dtype": config.params, "rngs": rngs}
        self.embed = nnx.Embed(config.vocab_size, config.dim, embedding_init=_weights(INIT_STD, "vocab", "embed"), **types)
        if config.positions == "learned":
            self.position = nnx.Embed(config.context, config.dim, embedding_init=_weights(INIT_STD, None, "embed"), **types)
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)
        self.blocks = nnx.List([TransformerBlock(config, layout, rngs) for _ in range(config.n_layers)])
        self.norm = nnx.RMSNorm(config.dim, **types)
        if not config.tie_embeddings:
            kernel_init = _weights(INIT_STD, "embed", "vocab")
            self.head = nnx.Linear(config.dim, config.vocab_size, use_bias=False, kernel_init=kernel_init, **types)
        self.learned, self.tied = config.positions == "learned", config.tie_embeddings
        self.remat, self.layout = config.remat, layout

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Logits for the token after each position."""
        x = self.embed(tokens)
        if self.learned:
            x = x + self.position(jnp.arange(tokens.shape[1]))
        x = self.layout.constrain(self.dropout(x), "batch", None, None)
        for block in self.blocks:
            x = nnx.remat(TransformerBlock.__call__)(block, x) if self.remat else block(x)
        x = self.norm(x)
        logits = self.embed.attend(x) if self.tied else self.head(x)
        return self.layout.constrain(logits.astype(jnp.float32), "batch", None, "vocab")
