"""What stands between the layers of a network: activations, pooling, and changes of shape."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.programs.catalog.arguments import BOOLEAN, COUNT, NUMBER, Schema
from jobs.programs.catalog.entries import Entry

LAYERS: Schema = {"type": "array", "items": {"$ref": "#/$defs/layer"}, "minItems": 1, "maxItems": 200}
"""A network as a list."""

_AXIS: Schema = {"type": "integer", "minimum": -8, "maximum": 7, "default": -1}
_OF_SAMPLE: Schema = {"type": "integer", "minimum": 0, "maximum": 7}
_ALPHA: Schema = {**NUMBER, "default": 1.0}
_ACTIVATIONS: Mapping[str, tuple[str, dict[str, Schema]]] = {
    "celu": ("Continuously differentiable exponential linear unit", {"alpha": {**_ALPHA, "exclusiveMinimum": 0}}),
    "elu": ("Exponential linear unit", {"alpha": _ALPHA}),
    "gelu": ("Gaussian error linear unit", {"approximate": {**BOOLEAN, "default": True}}),
    "glu": ("Gated linear unit: halves an axis, and one half gates the other", {"axis": _AXIS}),
    "hard_sigmoid": ("Sigmoid in three straight pieces", {}),
    "hard_silu": ("SiLU with a sigmoid in three straight pieces", {}),
    "hard_swish": ("Another name of hard_silu", {}),
    "hard_tanh": ("Hyperbolic tangent in three straight pieces", {}),
    "identity": ("What comes in", {}),
    "leaky_relu": ("Rectified linear unit with a slope below zero", {"negative_slope": {**NUMBER, "default": 0.01}}),
    "log_sigmoid": ("Logarithm of the sigmoid", {}),
    "log_softmax": ("Logarithm of the softmax along an axis", {"axis": _AXIS}),
    "mish": ("x · tanh(softplus(x))", {}),
    "relu": ("Rectified linear unit", {}),
    "relu6": ("Rectified linear unit that ends at 6", {}),
    "selu": ("Scaled exponential linear unit", {}),
    "sigmoid": ("Logistic function", {}),
    "silu": ("x · sigmoid(x)", {}),
    "soft_sign": ("x / (1 + |x|)", {}),
    "softmax": ("Exponentials that sum to 1 along an axis", {"axis": _AXIS}),
    "softplus": ("log(1 + exp(x))", {}),
    "sparse_plus": ("Softplus that is zero below -1 and straight above 1", {}),
    "sparse_sigmoid": ("Sigmoid that is zero below -1 and one above 1", {}),
    "squareplus": ("A softplus of square roots", {"b": {**NUMBER, "minimum": 0, "default": 4.0}}),
    "standardize": ("Mean 0 and variance 1 along an axis", {"axis": _AXIS, "epsilon": {**NUMBER, "minimum": 0, "default": 1e-5}}),
    "swish": ("Another name of silu", {}),
    "tanh": ("Hyperbolic tangent", {}),
}
NOT_ACTIVATIONS = {
    "dot_product_attention": "takes three arrays; use MultiHeadAttention",
    "get_scaled_dot_general_config": "is no function of an array",
    "initializers": "is no function of an array",
    "log1mexp": "is not defined for every number",
    "logmeanexp": "sums over what comes in, the batch included",
    "logsumexp": "sums over what comes in, the batch included",
    "one_hot": "has no gradient; use Embed",
    "scaled_dot_general": "takes two arrays",
    "scaled_matmul": "takes two arrays",
}
_WINDOW: Schema = {"type": "array", "items": COUNT, "minItems": 1, "maxItems": 4}
_POOL: dict[str, Schema] = {
    "window_shape": _WINDOW,
    "strides": {**_WINDOW, "type": ["array", "null"], "default": None, "description": "null: 1 along each axis"},
    "padding": {"enum": ["SAME", "VALID"], "default": "VALID"},
}
_SIZES: Schema = {
    "type": "array",
    "items": {"type": "integer", "minimum": -1, "maximum": 2**31 - 1},
    "minItems": 1,
    "maxItems": 8,
    "description": "of one sample; one of them may be -1: what is left",
}
_MEANS: Schema = {
    "type": ["array", "null"],
    "items": _OF_SAMPLE,
    "minItems": 1,
    "maxItems": 8,
    "default": None,
    "description": "axes of one sample, from 0; null: all but the last",
}
_TAKE: dict[str, Schema] = {
    "index": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1, "default": -1},
    "axis": {**_OF_SAMPLE, "default": 0, "description": "of one sample, from 0"},
}


def joints() -> dict[str, Entry]:
    """Every joint by name."""
    count = {"count_include_pad": {**BOOLEAN, "default": True}}
    found = [
        *(_joint(name, doc, f"jax.nn.{name}", schema) for name, (doc, schema) in _ACTIVATIONS.items()),
        _joint("avg_pool", "Mean of each window.", "flax.nnx.avg_pool", _POOL | count),
        _joint("max_pool", "Greatest value of each window.", "flax.nnx.max_pool", _POOL),
        _joint("min_pool", "Least value of each window.", "flax.nnx.min_pool", _POOL),
        _joint("flatten", "All numbers of a sample in one row.", "meshyard", {}),
        _joint("reshape", "The numbers of a sample in another shape.", "meshyard", {"shape": _SIZES}),
        _joint("mean", "Mean over axes of a sample.", "meshyard", {"axes": _MEANS}),
        _joint("max", "Greatest value over axes of a sample.", "meshyard", {"axes": _MEANS}),
        _joint("take", "One place along an axis of a sample, such as the last time step.", "meshyard", _TAKE),
        _joint("residual", "What comes in, plus what layers make of it.", "meshyard", {"layers": LAYERS}),
    ]
    return {entry["type"]: entry for entry in found}


def _joint(name: str, doc: str, source: str, properties: dict[str, Schema]) -> Entry:
    required = [argument for argument, schema in properties.items() if "default" not in schema]
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"type": name, "doc": doc, "source": source, "schema": schema, "role": "joint"}
