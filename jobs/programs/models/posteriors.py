"""Probability models from the catalog, as NumPyro functions of their data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from jobs.errors import UserFault

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


def build_model(model: dict[str, Any]) -> Model:
    """The NumPyro function of a resolved `model` section."""
    kinds: dict[str, Callable[[], Model]] = {
        "eight_schools": lambda: eight_schools,
        "linear_regression": lambda: linear_regression(model),
    }
    return kinds[model["type"]]()


def check_data(data: dict[str, jax.Array]) -> None:
    """Raise UserFault where the observed data hold a value that is not finite or differ in length."""
    for name, array in data.items():
        if not bool(jnp.all(jnp.isfinite(array))):
            raise UserFault("dataset_invalid", f"{name} holds values that are not finite", f"/data/args/{name}")
    if len({array.shape[0] for array in data.values()}) > 1:
        raise UserFault("dataset_invalid", "the columns differ in length", "/data/args")
