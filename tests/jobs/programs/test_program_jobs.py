"""Jobs that sample programs, from their first state to their result."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import pytest
import xarray as xr

from jobs.errors import UserFault
from jobs.programs.models import program
from jobs.programs.outputs import Outputs
from tests.jobs.programs import running

GARCH = {
    "type": "program",
    "body": [
        {"sample": "mu", "distribution": {"type": "ImproperUniform", "support": "real"}},
        {"sample": "alpha0", "distribution": {"type": "ImproperUniform", "support": "positive"}},
        {
            "sample": "alpha1",
            "distribution": {"type": "ImproperUniform", "support": {"type": "interval", "lower_bound": 0, "upper_bound": 1}},
        },
        {
            "sample": "beta1",
            "distribution": {
                "type": "ImproperUniform",
                "support": {"type": "interval", "lower_bound": 0, "upper_bound": "1 - alpha1"},
            },
        },
        {
            "scan": {"v": "sigma1 ** 2"},
            "over": {"e": "y - mu"},
            "next": {"v": "alpha0 + alpha1 * e ** 2 + beta1 * v"},
            "stack": {"variance": "v"},
        },
        {"sample": "y", "distribution": {"type": "Normal", "loc": "mu", "scale": "sqrt(variance)"}, "observed": "y"},
    ],
}
DATA = {"y": [0.3, -0.2, 1.1, -0.9, 0.4, 0.1, -1.4, 0.6, 0.2, -0.3], "sigma1": 0.7}


def job(model: dict[str, Any], data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    length = {"num_warmup": 30, "num_samples": 30, "num_chains": 2, "checkpoint": {"every_draws": 30}}
    return {"kind": "mcmc", "model": model, "data": {"inline": data}, **length, **changes}


def test_flat_priors_and_bounds_that_move_go_from_start_to_result(tmp_path: Path) -> None:
    document = job(GARCH, DATA, outputs={"posterior_predictive": True, "log_likelihood": True})
    sampler, outputs = running.build(document), Outputs(tmp_path)
    state = running.start(sampler)
    while state.step < sampler.total:
        state, _ = running.advance(sampler, state, 1, outputs)
    result, artifacts = sampler.result(state, outputs, "completed")
    assert set(result["summary"]) == {"mu", "alpha0", "alpha1", "beta1"}
    assert "posterior.nc" in artifacts
    tree = xr.open_datatree(tmp_path / "posterior.nc", engine="h5netcdf")
    drawn = tree["posterior"].to_dataset()
    assert float((drawn["alpha1"] + drawn["beta1"]).max()) < 1
    assert tree["posterior_predictive"].to_dataset()["y"].shape == (2, 30, 10)
    assert np.isfinite(tree["log_likelihood"].to_dataset()["y"].to_numpy()).all()
    assert jax.eval_shape(cast("Any", sampler).log_density, jax.random.key(0)).shape == ()


# (an expression, part of the message): what only the numbers show
LATE = [("y[order]", "column 3: index 9 is beyond an axis of 3"), ("solve([y, y], y)", "column 1: ")]


def test_what_is_observed_must_have_a_density(tmp_path: Path) -> None:
    parameter = {"sample": "p", "distribution": {"type": "Dirichlet", "concentration": [1, 1]}}
    choice = {"sample": "k", "distribution": {"type": "Categorical", "probs": "p"}, "observed": "y"}
    with pytest.raises(UserFault) as caught:
        running.build(job({"type": "program", "body": [parameter, choice]}, {"y": [0.5, 1.5]}))
    assert (caught.value.code, caught.value.param) == ("program_invalid", "/model/body/1/distribution")


def test_integers_beyond_32_bits_are_real_numbers_unless_declared() -> None:
    large = {"y": np.array([1, 2**40])}
    assert program.arrays_of({"data": None}, large)["y"].dtype == np.float32
    with pytest.raises(UserFault, match="x64"):
        program.arrays_of({"data": {"y": {"type": "int", "shape": ["N"], "lower": None, "upper": None}}}, large)


@pytest.mark.parametrize(("text", "message"), LATE, ids=["index", "solve"])
def test_what_only_the_numbers_show_is_told_at_its_column(text: str, message: str) -> None:
    body = [
        {"sample": "s", "distribution": {"type": "Normal"}},
        {"let": "z", "value": text},
        {"factor": "f", "value": "-s * sum(z)"},
    ]
    document = job({"type": "program", "body": body}, {"y": [1.0, 2.0, 3.0], "order": [[0, 9]]})
    spec = running.specs.resolve(job({"type": "program", "body": body}, {"y": [1.0, 2.0, 3.0], "order": [[0, 1]]}))
    spec["data"]["inline"] = document["data"]["inline"]
    with pytest.raises(UserFault) as caught:
        running.of(spec)
    assert caught.value.code == "program_invalid"
    assert caught.value.param == "/model/body/1/value"
    assert message in caught.value.message
