"""Which activations are computed again in the backward pass instead of being kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.config import JsonDict

from jobs.errors import Issue
from jobs.spec.fit import Fitted, fit

POLICIES = (
    "none",
    "full",
    "dots",
    "dots_with_no_batch_dims",
    "nothing_saveable",
    "everything_saveable",
    "dots_saveable",
    "dots_with_no_batch_dims_saveable",
    "checkpoint_dots",
    "checkpoint_dots_with_no_batch_dims",
    "offload_dot_with_no_batch_dims",
)
"""`none`, three short names, every policy of `jax.checkpoint_policies` that needs no argument (a test compares), one that copies
products to the host."""

_POLICY: JsonDict = {"enum": list(POLICIES)}
_EVERY: JsonDict = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1}
_RULE: JsonDict = {
    "type": "object",
    "properties": {"policy": _POLICY, "every": _EVERY},
    "required": ["policy"],
    "additionalProperties": False,
}
SCHEMA: JsonDict = {"anyOf": [_POLICY, _RULE]}


def read_remat(value: Any) -> tuple[Any, list[Issue]]:
    """The field as it was given, defaults filled in, and what is wrong with it."""
    fitted = fit(value, SCHEMA, "/remat", _refer)
    return fitted.value, fitted.issues


def check_remat(model: Mapping[str, Any], remat: str | Mapping[str, Any]) -> Iterator[Issue]:
    """A rule for some blocks, where all blocks are one; any rule, where the blocks are a user's own."""
    if model["type"] in ("import", "plugin") and remat != "none":
        yield Issue(
            "/remat", "conflict", "does not reach into a module of your own: wrap its layers in nnx.remat, and leave this out"
        )
    if model.get("scan_layers") and not isinstance(remat, str) and remat["every"] > 1:
        detail = "a stack that is scanned over treats every block alike: leave every out, or set model.scan_layers to false"
        yield Issue("/remat/every", "conflict", detail)


def _refer(reference: str, value: Any, pointer: str) -> Fitted:
    raise KeyError(reference)
