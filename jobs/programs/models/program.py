"""A program of a spec as a NumPyro model: a function of its data that walks over the statements."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax.core import Tracer
from jax.experimental.ode import odeint

from jobs.errors import UserFault
from jobs.programs.models import program_distributions
from jobs.programs.models.program_distributions import REFUSALS
from jobs.programs.models.program_expressions import evaluate, evaluate_size, fault
from jobs.spec.pointers import join
from jobs.spec.program.document import kind_of
from jobs.spec.program.expressions import names_of, parse
from jobs.spec.program.forms import axes_of

Statement = dict[str, Any]
Scope = dict[str, Any]
REPLAY = "_replay"
"""A hidden site that makes NumPyro run the model again for every draw: where the support of one site depends on another, what was
true at the first draw is not true at the next."""
_BOUNDS = ("low", "high", "lower_bound", "upper_bound")


def build(model: Mapping[str, Any], pointer: str = "/model") -> Callable[..., None]:
    """The NumPyro function of a normalised program. Its keyword arguments are the program's data.

    Data of integers is a NumPy or concrete JAX array: sizes and indices follow from it. An observed name may be None or left
    out; then its site is drawn.
    """
    moving = _has_moving_support(model["body"])

    def program(**data: Any) -> None:
        scope = settle(model, data)
        _Walk(scope, data).body(model["body"], join(pointer, "body"))
        if moving:
            numpyro.deterministic(REPLAY, jnp.zeros(()))

    return program


def arrays_of(model: Mapping[str, Any], bound: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The program's data in its number formats: integers stay integers, all else is real.

    Raises:
        UserFault: data that is declared as integers, or with bounds, is not so.
    """
    declared: Mapping[str, Any] = model["data"] or {}
    return {name: _settled(array, declared.get(name), f"/data/args/{name}") for name, array in bound.items()}


def settle(model: Mapping[str, Any], data: Mapping[str, Any]) -> Scope:
    """The names that a program's data gives: arrays, and sizes that follow from their shapes."""
    scope: Scope = {name: _known(value) for name, value in data.items() if value is not None}
    for name, item in (model["data"] or {}).items():
        if name in scope:
            shape = np.shape(scope[name])
            for axis, size in enumerate(item["shape"] if len(item["shape"]) == len(shape) else []):
                if isinstance(size, str) and [each for each, _ in names_of(parse(size))] == [size]:
                    scope.setdefault(size, int(shape[axis]))
    return scope


def _settled(array: np.ndarray, declared: Mapping[str, Any] | None, pointer: str) -> np.ndarray:
    whole = array.dtype.kind in "iub"
    if not whole and not np.all(np.isfinite(array)):
        raise UserFault("dataset_invalid", "the data holds values that are not finite", pointer)
    integers = np.int64 if jax.config.read("jax_enable_x64") else np.int32
    fits = whole and (
        array.size == 0 or (int(array.min()) >= np.iinfo(integers).min and int(array.max()) <= np.iinfo(integers).max)
    )
    if declared is None:
        return array.astype(integers) if fits else _real(array)
    if declared["type"] != "int":
        return _real(array)
    if not fits:
        detail = (
            "holds integers beyond 32 bits: set precision.x64" if whole else "holds real numbers, and the program declares integers"
        )
        raise UserFault("dataset_invalid", f"the data {detail}", pointer)
    return array.astype(integers)


def _real(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64 if jax.config.read("jax_enable_x64") else np.float32)


def _known(value: Any) -> Any:
    """Integers as NumPy has them, so that they are known while tracing; real numbers as JAX has them."""
    if isinstance(value, Tracer):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "iub":
        return jnp.asarray(value, jnp.result_type(float))
    return array.item() if array.shape == () else array


def _has_moving_support(value: Any) -> bool:
    """Whether some bound of a support is an expression, and may follow from another site."""
    if isinstance(value, list):
        return any(map(_has_moving_support, value))
    if not isinstance(value, dict):
        return False
    return any(isinstance(value.get(name), str | list) for name in _BOUNDS) or any(map(_has_moving_support, value.values()))


def _declared(statement: Statement) -> Statement:
    """A flat prior on simplexes, matrices and the like has the site's last axes as its event, if it does not name that itself."""
    found, shape = statement["distribution"], statement["shape"]
    axes = axes_of(found["support"]) if found["type"] == "ImproperUniform" and not found["event_shape"] else 0
    if not axes or shape is None:
        return statement
    return statement | {"distribution": found | {"event_shape": shape[-axes:]}, "shape": shape[:-axes]}


class _Walk:
    """One run over the statements, with the names in scope so far."""

    def __init__(self, scope: Scope, data: Mapping[str, Any]) -> None:
        self.scope, self.data = scope, data

    def body(self, statements: list[Statement], pointer: str) -> None:
        for at, statement in enumerate(statements):
            getattr(self, f"_{kind_of(statement)}")(statement, join(pointer, at))

    def _value(self, value: Any, pointer: str) -> Any:
        return evaluate(value, self.scope, pointer)

    def _distribution(self, value: dict[str, Any], pointer: str) -> Any:
        return program_distributions.build(value, self.scope, pointer)

    # -- sites ---------------------------------------------------------------------------------------------------------------

    def _sample(self, statement: Statement, pointer: str) -> None:
        name, where = statement["sample"], join(pointer, "distribution")
        statement = _declared(statement)
        found = self._distribution(statement["distribution"], where)
        try:
            found = self._shaped(found, statement, pointer)
            observed = self._observed(statement["observed"], join(pointer, "observed"))
            if observed is not None:
                _check_observed(found, observed, join(pointer, "observed"))
            drawn = numpyro.sample(name, found, obs=observed)
        except REFUSALS as error:
            if _is_not_drawable(error, found):
                raise
            raise fault(where, f"the site cannot be drawn: {str(error).strip().splitlines()[0][:300]}") from error
        if statement["observed"] is None or name not in self.scope:
            self.scope[name] = drawn

    def _shaped(self, found: Any, statement: Statement, pointer: str) -> Any:
        if statement["shape"] is not None:
            sizes = [evaluate_size(size, self.scope, join(pointer, "shape", at)) for at, size in enumerate(statement["shape"])]
            found = program_distributions.shaped(found, tuple(sizes))
        if statement["constraint"] is None:
            return found
        support = program_distributions.build_constraint(statement["constraint"], self.scope, join(pointer, "constraint"))
        return program_distributions.restricted(found, support)

    def _observed(self, value: Any, pointer: str) -> Any:
        """What a site has been observed to be; None where the data that it names is not given."""
        if value is None or (isinstance(value, str) and value in self.data and self.data[value] is None):
            return None
        if isinstance(value, str) and value.isidentifier() and value not in self.scope:
            return None
        found = self._value(value, pointer)
        return jnp.asarray(found)

    def _let(self, statement: Statement, pointer: str) -> None:
        self.scope[statement["let"]] = self._formula(statement, pointer)

    def _deterministic(self, statement: Statement, pointer: str) -> None:
        name = statement["deterministic"]
        self.scope[name] = numpyro.deterministic(name, jnp.asarray(self._formula(statement, pointer)))

    def _factor(self, statement: Statement, pointer: str) -> None:
        numpyro.factor(statement["factor"], jnp.asarray(self._formula(statement, pointer), jnp.result_type(float)))

    def _formula(self, statement: Statement, pointer: str) -> Any:
        """A value, or the density (or the like) of a distribution at a value."""
        kind = next(name for name in ("value", "log_prob", "cdf", "icdf") if statement.get(name) is not None)
        if kind == "value":
            return self._value(statement["value"], join(pointer, "value"))
        found = self._distribution(statement[kind], join(pointer, kind))
        at = jnp.asarray(self._value(statement["at"], join(pointer, "at")))
        try:
            return getattr(found, kind)(at)
        except REFUSALS as error:
            told = str(error).strip().splitlines()
            raise fault(join(pointer, kind), f"{kind} cannot be computed: {told[0][:300] if told else 'it has none'}") from error

    # -- statements that hold others -----------------------------------------------------------------------------------------

    def _plate(self, statement: Statement, pointer: str) -> None:
        size = evaluate_size(statement["size"], self.scope, join(pointer, "size"))
        part = statement["subsample_size"]
        count = None if part is None else evaluate_size(part, self.scope, join(pointer, "subsample_size"))
        with _made(statement["plate"], size, count, statement["dim"], pointer) as index:
            if statement["index"] is not None:
                self.scope[statement["index"]] = index if count not in (None, size) else np.arange(size)
            self.body(statement["body"], join(pointer, "body"))

    def _scan(self, statement: Statement, pointer: str) -> None:
        over = {name: jnp.asarray(self._value(item, join(pointer, "over", name))) for name, item in statement["over"].items()}
        length = statement["length"]
        steps = None if length is None else evaluate_size(length, self.scope, join(pointer, "length"))
        if any(item.ndim == 0 for item in over.values()):
            raise fault(join(pointer, "over"), "a scan goes over the first axis of arrays, and one of these is a single number")
        first = {name: jnp.asarray(self._value(item, join(pointer, "scan", name))) for name, item in statement["scan"].items()}

        def step(carry: Scope, row: Any) -> tuple[Scope, Scope]:
            inner = _Walk({**self.scope, **carry, **(row or {})}, {})
            inner.body(statement["body"], join(pointer, "body"))
            after = {name: jnp.asarray(inner._value(item, join(pointer, "next", name))) for name, item in statement["next"].items()}
            stack = {
                name: jnp.asarray(inner._value(item, join(pointer, "stack", name))) for name, item in statement["stack"].items()
            }
            return _like(after, carry, pointer), stack

        try:
            row = jax.tree.map(lambda item: item[0], over) if all(item.shape[0] for item in over.values()) else None
            if row is not None:
                first = _settle_carry(lambda carry: self._next(statement, pointer, carry, row), first)
            last, stacked = jax.lax.scan(step, first, over or None, length=steps, reverse=statement["reverse"])
        except REFUSALS as error:
            raise fault(pointer, f"the scan cannot be built: {str(error).strip().splitlines()[0][:300]}") from error
        self.scope |= last | stacked

    def _next(self, statement: Statement, pointer: str, carry: Scope, row: Scope) -> Scope:
        """What is carried after one step, as it comes."""
        inner = _Walk({**self.scope, **carry, **row}, {})
        inner.body(statement["body"], join(pointer, "body"))
        return {name: jnp.asarray(inner._value(item, join(pointer, "next", name))) for name, item in statement["next"].items()}

    def _ode(self, statement: Statement, pointer: str) -> None:
        real = jnp.result_type(float)
        first = {name: jnp.asarray(self._value(item, join(pointer, "ode", name)), real) for name, item in statement["ode"].items()}
        times = jnp.asarray(self._value(statement["times"], join(pointer, "times")), real)
        start = jnp.asarray(self._value(statement["start"], join(pointer, "start")), real)
        if times.ndim != 1:
            raise fault(join(pointer, "times"), "must be a list of times")

        def derivative(state: Scope, time: Any) -> Scope:
            inner = _Walk({**self.scope, **state, statement["time"]: time}, {})
            inner.body(statement["body"], join(pointer, "body"))
            found = {name: inner._value(item, join(pointer, "derivative", name)) for name, item in statement["derivative"].items()}
            return {name: jnp.broadcast_to(jnp.asarray(found[name], real), state[name].shape) for name in state}

        try:
            self.scope |= _solve(statement, derivative, first, jnp.concatenate([start[None], times]))
        except REFUSALS as error:
            raise fault(pointer, f"the system cannot be solved: {str(error).strip().splitlines()[0][:300]}") from error


def _check_observed(found: Any, observed: Any, pointer: str) -> None:
    """Refuse what has no density at what is observed, and a column against a row, whose density would be that of a table."""
    density = jax.eval_shape(found.log_prob, observed)
    seen = observed.shape[: max(0, observed.ndim - found.event_dim)]
    if math.prod(density.shape) > max(math.prod(seen), math.prod(found.batch_shape)):
        raise fault(
            pointer, f"{observed.shape} is observed of a distribution of shape {found.batch_shape}: give both the same axes"
        )


def _made(name: str, size: int, count: int | None, dim: int | None, pointer: str) -> Any:
    try:
        return numpyro.plate(name, size, subsample_size=count, dim=dim)
    except REFUSALS as error:
        raise fault(pointer, f"NumPyro cannot build the plate: {error}") from error


def _is_not_drawable(error: Exception, found: Any) -> bool:
    """Whether it is a flat prior that was asked for a draw: NumPyro's initialisation looks for this very error."""
    return isinstance(error, NotImplementedError)


def _settle_carry(following: Any, first: Scope) -> Scope:
    """What is carried, in the number format and shape that it keeps: an integer may become real, a number an array, once."""
    after = jax.eval_shape(following, first)
    return {
        name: jnp.broadcast_to(jnp.asarray(item, jnp.promote_types(item.dtype, after[name].dtype)),
                               jnp.broadcast_shapes(item.shape, after[name].shape))
        for name, item in first.items()
    }  # fmt: skip


def _like(after: Scope, before: Scope, pointer: str) -> Scope:
    for name, item in after.items():
        if jnp.shape(item) != jnp.shape(before[name]):
            detail = (
                f"has shape {jnp.shape(item)} after a step and {jnp.shape(before[name])} before it: what is carried keeps its shape"
            )
            raise fault(join(pointer, "next", name), detail)
    return {name: jnp.asarray(after[name], before[name].dtype) for name in before}


def _solve(statement: Statement, derivative: Any, first: Scope, times: Any) -> Scope:
    """The states at all times but the first, which is that of the initial state: (times, …) for each."""
    if statement["solver"] == "rk4":
        found = _runge_kutta(derivative, first, times, statement["steps"])
    else:
        exact = 1e-8 if jax.config.read("jax_enable_x64") else 1e-5
        rtol, atol = statement["rtol"] or exact, statement["atol"] or exact
        found = odeint(derivative, first, times, rtol=rtol, atol=atol, mxstep=statement["max_steps"])
    return {name: item[1:] for name, item in found.items()}


def _runge_kutta(derivative: Any, first: Scope, times: Any, steps: int) -> Scope:
    """The classical method of fourth order, with as many equal steps between two times.

    Source: Kutta (1901), Z. Math. Phys. 46.
    """

    def moved(state: Scope, slope: Scope, by: Any) -> Scope:
        return jax.tree.map(lambda value, change: value + by * change, state, slope)

    def small(carry: tuple[Scope, Any], _: Any) -> tuple[tuple[Scope, Any], None]:
        state, (time, width) = carry
        one = derivative(state, time)
        two = derivative(moved(state, one, width / 2), time + width / 2)
        three = derivative(moved(state, two, width / 2), time + width / 2)
        four = derivative(moved(state, three, width), time + width)
        slope = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, one, two, three, four)
        return (moved(state, slope, width), (time + width, width)), None

    def large(state: Scope, span: Any) -> tuple[Scope, Scope]:
        (state, _), _ = jax.lax.scan(small, (state, (span[0], (span[1] - span[0]) / steps)), None, length=steps)
        return state, state

    _, path = jax.lax.scan(large, first, jnp.stack([times[:-1], times[1:]], axis=1))
    return jax.tree.map(lambda start, rest: jnp.concatenate([start[None], rest]), first, path)
