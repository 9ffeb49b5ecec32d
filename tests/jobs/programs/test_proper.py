"""Flat priors that the data do not bound are told from those that they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

from jobs.errors import NEVER_RETRIED, UserFault
from jobs.programs import proper
from jobs.programs.reparams import trace
from tests import specs
from tests.jobs.programs import running

REAL, POSITIVE = constraints.real, constraints.positive


def flat(name: str, support: Any = REAL, shape: tuple[int, ...] = ()) -> Any:
    return numpyro.sample(name, dist.ImproperUniform(support, shape, ()))


def mean_and_scale(y: Any) -> None:
    numpyro.sample("y", dist.Normal(flat("a"), flat("s", POSITIVE)), obs=y)


def heavy(y: Any) -> None:
    numpyro.sample("y", dist.StudentT(1, flat("a"), 1), obs=y)


def logistic(y: Any) -> None:
    numpyro.sample("y", dist.Bernoulli(logits=flat("b") * jnp.array([-2.0, -1.0, 1.0, 2.0])), obs=y.astype(int))


def rate(y: Any) -> None:
    numpyro.sample("y", dist.Poisson(jnp.exp(flat("b"))), obs=y.astype(int))


def groups(y: Any) -> None:
    tau = flat("tau", POSITIVE)
    theta: Any = numpyro.sample("theta", dist.Normal(0, tau).expand(y.shape).to_event(1))
    numpyro.sample("y", dist.Normal(theta, 1).to_event(1), obs=y)


def unused(y: Any) -> None:
    b = flat("b", shape=(2,))
    numpyro.sample("y", dist.Normal(b[0] + 0 * b[1], 1), obs=y)


CASES: dict[str, tuple[Any, list[float], dict[str, Any], str | None]] = {
    "far from zero": (mean_and_scale, [3e6, 3e6 + 2], {"a": 3e6, "s": 0.5}, None),
    "heavy tails": (heavy, [1.0], {"a": -3.0}, None),
    "classes that overlap": (logistic, [0, 1, 0, 1], {"b": 1.0}, None),
    "classes apart": (logistic, [0, 0, 1, 1], {"b": 3.0}, "b grows"),
    "counts": (rate, [0, 1], {"b": -1.0}, None),
    "no counts": (rate, [0, 0], {"b": -9.0}, "b falls"),
    "five groups": (groups, [1, -2, 3, 0, 5], {"tau": 1.0, "theta": [1, -2, 3, 0, 5]}, None),
    "one group": (groups, [1], {"tau": 2.0, "theta": [1]}, "tau grows"),
    "one element that does nothing": (unused, [1], {"b": [1.0, 7e20]}, r"b\[1\] grows"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_density_is_followed_to_where_numbers_end(case: str) -> None:
    model, y, place, told = CASES[case]
    data = {"y": jnp.asarray(y, float)}
    places = {name: jnp.asarray([value, value], float) for name, value in place.items()}
    names = proper.flat_sites(trace(model, data, 0))
    if told is None:
        proper.require_proper(model, names, data, places)
        return
    with pytest.raises(UserFault, match=told) as caught:
        proper.require_proper(model, names, data, places)
    assert (caught.value.code, caught.value.param) == ("improper_posterior", "/model")
    assert caught.value.code in NEVER_RETRIED
    assert "proper prior" in caught.value.message


def test_where_one_chain_is_held_by_the_data_nothing_is_said() -> None:
    assert proper.does_not_fall(-5.0, np.array([-5.0] * 14))
    assert not proper.does_not_fall(0.0, np.array([-5.0] * 14))
    assert not proper.does_not_fall(-5.0, np.array([-5.0, np.nan] + [-5.0] * 12))
    assert not proper.does_not_fall(np.nan, np.array([-5.0] * 14))
    assert not proper.does_not_fall(-5.0, np.array([-5.0 - 2.4 * k for k in range(14)]))


def test_a_job_ends_with_its_warm_up(tmp_path: Path) -> None:
    flat_site = {"sample": "b", "distribution": {"type": "ImproperUniform", "support": "real"}}
    seen = {"sample": "y", "distribution": {"type": "Poisson", "rate": "exp(b)"}, "observed": "y"}
    model = {"type": "program", "body": [flat_site, seen]}
    program = running.build(specs.schools(model=model, data={"inline": {"y": [0, 0]}}, num_chains=2))
    state = running.start(program)
    with pytest.raises(UserFault, match="b falls"):
        running.advance(program, state, program.total)
