"""Layers of Flax NNX."""

from __future__ import annotations

import inspect
from typing import Any

from flax import nnx

from jobs.programs.catalog.arguments import BOOLEAN, COUNT, DTYPES, INTEGER, NUMBER, Rules, Schema, nullable
from jobs.programs.catalog.entries import Section, public

_COUNTS: Schema = {"anyOf": [COUNT, {"type": "array", "items": COUNT, "minItems": 1, "maxItems": 8}]}
_AXIS: Schema = {"type": "integer", "minimum": -8, "maximum": 7}
_AXES: Schema = {"anyOf": [_AXIS, {"type": "array", "items": _AXIS, "minItems": 1, "maxItems": 8}]}
_RATE = NUMBER | {"minimum": 0, "maximum": 1}
_FORMAT: Schema = {"enum": list(DTYPES)}
_PRECISION: Schema = {"enum": ["default", "high", "highest"]}
NAMED = {
    **dict.fromkeys(("num_features", "num_embeddings", "features", "num_heads", "hidden_features", "lora_rank"), COUNT),
    **dict.fromkeys(("feature_group_count", "num_groups", "group_size", "num_kv_heads", "in_kv_features", "qkv_features"), COUNT),
    **dict.fromkeys(("in_features", "out_features"), COUNT),
    **dict.fromkeys(("kernel_size", "strides", "input_dilation", "kernel_dilation"), _COUNTS),
    **dict.fromkeys(("use_bias", "use_scale", "use_fast_variance", "use_running_average", "deterministic", "decode"), BOOLEAN),
    **dict.fromkeys(("transpose_kernel", "broadcast_dropout", "normalize_qk", "residual", "keep_rngs"), BOOLEAN),
    **dict.fromkeys(("dtype", "param_dtype", "lora_dtype", "lora_param_dtype", "preferred_element_type"), _FORMAT),
    **dict.fromkeys(("rate", "dropout_rate", "momentum"), _RATE),
    "epsilon": NUMBER | {"exclusiveMinimum": 0},
    "negative_slope_init": NUMBER,
    "padding": {"enum": ["SAME", "VALID", "CIRCULAR", "CAUSAL"]},
    "precision": _PRECISION,
    "axis": _AXIS,
    "reduction_axes": _AXES,
    "feature_axes": _AXES,
    "broadcast_dims": {"type": "array", "items": INTEGER, "maxItems": 8},
    "einsum_str": {"type": "string", "minLength": 1, "maxLength": 200},
    "kernel_shape": {"type": "array", "items": COUNT, "minItems": 1, "maxItems": 8},
    "bias_shape": {"type": "array", "items": COUNT, "minItems": 1, "maxItems": 8},
}
OWN = {"LinearGeneral.in_features": _COUNTS, "LinearGeneral.out_features": _COUNTS, "LinearGeneral.axis": _AXES}
CONTAINERS = {"Dict", "List", "Module", "RNNCellBase", "Sequential"}
NOT_LAYERS = {"RoPE": "is not in every version of Flax that this project supports"}


def layers() -> Section:
    """Every layer of Flax NNX that plain arguments build; random keys are the model's, not an argument."""
    section = Section(excluded=dict(NOT_LAYERS))
    for name, found in public(nnx).items():
        if not (inspect.isclass(found) and issubclass(found, nnx.Module)) or name in NOT_LAYERS:
            continue
        if name in CONTAINERS:
            section.excluded[name] = "holds layers, and is not one itself"
        else:
            section.add(f"flax.nnx.{name}", found, _rules_of(found))
    return section.sorted()


def _rules_of(found: Any) -> Rules:
    parameters = inspect.signature(found.__init__).parameters
    null = {name for name, parameter in parameters.items() if parameter.default is None}
    schemas = {name: nullable(schema) if name in null else schema for name, schema in NAMED.items()}
    own = OWN | {f"{found.__name__}.rngs": None}
    return Rules(schemas=schemas, own=own)
