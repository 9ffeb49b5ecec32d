"""The shapes that pass through a list of layers, as far as they can be told without building one.

A layer whose shape is not known here (an `Einsum`, a rare argument) ends the walk without a fault: the worker, which builds the
network, looks at all of it and names the layer that does not fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.errors import Issue
from jobs.spec.pointers import join

Layer = Mapping[str, Any]
Shape = tuple[int, ...]
"""Of one sample, without the batch."""

LINEAR = ("Linear", "LoRALinear", "LoRA")
CELLS = ("LSTMCell", "OptimizedLSTMCell", "GRUCell", "SimpleCell")


class Misfit(Exception):
    """A layer cannot take what comes to it.

    Args:
        argument: of the layer, that would have to be another; "" for the layer as a whole.
        detail: what it must be.
    """

    def __init__(self, argument: str, detail: str) -> None:
        super().__init__(detail)
        self.argument, self.detail = argument, detail


@dataclass
class Walk:
    """What a walk over layers found.

    Attributes:
        shape: what comes out; None where it is not known.
        issues: the first layer that does not fit.
    """

    shape: Shape | None
    issues: list[Issue] = field(default_factory=list[Issue])


def walk(layers: Sequence[Layer], shape: Shape | None, pointer: str) -> Walk:
    """Send a shape through layers.

    Args:
        layers: fitted to the catalog.
        shape: of one sample.
        pointer: to the list.
    """
    for at, layer in enumerate(layers):
        if shape is None:
            break
        try:
            shape = _after(layer, shape)
        except Misfit as fault:
            where = join(pointer, at, *(part for part in fault.argument.split("/") if part))
            came = f"what comes to it has shape {list(shape)}, the batch aside"
            return Walk(None, [Issue(where, "mismatch", f"{fault.detail}: {came}")])
    return Walk(shape)


def placed(layers: Sequence[Layer], pointer: str) -> Iterator[tuple[int, tuple[str | None, str | None], Layer, str]]:
    """The layers of a list whose weights lie on logical axes: (place, axes of what comes in and goes out, layer, pointer).

    Linear maps take their input from `embed` and give to `mlp`; what the last of them gives is the network's output, which is small
    and lies on no axis.
    """
    able = [at for at, layer in enumerate(layers) if layer["type"] in ("Linear", "Conv", "Embed")]
    for at in able:
        inside, out = {"Linear": ("embed", "mlp"), "Embed": ("vocab", "embed"), "Conv": (None, "mlp")}[layers[at]["type"]]
        yield at, (inside, None if at == able[-1] else out), layers[at], join(pointer, at)


def sizes(layers: Sequence[Layer], pointer: str) -> Iterator[tuple[str, int, str]]:
    """Every size that a logical axis of the layers' weights takes, with its pointer."""
    names = {"Linear": ("in_features", "out_features"), "Conv": ("in_features", "out_features")}
    for _, axes, layer, where in placed(layers, pointer):
        arguments = names.get(layer["type"], ("num_embeddings", "features"))
        for axis, argument in zip(axes, arguments, strict=True):
            if axis is not None:
                yield axis, layer[argument], join(where, argument)


def _after(layer: Layer, shape: Shape) -> Shape | None:
    """The shape of what comes out of one layer. Raises Misfit."""
    name = layer["type"]
    if name in LINEAR:
        return (*_features(layer, shape, "in_features")[:-1], layer["out_features"])
    if name in CELLS:
        return _after_cell(layer, shape)
    rule = _RULES.get(name)
    if rule is not None:
        return rule(layer, shape)
    return shape if name in _SAME else None


def _features(layer: Layer, shape: Shape, argument: str) -> Shape:
    """The same shape, where its last axis is what the layer expects."""
    if not shape:
        raise Misfit("", "takes an axis of features, and there is none")
    if shape[-1] != layer[argument]:
        raise Misfit(argument, f"must be {shape[-1]}")
    return shape


def _after_cell(cell: Layer, shape: Shape) -> Shape:
    if len(shape) < 2:
        raise Misfit("", "runs over time steps, and takes (time, features)")
    return (*_features(cell, shape, "in_features")[:-1], cell["hidden_features"])


def _after_rnn(layer: Layer, shape: Shape, within: str = "cell") -> Shape:
    try:
        return _after_cell(layer["cell"], shape)
    except Misfit as fault:
        raise Misfit(f"{within}/{fault.argument}", fault.detail) from None


def _after_both(layer: Layer, shape: Shape) -> Shape:
    forward = _after_rnn(layer["forward_rnn"], shape, "forward_rnn/cell")
    backward = _after_rnn(layer["backward_rnn"], shape, "backward_rnn/cell")
    return (*forward[:-1], forward[-1] + backward[-1])


def _after_wrapper(layer: Layer, shape: Shape) -> Shape | None:
    try:
        return _after(layer["layer_instance"], shape)
    except Misfit as fault:
        raise Misfit(f"layer_instance/{fault.argument}", fault.detail) from None


def _after_norm(layer: Layer, shape: Shape) -> Shape:
    usual = layer.get("axis", -1) == -1 and layer.get("feature_axes", -1) == -1
    return _features(layer, shape, "num_features") if usual else shape


def _after_attention(layer: Layer, shape: Shape) -> Shape:
    if len(shape) < 2:
        raise Misfit("", "attends over positions, and takes (positions, features)")
    _features(layer, shape, "in_features")
    inside = layer["qkv_features"] or layer["in_features"]
    if inside % layer["num_heads"]:
        raise Misfit("num_heads", f"must divide {inside}, the features that the heads share")
    return (*shape[:-1], layer["out_features"] or layer["in_features"])


def _after_conv(layer: Layer, shape: Shape) -> Shape | None:
    size = _each(layer["kernel_size"])
    spatial = _spatial(layer, shape, len(size))
    if layer["in_features"] % layer["feature_group_count"] or layer["out_features"] % layer["feature_group_count"]:
        raise Misfit("feature_group_count", "must divide in_features and out_features")
    if set(_each(layer["input_dilation"])) != {1}:
        return None
    strides, dilation = _along(layer, "strides", len(size)), _along(layer, "kernel_dilation", len(size))
    covers = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    wide = [1] * len(size) if layer["padding"] != "VALID" else covers
    out = [(length - w) // stride + 1 for length, w, stride in zip(spatial, wide, strides, strict=True)]
    if min(out) < 1:
        raise Misfit("kernel_size", 'is larger than the input: make it smaller, or use padding "SAME"')
    return (*shape[: len(shape) - len(size) - 1], *out, layer["out_features"])


def _after_transposed(layer: Layer, shape: Shape) -> Shape | None:
    size = _each(layer["kernel_size"])
    spatial = _spatial(layer, shape, len(size))
    if layer["padding"] == "CAUSAL" or layer["kernel_dilation"] not in (None, 1) or layer["transpose_kernel"]:
        return None
    strides = _along(layer, "strides", len(size))
    more = [max(k - s, 0) if layer["padding"] == "VALID" else 0 for k, s in zip(size, strides, strict=True)]
    out = [length * s + extra for length, s, extra in zip(spatial, strides, more, strict=True)]
    return (*shape[: len(shape) - len(size) - 1], *out, layer["out_features"])


def _spatial(layer: Layer, shape: Shape, axes: int) -> Shape:
    if len(shape) < axes + 1:
        raise Misfit("kernel_size", f"has {axes} axes, so a sample must have {axes + 1}, the last of them features")
    return _features(layer, shape, "in_features")[len(shape) - axes - 1 : -1]


def _after_pool(layer: Layer, shape: Shape) -> Shape:
    window, strides = layer["window_shape"], layer["strides"] or [1] * len(layer["window_shape"])
    if len(window) != len(shape) - 1:
        raise Misfit("window_shape", f"must have {max(len(shape) - 1, 0)} sizes: one for each axis but the last")
    if len(strides) != len(window):
        raise Misfit("strides", "must have as many sizes as window_shape")
    wide = window if layer["padding"] == "VALID" else [1] * len(window)
    out = [(length - w) // s + 1 for length, w, s in zip(shape, wide, strides, strict=False)]
    if min(out) < 1:
        raise Misfit("window_shape", "is larger than the input")
    return (*out, shape[-1])


def _after_reshape(layer: Layer, shape: Shape) -> Shape:
    wanted, whole = layer["shape"], math.prod(shape)
    known = math.prod(size for size in wanted if size != -1)
    open_axes = wanted.count(-1)
    if open_axes > 1 or 0 in wanted or (whole % known if open_axes else whole != known):
        raise Misfit("shape", f"must hold {whole} numbers, with at most one -1")
    return tuple(whole // known if size == -1 else size for size in wanted)


def _after_mean(layer: Layer, shape: Shape) -> Shape:
    axes = range(len(shape) - 1) if layer["axes"] is None else layer["axes"]
    if any(axis >= len(shape) for axis in axes) or len(set(axes)) < len(axes):
        raise Misfit("axes", f"must be different axes of a sample, from 0 to {len(shape) - 1}")
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _after_take(layer: Layer, shape: Shape) -> Shape:
    axis, index = layer["axis"], layer["index"]
    if axis >= len(shape):
        raise Misfit("axis", f"must be an axis of a sample, from 0 to {len(shape) - 1}")
    if not -shape[axis] <= index < shape[axis]:
        raise Misfit("index", f"must be less than {shape[axis]}, the size of the axis")
    return (*shape[:axis], *shape[axis + 1 :])


def _after_glu(layer: Layer, shape: Shape) -> Shape | None:
    if layer["axis"] != -1:
        return None
    if not shape or shape[-1] % 2:
        raise Misfit("", "halves its last axis, which must be even")
    return (*shape[:-1], shape[-1] // 2)


def _after_residual(layer: Layer, shape: Shape) -> Shape | None:
    found = walk(layer["layers"], shape, "")
    if found.issues:
        raise Misfit(f"layers{found.issues[0].pointer}", found.issues[0].detail.rsplit(": ", 1)[0])
    if found.shape is not None and found.shape != shape:
        raise Misfit("layers", f"adds what its layers give to what comes in, and they give {list(found.shape)}")
    return found.shape


def _each(value: int | list[int]) -> list[int]:
    return [value] if isinstance(value, int) else value


def _along(layer: Layer, argument: str, axes: int) -> list[int]:
    """One number for each axis; a plain number goes for all."""
    value = layer[argument] or 1
    found = [value] * axes if isinstance(value, int) else value
    if len(found) != axes:
        raise Misfit(argument, f"must be a number, or {axes} of them")
    return found


_NORMS = ("BatchNorm", "LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm")
_SAME = frozenset(
    ("Dropout", "PReLU", "celu", "elu", "gelu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "identity", "leaky_relu")
) | {"log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_sign", "softmax", "softplus"} | {
    "sparse_plus", "sparse_sigmoid", "squareplus", "standardize", "swish", "tanh"
}  # fmt: skip
_RULES: Mapping[str, Callable[[Layer, Shape], Shape | None]] = {
    "RNN": _after_rnn,
    "Bidirectional": _after_both,
    "SpectralNorm": _after_wrapper,
    "MultiHeadAttention": _after_attention,
    "Conv": _after_conv,
    "ConvTranspose": _after_transposed,
    "Embed": lambda layer, shape: (*shape, layer["features"]),
    "flatten": lambda _, shape: (math.prod(shape),),
    "reshape": _after_reshape,
    "mean": _after_mean,
    "max": _after_mean,
    "take": _after_take,
    "glu": _after_glu,
    "residual": _after_residual,
    **dict.fromkeys(("avg_pool", "max_pool", "min_pool"), _after_pool),
    **dict.fromkeys(_NORMS, _after_norm),
}
