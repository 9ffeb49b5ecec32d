"""A program and the same model by hand in NumPyro have one log density and one gradient, transforms to free parameters included."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from numpyro.infer.util import potential_energy

from jobs.programs.models import program
from jobs.spec.job import read_spec
from tests.jobs.programs.program_models import EXAMPLES, arrays, points


def compiled(model: Any, data: dict[str, Any]) -> Any:
    """Log density and gradient at several points, compiled in little time rather than into little."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(jax.vmap(jax.value_and_grad(lambda at: potential_energy(model, (), data, at))), compiler_options=options)


def resolved(body: list[dict[str, Any]], data: dict[str, Any]) -> dict[str, Any]:
    inline = {name: np.asarray(value).tolist() for name, value in data.items()} or {"nothing": [0]}
    document = {"kind": "mcmc", "model": {"type": "program", "body": body}, "data": {"inline": inline}}
    return read_spec(document, lambda _: None, lambda *_: None).resolved


@pytest.mark.parametrize("name", EXAMPLES)
def test_density_and_gradient_are_those_of_the_model_by_hand(name: str) -> None:
    example = EXAMPLES[name]
    model = resolved(example.body, example.data)["model"]
    bound = program.arrays_of(model, {key: np.asarray(value) for key, value in example.data.items()})
    at = points(example.free, 2)
    ours, our_slope = compiled(program.build(model), bound)(at)
    theirs, their_slope = compiled(example.model, arrays(example.data))(at)
    assert np.all(np.isfinite(theirs))
    assert np.allclose(ours, theirs, rtol=2e-4, atol=2e-4)
    for key in example.free:
        scale = 1 + np.max(np.abs(their_slope[key]))
        assert np.allclose(our_slope[key] / scale, their_slope[key] / scale, atol=1e-3), key


def test_there_are_enough_of_them() -> None:
    assert len(EXAMPLES) >= 25
