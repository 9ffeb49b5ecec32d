"""From a step whose loss is not finite to the operation that made it so."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jobs.programs.autopsy import examine
from jobs.programs.program import Finding, State


def step_with(loss: Any) -> Any:
    """A step of gradient descent on a loss."""

    def update(sections: Any, batch: Any) -> Any:
        value, gradient = jax.value_and_grad(lambda w: loss(w, batch["x"]))(sections["params"]["w"])
        return {"params": {"w": sections["params"]["w"] - gradient}}, {"loss": value}

    return update


def log_of_negative(w: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.log(w * x - 10.0))


def log_in_a_loop(w: jax.Array, x: jax.Array) -> Any:
    return jax.lax.scan(lambda total, row: (total + jnp.log(w * row - 10.0), None), 0.0, x)[0]


def root_at_zero(w: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum(w * 0.0 * jnp.sqrt(w * 0.0))


def overflow(w: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.exp(w * x * 1e6))


def run(loss: Any, w: float = 1.0, x: float = 1.0) -> Finding | None:
    batch = {"x": np.full(4, x, np.float32), "tokens": np.zeros(4, np.int32)}
    state = State(7, {"params": {"w": jnp.float32(w)}}, {})
    return examine(step_with(loss), state, batch, {name: jnp.asarray(array) for name, array in batch.items()}, [9, 3, 5, 1])


@pytest.mark.parametrize(
    ("loss", "operation"),
    [(log_of_negative, "`log`"), (log_in_a_loop, "`log`"), (overflow, "`exp`")],
    ids=lambda each: getattr(each, "__name__", str(each)),
)
def test_the_operation_and_its_line_are_named(loss: Any, operation: str) -> None:
    found = run(loss)
    assert found is not None
    assert operation in found.told
    assert "test_autopsy.py, line " in found.told
    assert "The batch held the samples 9, 3, 5, 1." in found.told
    assert found.param == "/optimizer"


def test_an_operation_of_the_backward_pass_is_named() -> None:
    found = run(root_at_zero)
    assert found is not None
    assert "The first operation that gave it was `" in found.told


def test_a_step_that_comes_out_finite_gives_nothing() -> None:
    assert run(lambda w, x: jnp.sum(w * x)) is None


def test_the_checks_are_off_again_afterwards() -> None:
    run(log_of_negative)
    assert not jax.config.values["jax_debug_nans"]
    assert not jax.config.values["jax_debug_infs"]


def test_a_batch_that_is_not_finite_is_to_blame() -> None:
    found = run(lambda w, x: jnp.sum(w * x), x=float("inf"))
    assert found is not None
    assert (found.param, "x of the samples 9, 3, 5, 1." in found.told) == ("/data/args/x", True)


def test_parameters_that_were_not_finite_are_to_blame() -> None:
    found = run(lambda w, x: jnp.sum(w * x), w=float("nan"))
    assert found is not None
    assert "Parameters were not finite before it: w. The update of step 7" in found.told
