"""A user's own NumPyro function as the model of a sampling job."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.errors import UserFault
from jobs.programs import posterior, user_code
from jobs.programs.outputs import Outputs
from jobs.programs.purity import program_warnings
from jobs.programs.user_errors import explain
from jobs.spec.bundle.facts import BundleFacts, ModuleFacts
from jobs.spec.job import read_spec
from tests import specs
from tests.jobs.programs import running

NUMBERS = count()
SCHOOLS = """
import numpyro
import numpyro.distributions as dist

def model(y, sigma, scale=5.0):
    mu = numpyro.sample("mu", dist.Normal(0, scale))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", y.shape[0]):
        standard = numpyro.sample("_theta", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * standard)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)

not_a_model = 3
"""


class Own:
    """A module of a user's on the path, and sampling jobs that name it."""

    def __init__(self, folder: Path, source: str) -> None:
        self.folder, self.module = folder, f"posterior{next(NUMBERS)}"
        (folder / f"{self.module}.py").write_text(source)
        user_code.install([folder])

    def program(self, name: str = "model", config: dict[str, Any] | None = None, **changes: Any) -> Any:
        model = {"type": "import", "code": "code_own", "target": f"{self.module}:{name}", "config": config or {}}
        found = BundleFacts({}, {self.module: ModuleFacts([], open=True)})
        spec = read_spec(specs.schools(model=model) | changes, specs.facts, lambda *_: None, lambda _: found)
        return running.of(spec.resolved)


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    return lambda source=SCHOOLS: Own(tmp_path, source)


def _draws(program: Any, folder: Path) -> dict[str, np.ndarray]:
    outputs = Outputs(folder)
    state = running.start(program)
    while state.step < program.total:
        state, _ = running.advance(program, state, 1, outputs)
    return posterior.apart(outputs.draws())[0]


def test_an_own_function_draws_what_the_catalogs_would(own, tmp_path: Path) -> None:
    ours = _draws(own().program(), tmp_path / "own")
    named = _draws(running.build(specs.schools()), tmp_path / "named")
    assert ours.keys() == named.keys() == {"mu", "tau", "theta"}
    assert all(np.array_equal(ours[name], named[name]) for name in ours)


def test_config_are_further_arguments(own, tmp_path: Path) -> None:
    program = own().program(config={"scale": 1e-3}, num_warmup=20, num_samples=20)
    assert np.abs(_draws(program, tmp_path)["mu"]).max() < 0.1


def test_columns_bind_to_the_arguments_of_their_names(own) -> None:
    data = {"inline": {"effect": specs.SCHOOLS["y"], "error": specs.SCHOOLS["sigma"], "more": [1, 2]}}
    args = {"y": "effect", "sigma": "error"}
    program = own().program(data=data | {"args": args})
    assert sorted(program.data) == ["sigma", "y"]
    with pytest.raises(UserFault, match="missing a required argument: 'sigma'") as caught:
        own().program(data=data | {"args": {"y": "effect"}}).init()
    assert caught.value.param == "/data/args"
    with pytest.raises(UserFault, match="unexpected keyword argument 'more'"):
        own().program(data=data | {"args": args | {"more": "more"}}).init()


def test_integers_stay_integers_and_columns_may_differ_in_length(own) -> None:
    source = """
import numpyro
import numpyro.distributions as dist

def model(y, school, effect):
    mu = numpyro.sample("mu", dist.Normal(0, 5).expand([effect.shape[0]]).to_event(1))
    numpyro.sample("y", dist.Normal(mu[school], 1).to_event(1), obs=y)
"""
    inline = {"y": [0.5, 1.5, 2.5], "school": [0, 1, 1], "effect": [1.0, 2.0]}
    program = own(source).program(data={"inline": inline})
    assert program.data["school"].dtype.kind == "i"
    assert running.start(program).sections["kernel_state"].z["mu"].shape == (4, 2)


def test_an_exception_is_told_with_the_users_own_traceback(own) -> None:
    source = SCHOOLS.replace("mu = numpyro", 'raise ValueError("no such prior")\n    mu = numpyro')
    bundle = own(source)
    with pytest.raises(ValueError, match="no such prior") as caught:
        bundle.program()
    found = explain(caught.value, [bundle.folder])
    assert found is not None
    assert found.code == "user_code_error"
    assert f"{bundle.module}.py, line 6, in model: ValueError: no such prior" in found.message
    assert found.detail["line"] == 6


def test_what_is_no_function_is_refused(own) -> None:
    with pytest.raises(UserFault, match="a sampling job takes a NumPyro function") as caught:
        own().program("not_a_model")
    assert caught.value.param == "/model/target"


def test_what_is_impure_is_told(own, tmp_path: Path) -> None:
    bundle = own("import random\n" + SCHOOLS.replace("HalfCauchy(5)", "HalfCauchy(5 + random.random())"))
    found = program_warnings(bundle.program(), [bundle.folder])
    assert {warning["code"] for warning in found} == {"impure_program"}
    assert any("tracing the step twice" in warning["detail"] for warning in found)
    (tmp_path / "pure").mkdir()
    pure = Own(tmp_path / "pure", SCHOOLS)
    assert program_warnings(pure.program(), [pure.folder]) == []
