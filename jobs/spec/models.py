"""What can be said of the catalog's models without building them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jobs.errors import Issue
from jobs.spec import layers
from jobs.spec.data import TrainData
from jobs.spec.numerics import Precision
from jobs.spec.optimizers import CURVED, is_curved
from jobs.spec.resources import Resources

GATED = ("swiglu", "geglu")
LARGEST_FUSED_HEAD = 128
"""Features of a head, beyond which no fused attention is had on every device."""

Model = Mapping[str, Any]
"""A `model` section with the catalog's defaults filled in; `complete` settles the rest."""

Size = tuple[str, int, str]
"""A logical axis, a size that it takes, and the pointer to where that size is set."""


def complete(model: Model) -> dict[str, Any]:
    """The same model with the arguments settled that follow from others."""
    settled = dict(model)
    if settled["type"] in ("import", "plugin") and settled["context"] is None and type(settled["config"].get("context")) is int:
        settled["context"] = settled["config"]["context"]
    if "mlp_dim" in settled and settled["mlp_dim"] is None:
        settled["mlp_dim"] = _usual_mlp_dim(settled)
    if "n_kv_heads" in settled and settled["n_kv_heads"] is None:
        settled["n_kv_heads"] = settled["n_heads"]
    if "positions" in settled and settled["positions"] is None:
        settled["positions"] = "learned" if settled["dim"] // settled["n_heads"] % 2 else "rotary"
    return settled


def learns_from_text(model: Model) -> bool:
    """Whether a model predicts the next token of a text; the others learn from rows."""
    return "vocab_size" in model


def inputs(model: Model) -> tuple[int, str] | None:
    """How many numbers a row of `x` must hold, and where the model says so; None where it takes no rows."""
    if "in_shape" in model:
        return math.prod(model["in_shape"]), "/model/in_shape"
    return (model["in_features"], "/model/in_features") if "in_features" in model else None


def outputs(model: Model) -> tuple[int, str] | None:
    """How many numbers the model gives for a row, and where it says so; None where that is not known before it is built."""
    if model["type"] != "sequential":
        return (model["out_features"], "/model/out_features") if "out_features" in model else None
    shape = layers.walk(model["layers"], tuple(model["in_shape"]), "/model/layers").shape
    return (shape[0], "/model/layers") if shape is not None and len(shape) == 1 else None


def logical_sizes(model: Model) -> list[Size]:
    """Every size that a logical axis of the model's arrays takes: (logical axis, size, pointer to where the size is set)."""
    find = _SIZES.get(model["type"])
    return [] if find is None else find(model)


def together(model: Model) -> list[tuple[str, ...]]:
    """The logical axes that some array of the model bears at once, parameter or activation."""
    found = list(_TOGETHER.get(model["type"], ()))
    return found + [(other, axis) for axis, _, _ in _grouped(model) for other in ("embed", "batch")]


def check_model(model: Model) -> Iterator[Issue]:
    """Arguments of a model that do not go together."""
    if "n_heads" in model:
        yield from _check_heads(model)
    if model["type"] == "vit":
        yield from _check_patches(model)
    elif model["type"] == "resnet" and len(model["stages"]) != len(model["widths"]):
        yield Issue("/model/widths", "mismatch", f"must hold {len(model['stages'])} sizes: one for each of the stages")
    elif model["type"] == "sequential":
        yield from layers.walk(model["layers"], tuple(model["in_shape"]), "/model/layers").issues


def on_any_device(spec: dict[str, Any]) -> dict[str, Any]:
    """A resolved spec without what only some devices compute: what is trained is the same, and may be used anywhere."""
    model: Mapping[str, Any] = spec.get("model") or {}
    return spec | {"model": {**model, "attention": "auto"}} if model.get("attention") == "cudnn" else spec


def check_fused(model: Model, data: TrainData, optimizer: dict[str, Any]) -> Iterator[Issue]:
    """Fused attention where what is asked of it is more than it can do."""
    if model.get("attention") != "cudnn":
        return
    if model.get("context", 0) % 2:
        yield Issue(
            "/model/attention", "conflict", f'"cudnn" trains on even lengths, and context is {model["context"]}: use "auto"'
        )
    if data.packing == "documents":
        detail = '"cudnn" lets every position see all before it, and data.packing keeps documents apart: use "auto"'
        yield Issue("/model/attention", "conflict", detail)
    if is_curved(optimizer):
        detail = f'"cudnn" is differentiated backwards alone, and {" and ".join(CURVED)} need more: use "auto"'
        yield Issue("/model/attention", "conflict", detail)


def check_attention(model: Model, precision: Precision, resources: Resources) -> Iterator[Issue]:
    """Fused attention where the formats or the devices have none."""
    if model.get("attention") != "cudnn":
        return
    compute = precision.compute or precision.params or "float32"
    if compute != "bfloat16":
        detail = f'"cudnn" computes in bfloat16, and this job in {compute}: set precision.compute, or use "auto"'
        yield Issue("/model/attention", "requires", detail)
    if resources.platform not in ("any", "gpu"):
        detail = f'"cudnn" needs a GPU, and resources.platform is {resources.platform}: use "auto"'
        yield Issue("/model/attention", "conflict", detail)
    features = model["dim"] // model["n_heads"]
    if features % 8 or features > LARGEST_FUSED_HEAD:
        detail = f'"cudnn" takes heads of 8, 16, … {LARGEST_FUSED_HEAD} features, and dim / n_heads is {features}: use "auto"'
        yield Issue("/model/attention", "conflict", detail)


def _check_heads(model: Model) -> Iterator[Issue]:
    dim, heads = model["dim"], model["n_heads"]
    shared = model.get("n_kv_heads", heads)
    if heads % shared:
        yield Issue("/model/n_kv_heads", "not_divisible", f"must divide n_heads, which is {heads}: each is shared by as many heads")
    if dim % heads:
        yield Issue("/model/n_heads", "not_divisible", f"must divide dim, which is {dim}: each head takes an equal part of it")
    elif model.get("positions") == "rotary" and dim // heads % 2:
        detail = f"rotary positions turn pairs, and a head has {dim // heads} features: make dim / n_heads even"
        yield Issue("/model/positions", "conflict", f"{detail}, or use learned positions")


def _check_patches(model: Model) -> Iterator[Issue]:
    height, width, _ = model["in_shape"]
    if height % model["patch_size"] or width % model["patch_size"]:
        detail = f"must divide height and width, which are {height} and {width}: the picture is cut into square patches"
        yield Issue("/model/patch_size", "not_divisible", detail)


def _usual_mlp_dim(model: Model) -> int:
    """A gated network has a third map, so it is made narrower to hold about as many parameters."""
    whole = 4 * model["dim"]
    return -(-whole * 2 // 3 // 64) * 64 if model["activation"] in GATED else whole


def _grouped(model: Model) -> list[Size]:
    """The axis of shared heads, where keys and values have fewer heads than queries."""
    shared = model.get("n_kv_heads")
    return [("kv_heads", shared, "/model/n_kv_heads")] if shared is not None and shared != model["n_heads"] else []


def _block_sizes(model: Model) -> list[Size]:
    sizes = [("embed", model["dim"], "/model/dim"), ("heads", model["n_heads"], "/model/n_heads")]
    return [*sizes, *_grouped(model), ("mlp", model["mlp_dim"], "/model/mlp_dim")]


def _transformer_sizes(model: Model) -> list[Size]:
    return [*_block_sizes(model), ("vocab", model["vocab_size"], "/model/vocab_size")]


def _mlp_sizes(model: Model) -> list[Size]:
    """Layers lie on `mlp` and `embed` in turn; the outputs, few as they are, on neither."""
    hidden = [(size, f"/model/hidden/{at}") for at, size in enumerate(model["hidden"])]
    widths = [(model["in_features"], "/model/in_features"), *hidden]
    return [("mlp" if at % 2 else "embed", size, pointer) for at, (size, pointer) in enumerate(widths)]


def _cnn_sizes(model: Model) -> list[Size]:
    channels = [("mlp", size, f"/model/channels/{at}") for at, size in enumerate(model["channels"])]
    return [*channels, ("mlp", model["hidden"], "/model/hidden")]


def _resnet_sizes(model: Model) -> list[Size]:
    return [(axis, size, f"/model/widths/{at}") for at, size in enumerate(model["widths"]) for axis in ("embed", "mlp")]


def _lstm_sizes(model: Model) -> list[Size]:
    """The four gates of a cell lie side by side."""
    hidden = model["hidden"]
    found: list[Size] = [("embed", hidden, "/model/hidden"), ("mlp", 4 * hidden, "/model/hidden")]
    if not learns_from_text(model):
        return found
    return [*found, ("embed", model["dim"], "/model/dim"), ("vocab", model["vocab_size"], "/model/vocab_size")]


_SIZES: Mapping[str, Callable[[Model], list[Size]]] = {
    "transformer": _transformer_sizes,
    "vit": _block_sizes,
    "mlp": _mlp_sizes,
    "cnn": _cnn_sizes,
    "resnet": _resnet_sizes,
    "lstm": _lstm_sizes,
    "lstm_lm": _lstm_sizes,
    "sequential": lambda model: list(layers.sizes(model["layers"], "/model/layers")),
}
_BLOCK = (("embed", "heads"), ("embed", "mlp"), ("batch", "heads"), ("batch", "mlp"))
_TOGETHER: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "transformer": (*_BLOCK, ("vocab", "embed"), ("batch", "vocab")),
    "vit": _BLOCK,
    "mlp": (("embed", "mlp"),),
    "resnet": (("embed", "mlp"),),
    "lstm": (("embed", "mlp"),),
    "lstm_lm": (("embed", "mlp"), ("vocab", "embed"), ("batch", "vocab")),
    "sequential": (("embed", "mlp"), ("vocab", "embed")),
}
