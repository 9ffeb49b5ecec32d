"""What the functions of `jobs.spec.program.functions` compute. Each takes the arguments that are listed there, by name."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import jax.scipy.special as jss
import numpy as np

from jobs.spec.program.functions import FUNCTIONS, STATIC

Array = Any


def _log1m_exp(x: Array) -> Array:
    """Log of one minus the exponential of a negative number (Mächler 2012)."""
    # Each branch is given arguments at which it is finite: the gradient of the other would be NaN otherwise.
    near = x > -0.6931472
    return jnp.where(near, jnp.log(-jnp.expm1(jnp.where(near, x, -0.5))), jnp.log1p(-jnp.exp(jnp.where(near, -1.0, x))))


def _cholesky_solve(l: Array, b: Array) -> Array:  # noqa: E741  (the name that the catalog lists)
    return jsl.cho_solve((l, True), b)


def _logdet(x: Array) -> Array:
    return jnp.linalg.slogdet(x)[1]


def _logcumsumexp(x: Array, axis: int | None = None) -> Array:
    flat, at = (x.ravel(), 0) if axis is None else (x, axis)
    return jax.lax.cumlogsumexp(flat, axis=at % flat.ndim)


def _running(function: Callable[..., Array]) -> Callable[..., Array]:
    def run(x: Array, axis: int | None = None) -> Array:
        flat, at = (jnp.ravel(x), 0) if axis is None else (jnp.asarray(x), axis)
        return function(flat, axis=at % flat.ndim)

    return run


def _squared_distance(x: Array, y: Array) -> Array:
    """Between every row of `x` and every row of `y`, or every number of two vectors: (n, m)."""
    x, y = jnp.asarray(x), jnp.asarray(y)
    difference = x[:, None] - y[None, :]
    return difference**2 if difference.ndim == 2 else jnp.sum(difference**2, axis=-1)


def _standardize(x: Array, axis: int | None = 0) -> Array:
    return (x - jnp.mean(x, axis=axis, keepdims=True)) / jnp.std(x, axis=axis, ddof=1, keepdims=True)


def _quantile(x: Array, q: Array, axis: int | None = None) -> Array:
    return jnp.quantile(x, jnp.asarray(q), axis=axis)


def _segment_sum(x: Array, ids: Array, num: int) -> Array:
    return jax.ops.segment_sum(x, ids, num_segments=num)


def _size(x: Array, axis: int | None = None) -> int:
    shape = np.shape(x)
    return int(np.prod(shape, dtype=np.int64)) if axis is None else int(shape[axis])


def _arange(n: Any, m: Any = None, k: Any = None) -> Array:
    bounds = [bound for bound in (n, m, k) if bound is not None]
    integers = all(isinstance(bound, int) for bound in bounds)
    return np.arange(*bounds) if integers else jnp.arange(*bounds)


def _log_mix(p: Array, x: Array, y: Array) -> Array:
    """Log of the density p·exp(x) + (1 - p)·exp(y)."""
    return jnp.logaddexp(jnp.log(p) + x, jnp.log1p(-p) + y)


def _repeat(x: Array, n: Any, axis: int | None = None) -> Array:
    return jnp.repeat(x, np.asarray(n), axis=axis)


def _solve_triangular(a: Array, b: Array, *, lower: bool = True) -> Array:
    return jsl.solve_triangular(a, b, lower=lower)


def _comb(x: Array, y: Array) -> Array:
    return jnp.exp(_log_choose(x, y))


def _log_choose(x: Array, y: Array) -> Array:
    return jss.gammaln(x + 1.0) - jss.gammaln(y + 1.0) - jss.gammaln(x - y + 1.0)


def _listed(function: Callable[..., Array]) -> Callable[..., Array]:
    """A function of a list of arrays, which may differ in shape."""

    def joined(arrays: Any, **given: Any) -> Array:
        return function(list(arrays), **given)

    return joined


def _log_norm(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """The Euclidean length."""
    return jnp.sqrt(jnp.sum(jnp.square(x), axis=axis, keepdims=keepdims))


SPECIAL: dict[str, Callable[..., Any]] = {
    "log1p_exp": jax.nn.softplus, "log1m_exp": _log1m_exp, "sigmoid": jax.nn.sigmoid, "inv_logit": jss.expit, "Phi": jss.ndtr,
    "softplus": jax.nn.softplus, "log_sigmoid": jax.nn.log_sigmoid, "relu": jax.nn.relu, "gelu": jax.nn.gelu, "silu": jax.nn.silu,
    "softmax": jax.nn.softmax, "log_softmax": jax.nn.log_softmax, "lgamma": jss.gammaln, "log_sum_exp": jss.logsumexp,
    "negative": operator.neg, "stop_gradient": jax.lax.stop_gradient, "comb": _comb, "log_choose": _log_choose, "log_mix": _log_mix,
    "fma": lambda x, y, z: x * y + z, "cumlogsumexp": _logcumsumexp, "cummax": _running(jax.lax.cummax),
    "cummin": _running(jax.lax.cummin), "standardize": _standardize, "norm": _log_norm, "len": lambda x: _size(x, 0), "size": _size,
    "arange": _arange, "cholesky": jnp.linalg.cholesky, "inv": jnp.linalg.inv, "expm": jsl.expm,
    "matrix_power": jnp.linalg.matrix_power, "solve": jnp.linalg.solve, "solve_triangular": _solve_triangular,
    "cholesky_solve": _cholesky_solve, "det": jnp.linalg.det, "logdet": _logdet, "pinv": jnp.linalg.pinv,
    "eigvalsh": jnp.linalg.eigvalsh, "qr_q": lambda x: jnp.linalg.qr(x)[0], "qr_r": lambda x: jnp.linalg.qr(x)[1],
    "squared_distance": _squared_distance, "segment_sum": _segment_sum, "one_hot": jax.nn.one_hot,
    "repeat": _repeat, "quantile": _quantile, "concatenate": _listed(jnp.concatenate), "stack": _listed(jnp.stack),
    "hstack": _listed(jnp.hstack), "vstack": _listed(jnp.vstack), "column_stack": _listed(jnp.column_stack),
    "multigammaln": jss.multigammaln, "factorial": lambda x: jnp.exp(jss.gammaln(x + 1.0)),
    "vander": lambda x, n=None: jnp.vander(x, n, increasing=True), "eye": lambda n, m=None: jnp.eye(n, m),
    "diff": lambda x, n=1, axis=-1: jnp.diff(x, n=n, axis=axis), "tile": jnp.tile,
    "bincount": lambda x, length: jnp.bincount(x, length=length), "polygamma": jss.polygamma,
    "take": lambda x, indices, axis=None: jnp.take(x, indices, axis=axis),
    "convolve": lambda x, y, mode="full": jnp.convolve(x, y, mode=mode),
    "zeros": jnp.zeros, "ones": jnp.ones,
    "real": jnp.real, "rint": jnp.rint, "entr": jss.entr,
}  # fmt: skip
"""What bears another name in the library, or takes its arguments otherwise."""


def implementation(name: str) -> Callable[..., Any]:
    """What a function of the language computes."""
    if name in SPECIAL:
        return SPECIAL[name]
    return getattr(jnp, name) if hasattr(jnp, name) else getattr(jss, name)


def call(name: str, given: dict[str, Any]) -> Any:
    """Call a function with arguments by their names in the language: arrays by position, what is static by name."""
    function = FUNCTIONS[name]
    positional = [given[key] for key in function.names if key in given and key not in STATIC and key not in function.words]
    words = {key: given[key] for key in function.words if key in given}
    static = {key: given[key] for key in function.names if key in given and key in STATIC}
    if name == "einsum":
        return jnp.einsum(words["pattern"], *positional)
    if name == "clip":
        return jnp.clip(*positional)
    if name in _BY_POSITION:
        return implementation(name)(*(given[key] for key in function.names if key in given))
    return implementation(name)(*positional, **static, **words)


_BY_POSITION = frozenset(
    {"arange", "eye", "zeros", "ones", "full", "tril", "triu", "roll", "matrix_power", "repeat", "tile", "reshape", "transpose",
     "swapaxes", "moveaxis", "expand_dims", "broadcast_to", "take_along_axis", "linspace", "diag", "vander", "segment_sum",
     "bincount",
     "one_hot", "multigammaln"}
)  # fmt: skip
"""Functions whose static arguments the library calls otherwise."""
