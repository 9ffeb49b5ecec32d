"""What a traced program shows of its purity: whether tracing it again gives the same, and what it does beside its result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax._src.source_info_util import user_frame  # no public way to the user's own line

from jobs.programs.mcmc import McmcProgram
from jobs.programs.predict import PredictProgram
from jobs.programs.program import Program, flatten, is_key
from jobs.programs.svi import SviProgram
from jobs.programs.train import TrainProgram
from jobs.programs.update import MOVING


@dataclass(frozen=True)
class Traced:
    """A program as tracing shows it.

    Attributes:
        operations: of the traced function.
        differs: what differed when it was traced again; None if nothing did.
        effects: what it does beside its result (`debug_callback`, …).
        streams: random streams in the state, by path.
        uses: operations on random keys, by name.
    """

    operations: int
    differs: str | None
    effects: list[str]
    streams: list[str]
    uses: dict[str, int]


def trace(program: Program) -> Traced:
    """Trace a program's step twice, and read what is in it."""
    first, second = (_jaxpr(program) for _ in range(2))
    equations = list(_equations(first.jaxpr))
    uses: dict[str, int] = {}
    for equation in equations:
        if equation.primitive.name.startswith(("random_", "threefry")):
            uses[equation.primitive.name] = uses.get(equation.primitive.name, 0) + 1
    effects = sorted({type(effect).__name__ for effect in first.jaxpr.effects})
    return Traced(len(equations), _difference(first, second), effects, _streams(program), uses)


def _jaxpr(program: Program) -> Any:
    if isinstance(program, TrainProgram):
        shapes = program.one
        moving = {name: shapes[name] for name in MOVING if name in shapes}
        # Anew each time: a function that JAX has seen would not be traced again.
        with jax.set_mesh(program.layout.mesh):
            return jax.make_jaxpr(lambda *parts: program.loss(*parts))(shapes["params"], moving, program.example())  # noqa: PLW0108
    if isinstance(program, McmcProgram):
        with jax.set_mesh(program.layout.mesh):
            return jax.make_jaxpr(lambda state: program.transition(state))(program.abstract()["kernel_state"])  # noqa: PLW0108
    if isinstance(program, SviProgram):
        with jax.set_mesh(program.layout.mesh):
            return jax.make_jaxpr(lambda sections: program.transition(sections))(program.abstract())  # noqa: PLW0108
    if isinstance(program, PredictProgram):
        return jax.make_jaxpr(lambda key: program.log_density(key))(jax.random.key(0))  # noqa: PLW0108
    raise TypeError(type(program).__name__)


def _equations(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                found = getattr(inner, "jaxpr", inner)
                if hasattr(found, "eqns"):
                    yield from _equations(found)


def _difference(first: Any, second: Any) -> str | None:
    pairs = list(_equations(first.jaxpr)), list(_equations(second.jaxpr))
    if len(pairs[0]) != len(pairs[1]):
        return f"{len(pairs[0])} operations the first time, {len(pairs[1])} the second"
    for one, other in zip(*pairs, strict=True):
        if _face(one) != _face(other):
            return f"the operation {one.primitive.name} at {_place(one)}"
    return next(
        (f"constant {i}" for i, pair in enumerate(zip(first.consts, second.consts, strict=True)) if not _equal(*pair)), None
    )


def _face(equation: Any) -> tuple[Any, ...]:
    literals = tuple(str(value.val) for value in equation.invars if hasattr(value, "val"))
    return (equation.primitive.name, tuple(str(value.aval) for value in (*equation.invars, *equation.outvars)), literals)


def _equal(one: Any, other: Any) -> bool:
    return one is other or np.array_equal(np.asarray(one), np.asarray(other), equal_nan=True)


def _place(equation: Any) -> str:
    frame = user_frame(equation.source_info.traceback)
    return f"{frame.file_name.rsplit('/', 1)[-1]}:{frame.start_line}" if frame else "an unknown line"


def _streams(program: Program) -> list[str]:
    if isinstance(program, McmcProgram):
        return ["kernel_state.rng_key"]
    rngs = program.abstract().get("rngs", {})
    return sorted(path for path, leaf in rngs.items() if is_key(leaf)) or sorted(flatten(rngs))
