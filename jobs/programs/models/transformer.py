"""A decoder-only transformer for next-token prediction."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jobs.programs.models.blocks import INIT_STD, Shape, blocks_of, norm_of, through
from jobs.programs.models.setting import Setting, drawn


class Transformer(nnx.Module):
    """Tokens (batch, length) of integers → logits (batch, length, vocab_size) in float32. `length` is at most `context`.

    Args:
        model: the resolved `model` section.
        setting: formats, mesh, remat.
        rngs: random streams.
    """

    def __init__(self, model: dict[str, Any], setting: Setting, rngs: nnx.Rngs) -> None:
        shape = _shape_of(model)
        kinds = {**setting.formats, "rngs": rngs}
        self.embed = nnx.Embed(model["vocab_size"], shape.dim, embedding_init=drawn(INIT_STD, "vocab", "embed"), **kinds)
        self.learned, self.tied = model["positions"] == "learned", model["tie_embeddings"]
        if self.learned:
            self.position = nnx.Embed(model["context"], shape.dim, embedding_init=drawn(INIT_STD, None, "embed"), **kinds)
        self.dropout = nnx.Dropout(shape.dropout, rngs=rngs)
        self.blocks = blocks_of(shape, setting, rngs)
        self.norm = norm_of(shape, setting, rngs)
        if not self.tied:
            kernel_init = drawn(INIT_STD, "embed", "vocab")
            self.head = nnx.Linear(shape.dim, model["vocab_size"], use_bias=False, kernel_init=kernel_init, **kinds)
        self.setting = setting

    def __call__(self, tokens: jax.Array, documents: jax.Array | None = None) -> jax.Array:
        """Logits for the token after each position.

        Args:
            tokens: (batch, length) integers.
            documents: (batch, length) the number of the document that each belongs to, ascending, where several share a row: none
                sees another, and each counts its positions from zero.
        """
        x = self.embed(tokens)
        if self.learned:
            x = x + self.position(_positions(tokens, documents))
        x = self.setting.layout.constrain(self.dropout(x), "batch", None, None)
        x = self.norm(through(self.blocks, x, self.setting, documents))
        return self.setting.layout.constrain(self._logits(x), "batch", None, "vocab")

    def _logits(self, x: jax.Array) -> jax.Array:
        weights = self.embed.embedding[...].T if self.tied else self.head.kernel[...]
        return _wide(x, weights.astype(x.dtype)).astype(jnp.float32)


@jax.custom_jvp
def _wide(x: jax.Array, weights: jax.Array) -> jax.Array:
    """x: (…, dim) times weights: (dim, vocab_size), summed and kept in at least float32.

    A softmax over rounded logits would blur near ties among tens of thousands of tokens. Their gradients may be rounded, and are:
    left wide, they would make the two largest products of a step, which stand behind this one, products in float32.
    """
    return jnp.dot(x, weights, preferred_element_type=jnp.promote_types(x.dtype, jnp.float32))


@_wide.defjvp
def _wide_jvp(primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x, weights), (dx, dweights) = primals, tangents
    found = _wide(x, weights)
    return found, (jnp.dot(dx, weights) + jnp.dot(x, dweights)).astype(found.dtype)


def _positions(tokens: jax.Array, documents: jax.Array | None) -> jax.Array:
    at = jnp.arange(tokens.shape[1])
    if documents is None:
        return at
    begins = jnp.diff(documents, axis=1, prepend=documents[:, :1] - 1) != 0
    return at - jax.lax.cummax(jnp.where(begins, at, 0), axis=1)


def _shape_of(model: dict[str, Any]) -> Shape:
    same = ("dim", "n_layers", "n_heads", "n_kv_heads", "mlp_dim", "activation", "norm", "use_bias", "dropout", "attention")
    rotary_base = model["rotary_base"] if model["positions"] == "rotary" else None
    return Shape(**{name: model[name] for name in same}, causal=True, rotary_base=rotary_base, scan=model["scan_layers"])
