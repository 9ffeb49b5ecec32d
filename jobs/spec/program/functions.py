"""The functions that an expression may call: their arguments, and how the shape of what they give follows from them.

Where the libraries have them is known to `jobs.programs.models.program_functions`; a test holds the two tables together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Rule = Literal["elementwise", "reduction", "same", "sized", "size", "shaped", "join", "other"]
"""How a result's shape follows from the arguments: broadcast; an axis taken away; that of the first; a static number; a shape
given first; arrays put together; in no way that is known before the program is built."""


@dataclass(frozen=True)
class Function:
    """What may be called.

    Attributes:
        names: its arguments in order; those from `least` on may be left out.
        least: how many arguments it needs.
        rule: how its shape follows.
        static: the arguments that must be known before the program runs: axes, sizes, switches.
        words: the arguments that are words, with those that they may be; none listed: any pattern of `einsum`.
        real: whether the result is a real number whatever the arguments are.
    """

    names: tuple[str, ...]
    least: int
    rule: Rule = "elementwise"
    static: frozenset[str] = frozenset()
    words: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    real: bool = True


STATIC = frozenset(
    {"axis", "keepdims", "shape", "n", "m", "k", "num", "length", "ddof", "shift", "total", "deg", "reps", "offset", "lower",
    "source",
     "destination", "axes", "axis1", "axis2", "order", "unique"}
)  # fmt: skip
"""Argument names that are static wherever they stand."""


def _functions(rule: Rule, signatures: Iterable[str], *, real: bool = True) -> dict[str, Function]:
    """Functions from lines such as `clip(x, min, max?)`; an argument with a question mark may be left out."""
    found: dict[str, Function] = {}
    for signature in signatures:
        name, _, rest = signature.rstrip(")").partition("(")
        arguments = [argument.strip() for argument in rest.split(",") if argument.strip()]
        plain = tuple(argument.rstrip("?") for argument in arguments)
        least = sum(not argument.endswith("?") for argument in arguments)
        found[name] = Function(plain, least, rule, STATIC & frozenset(plain), real=real)
    return found


_UNARY = [
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sqrt",
    "cbrt",
    "sin",
    "cos",
    "tan",
    "arcsin",
    "arccos",
    "arctan",
    "sinh",
    "cosh",
    "tanh",
    "arcsinh",
    "arccosh",
    "arctanh",
    "reciprocal",
    "sinc",
    "deg2rad",
    "rad2deg",
    "sigmoid",
    "expit",
    "inv_logit",
    "logit",
    "softplus",
    "log1p_exp",
    "log1m_exp",
    "log_sigmoid",
    "relu",
    "gelu",
    "silu",
    "gammaln",
    "lgamma",
    "digamma",
    "gamma",
    "erf",
    "erfc",
    "erfinv",
    "ndtr",
    "Phi",
    "log_ndtr",
    "ndtri",
    "entr",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "factorial",
    "exp1",
    "expi",
]
_KEEPING = ["abs", "sign", "negative", "square", "floor", "ceil", "trunc", "rint", "real", "nan_to_num", "stop_gradient"]
_LOGICAL = ["isnan", "isinf", "isfinite", "logical_not"]
_BINARY = [
    "arctan2",
    "hypot",
    "logaddexp",
    "logaddexp2",
    "betaln",
    "beta",
    "gammainc",
    "gammaincc",
    "xlogy",
    "xlog1py",
    "rel_entr",
    "kl_div",
    "zeta",
    "polygamma",
    "comb",
    "log_choose",
]
_INTEGRAL = ["minimum", "maximum", "power", "mod", "remainder", "floor_divide"]
_COMPARING = ["logical_and", "logical_or", "logical_xor", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]

FUNCTIONS: dict[str, Function] = {
    **_functions("elementwise", [f"{name}(x)" for name in _UNARY]),
    **_functions("elementwise", [f"{name}(x)" for name in [*_KEEPING, *_LOGICAL]], real=False),
    **_functions("elementwise", [f"{name}(x, y)" for name in _BINARY]),
    **_functions("elementwise", [f"{name}(x, y)" for name in [*_INTEGRAL, *_COMPARING]], real=False),
    **_functions("elementwise", ["where(condition, x, y)", "clip(x, min, max?)"], real=False),
    **_functions("elementwise", ["betainc(a, b, x)", "fma(x, y, z)", "log_mix(p, x, y)"]),
    **_functions("reduction", [f"{name}(x, axis?, keepdims?)" for name in ["sum", "prod", "max", "min", "all", "any",
    "argmax", "argmin"]], real=False),
    **_functions("reduction", [f"{name}(x, axis?, keepdims?)" for name in ["mean", "median", "logsumexp", "log_sum_exp"]]),
    **_functions("reduction", [f"{name}(x, axis?, ddof?, keepdims?)" for name in ["var", "std"]]),
    **_functions("reduction", ["norm(x, axis?, keepdims?)"]),
    **_functions("same", [f"{name}(x, axis?)" for name in ["cumsum", "cumprod", "cummax", "cummin", "sort", "argsort",
    "flip"]], real=False),
    **_functions("same", [f"{name}(x, axis?)" for name in ["softmax", "log_softmax", "cumlogsumexp", "standardize"]]),
    **_functions("same", ["roll(x, shift, axis?)", "zeros_like(x)", "ones_like(x)", "full_like(x, value)", "tril(x, k?)",
    "triu(x, k?)"],
                 real=False),
    **_functions("same", ["cholesky(x)", "inv(x)", "expm(x)", "matrix_power(x, n)"]),
    **_functions("size", ["len(x)", "size(x, axis?)"], real=False),
    **_functions("sized", ["arange(n, m?, k?)"], real=False),
    **_functions("shaped", ["zeros(shape)", "ones(shape)"]),
    **_functions("shaped", ["full(shape, value)"], real=False),
    **_functions("join", ["concatenate(arrays, axis?)", "stack(arrays, axis?)"], real=False),
    **_functions(
        "other",
        [
            "linspace(start, stop, num)", "eye(n, m?)", "diff(x, n?, axis?)", "repeat(x, n, axis?)", "tile(x, reps)",
            "reshape(x, shape)", "ravel(x)", "transpose(x, axes?)", "swapaxes(x, axis1, axis2)", "moveaxis(x, source, destination)",
            "expand_dims(x, axis)", "squeeze(x, axis?)", "broadcast_to(x, shape)", "hstack(arrays)", "vstack(arrays)",
            "column_stack(arrays)", "diag(x, k?)", "diagonal(x)", "trace(x)", "outer(x, y)", "inner(x, y)", "dot(x, y)",
            "matmul(x, y)", "kron(x, y)", "cross(x, y)", "take(x, indices, axis?)", "take_along_axis(x, indices, axis)",
            "searchsorted(x, values)", "interp(x, xp, fp)", "segment_sum(x, ids, num)", "bincount(x, length)", "one_hot(x, num)",
            "polyval(p, x)", "vander(x, n?)", "ptp(x, axis?)", "count_nonzero(x, axis?)", "quantile(x, q, axis?)",
            "multigammaln(x, n)", "solve(a, b)", "solve_triangular(a, b, lower?)", "cholesky_solve(l, b)", "det(x)", "logdet(x)",
            "pinv(x)", "eigvalsh(x)", "qr_q(x)", "qr_r(x)", "squared_distance(x, y)",
        ],
        real=False,
    ),
    "convolve": Function(("x", "y", "mode"), 2, "other", frozenset({"mode"}), {"mode": ("full", "same", "valid")}),
    "einsum": Function(("pattern", "x", "y", "z"), 2, "other", frozenset({"pattern"}), {"pattern": ()}),
}  # fmt: skip
"""Every function by its name."""

CONSTANTS = ("pi", "e", "inf")
"""Names that stand for numbers where a program does not define them itself."""

SQUARE = ("cholesky", "det", "eigvalsh", "expm", "inv", "logdet")
"""Functions that take a square matrix, or a stack of them."""

ELSEWHERE = {
    "pow": "**", "fmin": "minimum", "fmax": "maximum", "fabs": "abs", "length": "len", "rows": "size(x, 0)", "cols": "size(x, 1)",
    "num_elements": "size(x)", "dot_product": "dot", "cumulative_sum": "cumsum", "rep_vector": "full", "rep_array": "full",
    "rep_matrix": "full", "to_vector": "ravel", "log1m": "log1p(-x)", "inv_sqrt": "1 / sqrt(x)",
    "square_root": "sqrt", "sd": "std", "variance": "var", "append_row": "concatenate", "append_col": "column_stack",
    "cov_exp_quad": "exp(-0.5 * squared_distance(x, y) / scale**2)",
    "gp_exp_quad_cov": "exp(-0.5 * squared_distance(x, y) / scale**2)",
    "diag_matrix": "diag", "add_diag": "x + eye(n)", "cholesky_decompose": "cholesky", "mdivide_left_tri_low": "solve_triangular",
    "log_determinant": "logdet", "tcrossprod": "x @ x.T", "crossprod": "x.T @ x", "elt_multiply": "*", "elt_divide": "/",
    "multiply_log": "xlogy", "lbeta": "betaln", "lchoose": "log_choose", "choose": "comb", "trigamma": "polygamma(1, x)",
    "inv_Phi": "ndtri", "inv_logit_approx": "inv_logit", "tgamma": "gamma", "head": "x[:n]", "tail": "x[-n:]", "segment": "x[a:b]",
    "sum_to_zero": "the distribution ZeroSumNormal", "if_else": "where", "int_step": "where(x > 0, 1, 0)",
    "range": "arange", "array": "a list", "asarray": "a list", "absolute": "abs", "round": "rint", "acos": "arccos",
    "asin": "arcsin", "atan": "arctan", "atan2": "arctan2", "acosh": "arccosh", "asinh": "arcsinh", "atanh": "arctanh",
    "inv_square": "1 / x**2", "rep_row_vector": "full", "dot_self": "sum(x**2)", "columns_dot_product": "sum(x * y, axis=0)",
    "rows_dot_product": "sum(x * y, axis=1)", "columns_dot_self": "sum(x**2, axis=0)", "rows_dot_self": "sum(x**2, axis=1)",
    "log_inv_logit": "log_sigmoid", "log1m_inv_logit": "log_sigmoid(-x)", "log_diff_exp": "x + log1m_exp(y - x)",
    "inv_cloglog": "-expm1(-exp(x))", "cloglog": "log(-log1p(-x))", "to_matrix": "reshape", "to_array_1d": "ravel",
    "to_row_vector": "ravel", "append_array": "concatenate", "diag_pre_multiply": "v[:, None] * x", "diag_post_multiply": "x * v",
    "quad_form_diag": "x * outer(v, v)", "quad_form": "b.T @ x @ b", "multiply_lower_tri_self_transpose": "x @ x.T",
    "mdivide_left": "solve", "mdivide_left_spd": "solve", "lmultiply": "xlogy",
    "Phi_approx": "sigmoid(0.07056 * x**3 + 1.5976 * x)", "step": "where(x >= 0, 1, 0)", "sort_asc": "sort",
    "sort_desc": "flip(sort(x))", "sort_indices_asc": "argsort", "block": "x[a:b, c:d]", "sub_col": "x[a:b, j]",
    "sub_row": "x[i, a:b]", "col": "x[:, j]", "row": "x[i]", "reverse": "flip", "distance": "norm(x - y)", "identity_matrix": "eye",
    "ones_vector": "ones", "zeros_vector": "zeros", "linspaced_vector": "linspace", "one_hot_vector": "one_hot", "inverse": "inv",
    "inverse_spd": "inv", "determinant": "det", "eigenvalues_sym": "eigvalsh", "norm2": "norm", "matrix_exp": "expm",
    "std_normal_cdf": "Phi", "std_normal_lcdf": "log_ndtr", "is_inf": "isinf", "is_nan": "isnan", "negative_infinity": "-inf",
    "positive_infinity": "inf", "lmgamma": "multigammaln(x, n)", "binomial_coefficient_log": "log_choose",
    "integrate_ode_rk45": "an ode statement", "integrate_ode_bdf": "an ode statement", "integrate_ode": "an ode statement",
    "ode_rk45": "an ode statement", "ode_bdf": "an ode statement", "ode_adams": "an ode statement", "ode_ckrk": "an ode statement",
}  # fmt: skip
"""What functions of Stan, R and Python are called here."""
