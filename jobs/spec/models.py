"""What can be said of the catalog's models without building them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jobs.errors import Issue

Model = Mapping[str, Any]
"""A `model` section with the catalog's defaults filled in; `complete` settles the rest."""


def complete(model: Model) -> dict[str, Any]:
    """The same model with the arguments settled that follow from others."""
    settled = dict(model)
    if settled["type"] != "transformer":
        return settled
    if settled["mlp_dim"] is None:
        settled["mlp_dim"] = 4 * settled["dim"]
    if settled["positions"] is None:
        settled["positions"] = "learned" if settled["dim"] // settled["n_heads"] % 2 else "rotary"
    return settled


def logical_sizes(model: Model) -> list[tuple[str, int, str]]:
    """Every size that a logical axis of the model's arrays takes: (logical axis, size, pointer to where the size is set)."""
    if model["type"] == "transformer":
        return [
            ("embed", model["dim"], "/model/dim"),
            ("heads", model["n_heads"], "/model/n_heads"),
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
        return [*parameters, ("batch", "heads"), ("batch", "mlp"), ("batch", "vocab")]
    return [("embed", "mlp")] if model["type"] == "mlp" else []


def check_model(model: Model) -> Iterator[Issue]:
    """Arguments of a model that do not go together."""
    if model["type"] != "transformer":
        return
    dim, heads = model["dim"], model["n_heads"]
    if dim % heads:
        yield Issue("/model/n_heads", "not_divisible", f"must divide dim, which is {dim}: each head takes an equal part of it")
    elif model["positions"] == "rotary" and dim // heads % 2:
        detail = f"rotary positions turn pairs, and a head has {dim // heads} features: make dim / n_heads even"
        yield Issue("/model/positions", "conflict", f"{detail}, or use learned positions")


def _mlp_sizes(model: Model) -> list[tuple[str, int, str]]:
    """Layers lie on `mlp` and `embed` in turn; the outputs, few as they are, on neither."""
    hidden = [(size, f"/model/hidden/{at}") for at, size in enumerate(model["hidden"])]
    widths = [(model["in_features"], "/model/in_features"), *hidden]
    return [("mlp" if at % 2 else "embed", size, pointer) for at, (size, pointer) in enumerate(widths)]
