"""Fitting a guide: against NumPyro's own loop, a closed form, and in its way through checkpoints and into a sampler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from jobs.errors import UserFault
from jobs.programs import fitting
from jobs.programs.models import posteriors
from jobs.programs.outputs import Outputs
from jobs.programs.program import State, flatten
from jobs.programs.starting import Origin
from jobs.programs.svi import SviProgram
from jobs.spec.catalog import load
from tests import specs
from tests.jobs.programs import running

REGRESSION = {"kind": "svi", "model": {"type": "linear_regression"}, "num_samples": 400, "eval_particles": 10}


def built(document: dict[str, Any]) -> SviProgram:
    program = running.build(document)
    assert isinstance(program, SviProgram)
    return program


def run(program: SviProgram) -> tuple[State, dict[int, float]]:
    """A whole run: the last state, and each loss by its step."""
    state, losses = running.start(program), dict[int, float]()
    while state.step < program.total:
        state, block = program.advance(state)
        losses |= {each.step: float(each.values["train/loss"]) for each in block.metrics}
    return state, losses


def test_losses_are_those_of_numpyro_s_own_run_and_the_rest_goes_its_way(tmp_path: Path) -> None:
    program = built(specs.fitted())
    state, losses = run(program)
    model = posteriors.eight_schools
    svi = SVI(model, AutoNormal(model), optax.adam(0.01), Trace_ELBO())
    data = (jnp.asarray(specs.SCHOOLS[name], float) for name in ("y", "sigma"))
    plain = svi.run(jax.random.key(0), 300, *data, progress_bar=False)
    assert list(losses) == list(range(10, 301, 10))
    np.testing.assert_allclose(list(losses.values()), np.asarray(plain.losses)[9::10], rtol=1e-4)

    outputs = Outputs(tmp_path)
    measured = program.evaluate(state, outputs, lambda: False)
    assert measured is not None
    outputs.measure(300, measured.values, evaluated=True)
    result, artifacts = program.result(state, outputs, "completed")
    assert set(result["summary"]) == {"mu", "tau", *(f"theta[{i}]" for i in range(8))}
    assert (result["num_chains"], result["num_draws"], result["stopped_by"]) == (1, 200, "completed")
    assert result["final"]["eval/elbo"] == -result["final"]["eval/loss"]
    assert "posterior.nc" in artifacts
    assert all((tmp_path / name).is_file() for name in artifacts)
    assert outputs.names(300) == ["measurements/000000000300.json", "draws/000000000300.npz"]

    # The same guide starts a sampler's chains.
    params = flatten(state.sections["params"])
    origin = Origin(program.spec, {path: np.asarray(value) for path, value in params.items()})
    kernel = {"type": "NUTS", "inverse_mass_matrix": "init_from"}
    spec = specs.resolve(specs.schools()) | {"kernel": specs.resolve(specs.schools())["kernel"] | kernel}
    sampler: Any = running.of(spec)
    begun = sampler.warm_start(origin)
    fitted = fitting.restored(model, program.spec, origin.params, program.data)
    spread = np.std(np.asarray(fitting.draw(fitted, jax.random.key(0), 500, program.data)["mu"]))
    inverse = np.asarray(next(iter(begun.sections["kernel_state"].adapt_state.inverse_mass_matrix.values())))
    assert inverse.shape == (4, 10)
    assert np.isclose(inverse[0], spread**2, rtol=0.3).any()
    assert abs(float(np.mean(begun.sections["kernel_state"].z["mu"])) - result["summary"]["mu"]["mean"]) < 4 * spread
    with pytest.raises(UserFault, match="does not fit"):
        sampler.warm_start(Origin(program.spec, {"other": np.zeros(3)}))


def test_a_guide_finds_a_posterior_that_is_known() -> None:
    """With wide priors the means of the coefficients are the least-squares fit."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=60)
    y = 1.0 + 2.0 * x + generator.normal(size=60)
    slope, intercept = np.polyfit(x, y, 1)
    document = REGRESSION | {
        "data": {"inline": {"x": x.tolist(), "y": y.tolist()}},
        "guide": {"type": "AutoMultivariateNormal", "init_scale": 0.05, "init_loc_fn": "init_to_median"},
        "loss": {"type": "Trace_ELBO", "num_particles": 4},
        "optimizer": {"type": "adam", "learning_rate": {"type": "exponential_decay", "init_value": 0.1, "transition_steps": 200,
                                                       "decay_rate": 0.1}},
        "steps": 600,
    }  # fmt: skip
    program = built(document)
    state, _ = run(program)
    draws = program.draws(state)
    assert abs(draws["alpha"].mean() - intercept) < 0.06
    assert abs(draws["beta"].mean() - slope) < 0.06
    assert abs(draws["alpha"].std() - 1 / np.sqrt(60)) < 0.05


def test_an_elbo_that_is_not_finite_ends_the_job() -> None:
    program = built(specs.fitted(optimizer={"type": "sgd", "learning_rate": 1e6}))
    with pytest.raises(UserFault, match="learning_rate") as caught:
        run(program)
    assert caught.value.code == "nan_loss"


@pytest.mark.parametrize("name", sorted(load().sections["guides"]))
def test_every_guide_of_the_catalog_is_fitted_and_drawn_from(name: str) -> None:
    fitted = load().fit("guides", {"type": name}, "/guide", "svi")
    assert fitted.issues == []
    if name.startswith("AutoBatched"):
        return  # for models that are one plate from top to bottom; what it takes is checked where it is read
    spec = specs.resolve(specs.fitted()) | {"guide": fitted.value}
    data: dict[str, Any] = {column: jnp.asarray(np.array(values, np.float32)) for column, values in specs.SCHOOLS.items()}
    svi = fitting.build_svi(spec, posteriors.eight_schools)

    def whole(key: jax.Array) -> Any:
        state, _ = svi.update(svi.init(key, **data), **data)
        return fitting.draw(fitting.Guide(posteriors.eight_schools, svi.guide, svi.get_params(state)), key, 3, data)

    draws = jax.eval_shape(whole, jax.random.key(0))
    assert {site: value.shape for site, value in draws.items()} == {"mu": (3,), "tau": (3,), "theta": (3, 8), "_theta": (3, 8)}
