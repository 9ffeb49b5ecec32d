"""What can be said of the catalog's models without building them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jobs.errors import Issue
from jobs.spec.numerics import Precision
from jobs.spec.resources import Resources

GATED = ("swiglu", "geglu")
LARGEST_FUSED_HEAD = 128
"""Features of a head, beyond which no fused attention is had on every device."""

Model = Mapping[str, Any]
"""A `model` section with the catalog's defaults filled in; `complete` settles the rest."""


def complete(model: Model) -> dict[str, Any]:
    """The same model with the arguments settled that follow from others."""
    settled = dict(model)
    if settled["type"] == "import" and settled["context"] is None and type(settled["config"].get("context")) is int:
        settled["context"] = settled["config"]["context"]
    if settled["type"] != "transformer":
        return settled
    if settled["mlp_dim"] is None:
        settled["mlp_dim"] = _usual_mlp_dim(settled)
    if settled["n_kv_heads"] is None:
        settled["n_kv_heads"] = settled["n_heads"]
    if settled["positions"] is None:
        settled["positions"] = "learned" if settled["dim"] // settled["n_heads"] % 2 else "rotary"
    return settled


def logical_sizes(model: Model) -> list[tuple[str, int, str]]:
    """Every size that a logical axis of the model's arrays takes: (logical axis, size, pointer to where the size is set)."""
    if model["type"] == "transformer":
        return [
            ("embed", model["dim"], "/model/dim"),
            ("heads", model["n_heads"], "/model/n_heads"),
            *_grouped(model),
            ("mlp", model["mlp_dim"], "/model/mlp_dim"),
            ("vocab", model["vocab_size"], "/model/vocab_size"),
        ]
    if model["type"] == "mlp":
        return _mlp_sizes(model)
    if model["type"] == "cnn":
        channels = [("mlp", size, f"/model/channels/{at}") for at, size in enumerate(model["channels"])]
        return [*channels, ("mlp", model["hidden"], "/model/hidden")]
    return []


def together(model: Model) -> list[tuple[str, ...]]:
    """The logical axes that some array of the model bears at once, parameter or activation."""
    if model["type"] == "transformer":
        parameters = [("vocab", "embed"), ("embed", "heads"), ("embed", "mlp")]
        grouped = [(other, axis) for axis, _, _ in _grouped(model) for other in ("embed", "batch")]
        return [*parameters, ("batch", "heads"), ("batch", "mlp"), ("batch", "vocab"), *grouped]
    return [("embed", "mlp")] if model["type"] == "mlp" else []


def check_model(model: Model) -> Iterator[Issue]:
    """Arguments of a model that do not go together."""
    if model["type"] != "transformer":
        return
    dim, heads, shared = model["dim"], model["n_heads"], model["n_kv_heads"]
    if heads % shared:
        yield Issue("/model/n_kv_heads", "not_divisible", f"must divide n_heads, which is {heads}: each is shared by as many heads")
    if dim % heads:
        yield Issue("/model/n_heads", "not_divisible", f"must divide dim, which is {dim}: each head takes an equal part of it")
    elif model["positions"] == "rotary" and dim // heads % 2:
        detail = f"rotary positions turn pairs, and a head has {dim // heads} features: make dim / n_heads even"
        yield Issue("/model/positions", "conflict", f"{detail}, or use learned positions")


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


def _usual_mlp_dim(model: Model) -> int:
    """A gated network has a third map, so it is made narrower to hold about as many parameters."""
    whole = 4 * model["dim"]
    return -(-whole * 2 // 3 // 64) * 64 if model["activation"] in GATED else whole


def _grouped(model: Model) -> list[tuple[str, int, str]]:
    """The axis of shared heads, where keys and values have fewer heads than queries."""
    shared = model["n_kv_heads"]
    return [("kv_heads", shared, "/model/n_kv_heads")] if shared != model["n_heads"] else []


def _mlp_sizes(model: Model) -> list[tuple[str, int, str]]:
    """Layers lie on `mlp` and `embed` in turn; the outputs, few as they are, on neither."""
    hidden = [(size, f"/model/hidden/{at}") for at, size in enumerate(model["hidden"])]
    widths = [(model["in_features"], "/model/in_features"), *hidden]
    return [("mlp" if at % 2 else "embed", size, pointer) for at, (size, pointer) in enumerate(widths)]
