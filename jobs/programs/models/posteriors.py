"""Probability models from the catalog, as NumPyro functions of their data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from jobs.errors import UserFault
from jobs.programs import data as datasets
from jobs.programs import tables
from jobs.programs.models import classics, glm, program
from jobs.programs.user_code import own_posterior
from jobs.spec.catalog import load
from jobs.spec.imports import is_own

Model = Callable[..., None]
HIDDEN_PREFIX = "_"
"""Sites whose name begins so are how a model is written, not what it is about: they are sampled but not reported."""


def eight_schools(y: jax.Array, sigma: jax.Array) -> None:
    """Effects of eight coaching programs with a common mean, non-centred.

    Args:
        y: (schools,) estimated effects.
        sigma: (schools,) their standard errors.

    Source: Rubin (1981), J. Educ. Stat. 6(4); non-centred form after Papaspiliopoulos, Roberts and Sköld (2007).
    """
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", y.shape[0]):
        standard = numpyro.sample("_theta", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * standard)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def linear_regression(model: dict[str, Any]) -> Model:
    """Y ~ Normal(alpha + x · beta, sigma), with Normal priors on alpha and beta and a half-Normal one on sigma."""

    def linear_regression(x: jax.Array, y: jax.Array) -> None:
        x = x.reshape(x.shape[0], -1)
        alpha = numpyro.sample("alpha", dist.Normal(0, model["prior_scale_intercept"]))
        coefficients = dist.Normal(0, model["prior_scale_coefficients"]).expand([x.shape[1]]).to_event(1)
        beta = numpyro.sample("beta", coefficients)
        sigma = numpyro.sample("sigma", dist.HalfNormal(model["prior_scale_sigma"]))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(alpha + x @ beta, sigma), obs=y)

    return linear_regression


KINDS: Mapping[str, Callable[[dict[str, Any]], Model]] = {
    "eight_schools": lambda _: eight_schools,
    "eight_schools_centered": lambda _: classics.eight_schools_centered,
    "linear_regression": linear_regression,
    "logistic_regression": classics.logistic_regression,
    "poisson_regression": classics.poisson_regression,
    "hierarchical_regression": classics.hierarchical_regression,
    "gaussian_process_regression": classics.gaussian_process_regression,
    "stochastic_volatility": classics.stochastic_volatility,
    "item_response": classics.item_response,
    "import": own_posterior,
    "program": program.build,
    "glm": glm.build,
}


def build_model(model: dict[str, Any]) -> Model:
    """The NumPyro function of a resolved `model` section.

    Raises:
        UserFault: `user_code_error`, where a user's own target is no function.
    """
    return KINDS[model["type"]](model)


def observed(
    spec: dict[str, Any], path: Path | None, form: str | None, *, response: bool = True
) -> Mapping[str, jax.Array | np.ndarray]:
    """The data of a job as its model takes it.

    Args:
        spec: the resolved spec.
        path: the data file, None for inline and builtin data.
        form: the data file's format.
        response: whether it holds what a formula models; a prediction needs none.

    Raises:
        UserFault: `dataset_invalid`, where the data is not what the model needs.
    """
    model, data = spec["model"], spec["data"]
    if model["type"] == "glm":
        return glm.arrays_of(model, tables.table_of(data, path, form, model["design"]["kinds"]), response=response)
    columns = datasets.columns_of(data, path, form)
    return as_arrays(model, datasets.bind(columns, data["args"] or {name: name for name in columns}))


def arguments_of(model: Mapping[str, Any]) -> list[str]:
    """The arguments of a model of the catalog; none of one that has its own."""
    section = load().sections["models"]
    return section[model["type"]]["args"] if model["type"] in section else []


def as_arrays(model: dict[str, Any], bound: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """The observed data as the model takes them: floating point, but a user's own function and a program get integers as they are.

    Raises:
        UserFault: `dataset_invalid`, where a value is not finite, or the columns of a table differ in length.
    """
    if model["type"] == "program":
        return {name: jnp.asarray(array) for name, array in program.arrays_of(model, bound).items()}
    own = is_own(model)
    arrays = {name: jnp.asarray(array, None if own and array.dtype.kind in "biu" else float) for name, array in bound.items()}
    check_data(arrays, level=not own)
    return arrays


def check_data(data: dict[str, jax.Array], *, level: bool = True) -> None:
    """Raise UserFault where the observed data hold a value that is not finite, or (if `level`) differ in length."""
    for name, array in data.items():
        if not bool(jnp.all(jnp.isfinite(array))):
            raise UserFault("dataset_invalid", f"{name} holds values that are not finite", f"/data/args/{name}")
    if level and len({array.shape[0] for array in data.values()}) > 1:
        raise UserFault("dataset_invalid", "the columns differ in length", "/data/args")
