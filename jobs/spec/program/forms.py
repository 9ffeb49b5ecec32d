"""Transforms and constraints that stand inside a distribution: their arguments, and of what kind each is.

They bear NumPyro's names. A test holds both tables to the library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal[
    "value", "size", "sizes", "choice", "distribution", "distributions", "transform", "transforms", "constraint", "constraints"
]
"""What stands for an argument: numbers or an expression, sizes, one of a schema's own words, or another object."""


@dataclass(frozen=True)
class Argument:
    """An argument of a form.

    Attributes:
        role: what stands for it.
        required: whether it must be given.
        default: what it is where it is not given.
    """

    role: Role
    required: bool = True
    default: Any = None


def _optional(role: Role, default: Any) -> Argument:
    return Argument(role, required=False, default=default)


_VALUE, _SIZE, _SIZES = Argument("value"), Argument("size"), Argument("sizes")
_DIM = {"dim": _optional("size", -1)}
_NONE: Mapping[str, Argument] = {}

TRANSFORMS: Mapping[str, Mapping[str, Argument]] = {
    "AbsTransform": _NONE,
    "AffineTransform": {"loc": _VALUE, "scale": _VALUE, "domain": _optional("constraint", {"type": "real"})},
    "CholeskyTransform": _NONE,
    "ComposeTransform": {"parts": Argument("transforms")},
    "CorrCholeskyTransform": _NONE,
    "CorrMatrixCholeskyTransform": _NONE,
    "DiscreteCosineTransform": _DIM | {"smooth": _optional("value", 0.0)},
    "ExpTransform": {"domain": _optional("constraint", {"type": "real"})},
    "HaarTransform": _DIM,
    "IdentityTransform": _NONE,
    "IndependentTransform": {"base_transform": Argument("transform"), "reinterpreted_batch_ndims": _SIZE},
    "L1BallTransform": _NONE,
    "LowerCholeskyAffine": {"loc": _VALUE, "scale_tril": _VALUE},
    "LowerCholeskyTransform": _NONE,
    "OrderedTransform": _NONE,
    "PermuteTransform": {"permutation": _VALUE},
    "PowerTransform": {"exponent": _VALUE},
    "RecursiveLinearTransform": {"transition_matrix": _VALUE, "initial_value": _optional("value", None)},
    "ReshapeTransform": {"forward_shape": _SIZES, "inverse_shape": _SIZES},
    "ScaledUnitLowerCholeskyTransform": _NONE,
    "SigmoidTransform": _NONE,
    "SimplexToOrderedTransform": {"anchor_point": _optional("value", 0.0)},
    "SoftplusLowerCholeskyTransform": _NONE,
    "SoftplusTransform": _NONE,
    "StickBreakingTransform": _NONE,
    "ZeroSumTransform": {"transform_ndims": _optional("size", 1)},
    "inverse": {"of": Argument("transform")},
}
"""`inverse` is `.inv` of another transform."""

TRANSFORMS_LEFT_OUT: Mapping[str, str] = {
    "CatTransform": "stacks transforms of parts of one array; draw the parts as sites of their own",
    "ComplexTransform": "gives complex numbers",
    "PackRealFastFourierCoefficientsTransform": "gives complex numbers",
    "ParameterFreeTransform": "is a form of other transforms, not one itself",
    "RealFastFourierTransform": "gives complex numbers",
    "Transform": "is a form of other transforms, not one itself",
    "UnpackTransform": "needs a function",
}

_WITHOUT = (
    "boolean",
    "circular",
    "corr_cholesky",
    "corr_matrix",
    "l1_ball",
    "lower_cholesky",
    "nonnegative",
    "nonnegative_integer",
    "ordered_vector",
    "positive",
    "positive_definite",
    "positive_integer",
    "positive_ordered_vector",
    "positive_semidefinite",
    "real",
    "real_matrix",
    "real_vector",
    "scaled_unit_lower_cholesky",
    "simplex",
    "softplus_lower_cholesky",
    "softplus_positive",
    "sphere",
    "unit_interval",
)
_LOWER, _UPPER = {"lower_bound": _VALUE}, {"upper_bound": _VALUE}
CONSTRAINTS: Mapping[str, Mapping[str, Argument]] = {
    **dict.fromkeys(_WITHOUT, _NONE),
    "greater_than": _LOWER,
    "greater_than_eq": _LOWER,
    "less_than": _UPPER,
    "less_than_eq": _UPPER,
    "interval": _LOWER | _UPPER,
    "open_interval": _LOWER | _UPPER,
    "integer_interval": _LOWER | _UPPER,
    "integer_greater_than": _LOWER,
    "independent": {"base_constraint": Argument("constraint"), "reinterpreted_batch_ndims": _SIZE},
    "zero_sum": {"event_dim": _optional("size", 1)},
    "multinomial": {"upper_bound": _VALUE},
}  # fmt: skip
CONSTRAINTS_LEFT_OUT: Mapping[str, str] = {
    "cat": "is of parts of one array; draw the parts as sites of their own",
    "complex": "is of complex numbers",
    "dependent": "stands for another",
    "positive_definite_circulant_vector": "is of a matrix's first row, for a distribution that has it already",
}
DISCRETE_SUPPORTS = frozenset(
    {"boolean", "integer_interval", "integer_greater_than", "multinomial", "nonnegative_integer", "positive_integer"}
)
_AXES: Mapping[str, int] = {
    **dict.fromkeys(("l1_ball", "multinomial", "ordered_vector", "positive_ordered_vector", "real_vector", "simplex", "sphere"), 1),
    **dict.fromkeys(
        ("corr_cholesky", "corr_matrix", "lower_cholesky", "positive_definite", "positive_semidefinite", "real_matrix"), 2
    ),
    **dict.fromkeys(("scaled_unit_lower_cholesky", "softplus_lower_cholesky"), 2),
}


def axes_of(constraint: Mapping[str, Any]) -> int | None:
    """How many axes one value has that a constraint is on; None where that is not known before the program runs."""
    if constraint["type"] == "zero_sum":
        return constraint["event_dim"] if isinstance(constraint["event_dim"], int) else None
    return None if constraint["type"] == "independent" else _AXES.get(constraint["type"], 0)
