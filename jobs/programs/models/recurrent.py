"""Recurrent networks of long short-term memory: over series of features, and over tokens.

Source: Hochreiter and Schmidhuber (1997), Neural Computation 9(8); the forget gate's bias of one after Jozefowicz, Zaremba and
Sutskever (2015), ICML 37.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jobs.programs.models.setting import Setting, drawn, orthogonal, scaled

EMBED_STD = 0.1


class LSTM(nnx.Module):
    """One layer: (batch, time, features) → (batch, time, hidden).

    What comes from the inputs is computed for all time steps at once; only the recurrent half is scanned over. The cell's memory is
    kept in float32.

    Args:
        features, hidden: sizes.
        inside: the logical axis of the features.
        setting: formats, mesh.
        rngs: random streams.
    """

    def __init__(self, features: int, hidden: int, inside: str | None, setting: Setting, rngs: nnx.Rngs) -> None:
        kinds = {**setting.formats, "rngs": rngs}
        self.inputs = nnx.Linear(features, 4 * hidden, kernel_init=scaled(inside, "mlp"), bias_init=_remembering(hidden), **kinds)
        recurrent_init = nnx.with_partitioning(orthogonal, ("embed", "mlp"))
        self.recurrent = nnx.Linear(hidden, 4 * hidden, use_bias=False, kernel_init=recurrent_init, **kinds)
        self.hidden = hidden

    def __call__(self, x: jax.Array) -> jax.Array:
        """The hidden state after each time step."""
        inputs = self.inputs(x)
        kernel = self.recurrent.kernel[...].astype(inputs.dtype)

        def step(carry: tuple[jax.Array, jax.Array], each: jax.Array) -> tuple[Any, jax.Array]:
            hidden, memory = carry
            enter, forget, change, leave = jnp.split(each + hidden @ kernel, 4, axis=-1)
            memory = jax.nn.sigmoid(forget) * memory + jax.nn.sigmoid(enter) * jnp.tanh(change)
            hidden = (jax.nn.sigmoid(leave) * jnp.tanh(memory)).astype(each.dtype)
            return (hidden, memory.astype(jnp.float32)), hidden

        shape = (x.shape[0], self.hidden)
        start = (jnp.zeros(shape, inputs.dtype), jnp.zeros(shape, jnp.float32))
        _, out = jax.lax.scan(step, start, inputs.swapaxes(0, 1))
        return out.swapaxes(0, 1)


class LSTMClassifier(nnx.Module):
    """(batch, time, features) → (batch, out_features) in float32, from the last hidden state.

    Args:
        model: the resolved `model` section: `in_shape, hidden, n_layers, out_features, dropout`.
        setting: formats, mesh, remat.
        rngs: random streams.
    """

    def __init__(self, model: dict[str, Any], setting: Setting, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List(list(_layers(model["in_shape"][-1], None, model, setting, rngs)))
        self.dropout = nnx.Dropout(model["dropout"], rngs=rngs)
        kernel_init = scaled("embed", None)
        self.head = nnx.Linear(model["hidden"], model["out_features"], kernel_init=kernel_init, **setting.formats, rngs=rngs)
        self.in_shape, self.setting = tuple(model["in_shape"]), setting

    def __call__(self, x: jax.Array) -> jax.Array:
        """The network's outputs for a batch."""
        x = self.setting.layout.constrain(x.reshape(x.shape[0], *self.in_shape), "batch", None, None)
        x = _through(self.layers, x, self.dropout, self.setting)
        return self.head(x[:, -1]).astype(jnp.float32)


class LSTMLanguageModel(nnx.Module):
    """Tokens (batch, length) of integers → logits (batch, length, vocab_size) in float32.

    Args:
        model: the resolved `model` section: `vocab_size, dim, hidden, n_layers, context, dropout`.
        setting: formats, mesh, remat.
        rngs: random streams.
    """

    def __init__(self, model: dict[str, Any], setting: Setting, rngs: nnx.Rngs) -> None:
        kinds = {**setting.formats, "rngs": rngs}
        self.embed = nnx.Embed(model["vocab_size"], model["dim"], embedding_init=drawn(EMBED_STD, "vocab", "embed"), **kinds)
        self.layers = nnx.List(list(_layers(model["dim"], "embed", model, setting, rngs)))
        self.dropout = nnx.Dropout(model["dropout"], rngs=rngs)
        self.head = nnx.Linear(model["hidden"], model["vocab_size"], kernel_init=scaled("embed", "vocab"), **kinds)
        self.setting = setting

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Logits for the token after each position."""
        x = self.setting.layout.constrain(self.dropout(self.embed(tokens)), "batch", None, None)
        logits = self.head(_through(self.layers, x, self.dropout, self.setting))
        return self.setting.layout.constrain(logits.astype(jnp.float32), "batch", None, "vocab")


def _layers(features: int, inside: str | None, model: dict[str, Any], setting: Setting, rngs: nnx.Rngs) -> Iterator[LSTM]:
    for at in range(model["n_layers"]):
        yield LSTM(features if at == 0 else model["hidden"], model["hidden"], inside if at == 0 else "embed", setting, rngs)


def _through(layers: Any, x: jax.Array, dropout: nnx.Dropout, setting: Setting) -> jax.Array:
    for at, layer in enumerate(layers):
        x = dropout(setting.remat.wrap(LSTM.__call__, at)(layer, x))
    return x


def _remembering(hidden: int) -> nnx.Initializer:
    """Zero, and one for the forget gate: memory lasts until training says otherwise."""

    def bias(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jnp.zeros(shape, dtype).at[hidden : 2 * hidden].set(1)

    return bias
