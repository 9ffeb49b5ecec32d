"""Any network as a list of layers: those of Flax NNX by their own names, activations, and changes of shape between them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jobs.errors import UserFault
from jobs.programs.library import arguments, found
from jobs.programs.models.setting import Setting, orthogonal
from jobs.spec.catalog import load
from jobs.spec.layers import placed

Named = dict[str, Any]
FORMATS = {"dtype": "compute", "lora_dtype": "compute", "param_dtype": "params", "lora_param_dtype": "params"}
"""Arguments of layers that are the job's precision where they are left open."""

FEATURES_LAST = {"Linear": ("kernel", 2), "Conv": ("kernel", None), "Embed": ("embedding", 2)}
"""The weights of layers that lie on logical axes, and how many axes they have; None: as the layer's kernel has."""


class Sequential(nnx.Module):
    """(batch, …) → (batch, …) in float32, layer by layer.

    Args:
        model: the resolved `model` section: `in_shape`, of one sample, and `layers`.
        setting: formats, mesh, remat.
        rngs: random streams.
    """

    def __init__(self, model: dict[str, Any], setting: Setting, rngs: nnx.Rngs) -> None:
        axes = {at: pair for at, pair, _, _ in placed(model["layers"], "")}
        self.layers = nnx.List([_built_at(at, layer, setting, rngs, axes.get(at)) for at, layer in enumerate(model["layers"])])
        self.names = tuple(layer["type"] for layer in model["layers"])
        self.in_shape, self.setting = tuple(model["in_shape"]), setting

    def __call__(self, x: jax.Array) -> jax.Array:
        """The network's outputs for a batch."""
        x = x.reshape(x.shape[0], *self.in_shape)
        x = self.setting.layout.constrain(x, "batch", *(None,) * len(self.in_shape))
        if jnp.issubdtype(x.dtype, jnp.floating):
            x = x.astype(self.setting.compute)
        for at, layer in enumerate(self.layers):
            with _blamed(at, f"{self.names[at]} cannot take an input of shape {list(x.shape[1:])}, the batch aside"):
                x = self.setting.remat.wrap(_passed, at)(layer, x)
        return x.astype(jnp.float32)


class Function(nnx.Module):
    """A layer without variables."""

    def __init__(self, call: Callable[..., jax.Array], given: Mapping[str, Any]) -> None:
        self.call, self.given = call, tuple(given.items())

    def __call__(self, x: jax.Array) -> jax.Array:
        """The function of a batch."""
        return self.call(x, **dict(self.given))


class Residual(nnx.Module):
    """What comes in, plus what layers make of it."""

    def __init__(self, layers: list[nnx.Module]) -> None:
        self.layers = nnx.List(layers)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Through the layers and past them."""
        out = x
        for layer in self.layers:
            out = _passed(layer, out)
        return x + out


def flatten(x: jax.Array) -> jax.Array:
    """(batch, …) → (batch, numbers)."""
    return x.reshape(x.shape[0], -1)


def reshape(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """(batch, …) → (batch, *shape)."""
    return x.reshape(x.shape[0], *shape)


def mean(x: jax.Array, axes: tuple[int, ...] | None) -> jax.Array:
    """Mean over axes of a sample, in float32; None: all but the last."""
    return jnp.mean(x, axis=_axes(x, axes), dtype=jnp.promote_types(x.dtype, jnp.float32)).astype(x.dtype)


def greatest(x: jax.Array, axes: tuple[int, ...] | None) -> jax.Array:
    """Greatest value over axes of a sample; None: all but the last."""
    return jnp.max(x, axis=_axes(x, axes))


def take(x: jax.Array, index: int, axis: int) -> jax.Array:
    """One place along an axis of a sample."""
    return jax.lax.index_in_dim(x, index, axis + 1, keepdims=False)


OWN: Mapping[str, Callable[..., jax.Array]] = {
    "flatten": flatten,
    "reshape": reshape,
    "mean": mean,
    "max": greatest,
    "take": take,
}


def build_layer(layer: Named, setting: Setting, rngs: nnx.Rngs, axes: tuple[str | None, str | None] | None = None) -> nnx.Module:
    """The layer that a fitted object names. A recurrent cell becomes a layer that runs it over time.

    Args:
        layer: fitted to the catalog.
        setting: formats of a layer that names none.
        rngs: random streams.
        axes: the logical axes that its weights take their input from and give their output to.
    """
    cell = load().entry("layers", layer["type"]).get("role") == "cell"
    built = _instance(layer, setting, rngs, axes)
    return nnx.RNN(built, rngs=rngs) if cell else built


def _instance(layer: Named, setting: Setting, rngs: nnx.Rngs, axes: tuple[str | None, str | None] | None) -> Any:
    name, given = layer["type"], {key: _inner(value, setting, rngs) for key, value in layer.items() if key != "type"}
    if name == "residual":
        return Residual(given["layers"])
    if name in OWN:
        return Function(OWN[name], given)
    kind = found("layers", name)
    if not inspect.isclass(kind):
        return Function(kind, given)
    if given.get("deterministic", False) is None:
        given["deterministic"] = False
    return kind(**given | _formats(given, setting) | _streams(kind, rngs) | _annotations(name, given, axes))


def _inner(value: Any, setting: Setting, rngs: nnx.Rngs) -> Any:
    """An argument as the library wants it; layers inside it are built."""
    if isinstance(value, dict):
        return _instance(value, setting, rngs, None)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [build_layer(item, setting, rngs) for item in value]
    return arguments({"value": value})["value"]


def _formats(given: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    usual = {"compute": setting.compute, "params": setting.params}
    return {name: usual[FORMATS[name]] for name, value in given.items() if name in FORMATS and value is None}


def _streams(kind: type, rngs: nnx.Rngs) -> dict[str, Any]:
    """Random streams for a layer that takes them, attention without a cache, and orthogonal weights in every format."""
    takes = inspect.signature(kind.__init__).parameters
    given: dict[str, Any] = {"rngs": rngs} if "rngs" in takes else {}
    given |= {"decode": False} if "decode" in takes else {}
    return given | ({"recurrent_kernel_init": orthogonal} if "recurrent_kernel_init" in takes else {})


def _annotations(name: str, given: Mapping[str, Any], axes: tuple[str | None, str | None] | None) -> dict[str, Any]:
    if axes is None:
        return {}
    weights, count = FEATURES_LAST[name]
    if count is None:
        size = given["kernel_size"]
        count = 2 + (1 if isinstance(size, int) else len(size))
    return {f"{weights}_metadata": {"out_sharding": (*(None,) * (count - 2), *axes)}}


def _built_at(at: int, layer: Named, setting: Setting, rngs: nnx.Rngs, axes: Any) -> nnx.Module:
    with _blamed(at, f"{layer['type']} cannot be built"):
        return build_layer(layer, setting, rngs, axes)


def _passed(layer: Any, x: jax.Array) -> jax.Array:
    out = layer(x)
    if out.ndim < 1 or out.shape[0] != x.shape[0]:
        raise ValueError(f"it gives shape {out.shape}, which has lost the batch")
    return out


@contextmanager
def _blamed(at: int, what: str) -> Iterator[None]:
    """Turn what a library says of a layer into a fault that points to it."""
    try:
        yield
    except UserFault:
        raise
    except Exception as error:  # libraries refuse arguments and shapes with errors of every kind
        said = str(error).split("\n", 1)[0][:300]
        raise UserFault("compile_failed", f"layer {at}, {what}: {said}", f"/model/layers/{at}") from error


def _axes(x: jax.Array, axes: tuple[int, ...] | None) -> tuple[int, ...]:
    return tuple(range(1, x.ndim - 1)) if axes is None else tuple(axis + 1 for axis in axes)
