"""Layers of Flax NNX."""

from __future__ import annotations

import inspect
from typing import Any

from flax import nnx

from jobs.programs.catalog.arguments import BOOLEAN, COUNT, DTYPES, INTEGER, NUMBER, Rules, Schema, nullable
from jobs.programs.catalog.entries import Section, public
from jobs.programs.catalog.joints import NOT_ACTIVATIONS, joints

_COUNTS: Schema = {"anyOf": [COUNT, {"type": "array", "items": COUNT, "minItems": 1, "maxItems": 8}]}
_AXIS: Schema = {"type": "integer", "minimum": -8, "maximum": 7}
_AXES: Schema = {"anyOf": [_AXIS, {"type": "array", "items": _AXIS, "minItems": 1, "maxItems": 8}]}
_RATE = NUMBER | {"minimum": 0, "maximum": 1}
_FORMAT: Schema = {"enum": list(DTYPES)}
_PARAM_FORMAT: Schema = {"enum": [*DTYPES, None], "default": None, "description": "null: precision.params"}
_COMPUTE_FORMAT: Schema = {"enum": [*DTYPES, None], "default": None, "description": "null: precision.compute"}
_FEW: Schema = {"type": "integer", "minimum": 1, "maximum": 100}
_PRECISION: Schema = {"enum": ["default", "high", "highest"]}
NAMED = {
    **dict.fromkeys(("num_features", "num_embeddings", "features", "num_heads", "hidden_features", "lora_rank"), COUNT),
    **dict.fromkeys(("feature_group_count", "num_groups", "group_size", "num_kv_heads", "in_kv_features", "qkv_features"), COUNT),
    **dict.fromkeys(("in_features", "out_features"), COUNT),
    **dict.fromkeys(("kernel_size", "strides", "input_dilation", "kernel_dilation"), _COUNTS),
    **dict.fromkeys(("use_bias", "use_scale", "use_fast_variance", "use_running_average", "deterministic"), BOOLEAN),
    **dict.fromkeys(("transpose_kernel", "broadcast_dropout", "normalize_qk", "residual", "keep_rngs"), BOOLEAN),
    **dict.fromkeys(("reverse", "keep_order", "error_on_non_matrix", "update_stats"), BOOLEAN),
    **dict.fromkeys(("dtype", "lora_dtype"), _COMPUTE_FORMAT),
    **dict.fromkeys(("param_dtype", "lora_param_dtype"), _PARAM_FORMAT),
    **dict.fromkeys(("n_steps", "unroll"), _FEW),
    "forward_rnn": {"$ref": "#/$defs/rnn"},
    "backward_rnn": {"$ref": "#/$defs/rnn"},
    "cell": {"$ref": "#/$defs/cell"},
    "layer_instance": {"$ref": "#/$defs/layer"},
    "preferred_element_type": _FORMAT,
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
OWN = {
    "LinearGeneral.in_features": _COUNTS,
    "LinearGeneral.out_features": _COUNTS,
    "LinearGeneral.axis": _AXES,
    # A layer here takes one array, with examples along its first axis, and gives one.
    **dict.fromkeys(("RNN.time_major", "RNN.return_carry", "Bidirectional.time_major", "Bidirectional.return_carry")),
    "MultiHeadAttention.decode": None,
}
CONTAINERS = {"Dict", "List", "Module", "RNNCellBase", "Sequential"}
NOT_LAYERS = {
    "RoPE": "is not in every version of Flax that this project supports",
    "WeightNorm": "keeps its scales outside of Flax's variables, where no optimizer sees them",
    **NOT_ACTIVATIONS,
}
WRAPPERS = {"RNN": "rnn", "Bidirectional": "recurrent", "SpectralNorm": "wrapper"}


def layers() -> Section:
    """Every layer of Flax NNX that plain arguments build, and what joins layers; random keys are the model's, not an argument."""
    section = Section(excluded=dict(NOT_LAYERS))
    for name, found in public(nnx).items():
        if not (inspect.isclass(found) and issubclass(found, nnx.Module)) or name in NOT_LAYERS:
            continue
        if name in CONTAINERS:
            section.excluded[name] = "holds layers, and is not one itself"
        else:
            section.add(f"flax.nnx.{name}", found, _rules_of(found), role=_role_of(name, found))
    section.entries |= joints()
    return section.sorted()


def _role_of(name: str, found: type[nnx.Module]) -> str:
    """What a layer may be used for: `cell` inside an `RNN`, `rnn` inside a `Bidirectional`."""
    return "cell" if issubclass(found, nnx.RNNCellBase) else WRAPPERS.get(name, "layer")


def _rules_of(found: Any) -> Rules:
    parameters = inspect.signature(found.__init__).parameters
    null = {name for name, parameter in parameters.items() if parameter.default is None}
    schemas = {name: nullable(schema) if name in null and "default" not in schema else schema for name, schema in NAMED.items()}
    own = OWN | {f"{found.__name__}.rngs": None}
    return Rules(schemas=schemas, own=own)
