"""Floating-point operations of a computation, counted from its jaxpr, and what a device could do at its best.

Only matrix products and convolutions count, as in the usual definition of model FLOPs utilization (Chowdhery et al. 2022, PaLM,
appendix B): a training step is three times its forward pass (the backward pass has two products for each of the forward's), and
what `remat` computes again is not work done. For a plain transformer that is 6 x parameters x tokens + 12 x layers x width x
context x tokens. XLA's own `cost_analysis` would count a loop's body once and a fused attention kernel not at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax

FORMULA = "3 x the FLOPs of the matrix products and convolutions of one forward pass over a batch"
MFU_FORMULA = "flops_per_step / (step seconds x devices x peak_flops_per_device)"
PEAKS = {
    "A100": 312e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2237e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v6": 918e12,
}
"""Dense bfloat16 FLOPs in a second, by a part of the device's kind; the first that fits. Vendors' data sheets."""


def peak_of(device_kind: str) -> float | None:
    """What one device could do in a second at its best; None where that is not known, as of a CPU."""
    return next((peak for name, peak in PEAKS.items() if re.search(rf"\b{name}(?!\d)", device_kind)), None)


def forward_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """FLOPs of the matrix products and convolutions of a function. Nothing is computed.

    Args:
        function: to be traced.
        arguments: arrays, or `jax.ShapeDtypeStruct` in their place.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> float:
    """All that is computed in a jaxpr; the same operation on the same values once, as XLA computes it."""
    total, first, same = 0.0, dict[Any, Any](), dict[Any, Any]()
    for equation in jaxpr.eqns:
        key = _identity(equation, same)
        if key in first:
            same |= zip(equation.outvars, first[key], strict=True)
            continue
        first[key] = equation.outvars
        total += _of_equation(equation)
    return total


def _identity(equation: Any, same: dict[Any, Any]) -> tuple[str, ...]:
    values = (value if hasattr(value, "val") else same.get(value, value) for value in equation.invars)
    alone = bool(equation.effects) or any(True for _ in _inner(equation))
    return (equation.primitive.name, str(id(equation) if alone else equation.params), *(_name(value) for value in values))


def _name(value: Any) -> str:
    return f"literal {value.val}" if hasattr(value, "val") else str(id(value))


def _of_equation(equation: Any) -> float:
    name = equation.primitive.name
    if name == "dot_general":
        return _product(equation)
    if name == "conv_general_dilated":
        return _convolution(equation)
    if name.startswith("dot_product_attention_fwd"):
        return _attention(equation)
    inner = [_count(jaxpr) for jaxpr in _inner(equation)]
    if not inner:
        return 0.0
    if name == "cond":
        return max(inner)
    times = equation.params["length"] if name == "scan" else _shards(equation) if name == "shard_map" else 1
    return times * sum(inner)


def _inner(equation: Any) -> Iterator[Any]:
    """The jaxprs within an equation. A rule for derivatives is none that runs in a forward pass."""
    for key, value in equation.params.items():
        if key in ("fwd_jaxpr_thunk", "jvp_jaxpr_fun", "jvp_jaxpr_thunk", "bwd"):
            continue
        for item in value if isinstance(value, tuple | list) else (value,):
            found = getattr(item, "jaxpr", item)
            if hasattr(found, "eqns"):
                yield found


def _product(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)


def _convolution(equation: Any) -> float:
    kernel = equation.invars[1].aval.shape
    out_features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / out_features


def _attention(equation: Any) -> float:
    """Fused attention of queries (batch, length, heads, width) with keys (batch, other length, …)."""
    query, key = equation.invars[0].aval.shape, equation.invars[1].aval.shape
    return 4.0 * math.prod(query) * key[1]


def _shards(equation: Any) -> int:
    """How often a mapped body runs: as many times as there are devices."""
    return int(equation.params["mesh"].size)
