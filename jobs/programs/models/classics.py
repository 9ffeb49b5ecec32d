"""Classic posteriors of the catalog, as NumPyro functions of their data. Groups, subjects and items are counted from zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular

Model = Callable[..., None]
Section = dict[str, Any]
# NumPyro types a site's value as anything like an array, which knows neither `**` nor `[…]`.
_sample: Any = numpyro.sample
_deterministic: Any = numpyro.deterministic


def eight_schools_centered(y: jax.Array, sigma: jax.Array) -> None:
    """Effects of eight coaching programs with a common mean, centred: theta ~ Normal(mu, tau), which diverges where tau is small.

    Args:
        y: (schools,) estimated effects.
        sigma: (schools,) their standard errors.

    Source: Rubin (1981), J. Educ. Stat. 6(4); the centred form as in Gelman et al., Bayesian Data Analysis, section 5.5.
    """
    mu = _sample("mu", dist.Normal(0, 5))
    tau = _sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", y.shape[0]):
        theta = _sample("theta", dist.Normal(mu, tau))
        _sample("y", dist.Normal(theta, sigma), obs=y)


def logistic_regression(model: Section) -> Model:
    """Y ~ Bernoulli(logit⁻¹(alpha + x · beta)), with Normal priors; x as it is given.

    Source: McCullagh and Nelder (1989), Generalized Linear Models, chapter 4.
    """

    def logistic_regression(x: jax.Array, y: jax.Array) -> None:
        predictor = _linear_predictor(model, x)
        with numpyro.plate("rows", y.shape[0]):
            _sample("y", dist.Bernoulli(logits=predictor), obs=y)

    return logistic_regression


def poisson_regression(model: Section) -> Model:
    """Y ~ Poisson(exp(alpha + x · beta)), with Normal priors; x as it is given.

    Source: McCullagh and Nelder (1989), Generalized Linear Models, chapter 6.
    """

    def poisson_regression(x: jax.Array, y: jax.Array) -> None:
        predictor = _linear_predictor(model, x)
        with numpyro.plate("rows", y.shape[0]):
            _sample("y", dist.Poisson(jnp.exp(predictor)), obs=y)

    return poisson_regression


def hierarchical_regression(model: Section) -> Model:
    """Y ~ Normal(alpha[group] + x · beta, sigma), alpha ~ Normal(mu_alpha, sigma_alpha), non-centred.

    Source: Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical Models, chapter 12.
    """

    def hierarchical_regression(x: jax.Array, y: jax.Array, group: jax.Array) -> None:
        x = x.reshape(x.shape[0], -1)
        mu = _sample("mu_alpha", dist.Normal(0, model["prior_scale_intercept"]))
        spread = _sample("sigma_alpha", dist.HalfNormal(model["prior_scale_groups"]))
        with numpyro.plate("groups", model["groups"]):
            standard = _sample("_alpha", dist.Normal(0, 1))
            alpha = _deterministic("alpha", mu + spread * standard)
        beta = _sample("beta", dist.Normal(0, model["prior_scale_coefficients"]).expand([x.shape[1]]).to_event(1))
        sigma = _sample("sigma", dist.HalfNormal(model["prior_scale_sigma"]))
        with numpyro.plate("rows", y.shape[0]):
            _sample("y", dist.Normal(alpha[group.astype(jnp.int32)] + x @ beta, sigma), obs=y)

    return hierarchical_regression


def gaussian_process_regression(model: Section) -> Model:
    """Y ~ Normal(0, K + sigma² I), K[i, j] = amplitude² exp(-|x[i] - x[j]|² / (2 lengthscale²)).

    Source: Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, section 2.3; the inverse-gamma prior, which
    keeps the length scale off zero, as in the Stan User's Guide. Given what it was fitted to, it is the process at new points,
    conditional on that (section 2.2, equation 2.22), with its mean there as `f`.
    """

    def gaussian_process_regression(
        x: jax.Array, y: jax.Array, fitted_x: jax.Array | None = None, fitted_y: jax.Array | None = None
    ) -> None:
        lengthscale = _sample("lengthscale", dist.InverseGamma(5.0, 5.0))
        amplitude = _sample("amplitude", dist.HalfNormal(model["prior_scale_amplitude"]))
        sigma = _sample("sigma", dist.HalfNormal(model["prior_scale_sigma"]))
        noise = sigma**2 + model["jitter"] * amplitude**2

        def covariance(one: jax.Array, other: jax.Array) -> jax.Array:
            one, other = one.reshape(one.shape[0], -1), other.reshape(other.shape[0], -1)
            squares = jnp.sum((one[:, None, :] - other[None, :, :]) ** 2, axis=-1)
            return amplitude**2 * jnp.exp(-0.5 * squares / lengthscale**2)

        mean, kernel = jnp.zeros(x.shape[0]), covariance(x, x)
        if fitted_x is not None and fitted_y is not None:
            known = jnp.linalg.cholesky(covariance(fitted_x, fitted_x) + noise * jnp.eye(fitted_x.shape[0]))
            beside = solve_triangular(known, covariance(fitted_x, x), lower=True)
            mean = _deterministic("f", beside.T @ solve_triangular(known, fitted_y, lower=True))
            kernel -= beside.T @ beside
        _sample("y", dist.MultivariateNormal(mean, kernel + noise * jnp.eye(x.shape[0])), obs=y)

    return gaussian_process_regression


def stochastic_volatility(model: Section) -> Model:
    """Y[t] ~ Normal(0, exp(h[t] / 2)), h[t] - mu = phi (h[t-1] - mu) + sigma e[t], h[0] from the stationary distribution.

    Source: Kim, Shephard and Chib (1998), Review of Economic Studies 65(3); priors as in the Stan User's Guide.
    """

    def stochastic_volatility(y: jax.Array) -> None:
        mu = _sample("mu", dist.Cauchy(0, model["prior_scale_mean"]))
        phi = _sample("phi", dist.Uniform(-1, 1))
        sigma = _sample("sigma", dist.HalfCauchy(model["prior_scale_sigma"]))
        standard = _sample("_h", dist.Normal(0, 1).expand([y.shape[0]]).to_event(1))

        def step(before: jax.Array, each: jax.Array) -> tuple[jax.Array, jax.Array]:
            now = phi * before + sigma * each
            return now, now

        first = sigma / jnp.sqrt(1 - phi**2) * standard[0]
        _, rest = jax.lax.scan(step, first, standard[1:])
        h = _deterministic("h", mu + jnp.concatenate([first[None], rest]))
        with numpyro.plate("times", y.shape[0]):
            _sample("y", dist.Normal(0, jnp.exp(h / 2)), obs=y)

    return stochastic_volatility


def item_response(model: Section) -> Model:
    """Y ~ Bernoulli(logit⁻¹(discrimination[item] (ability[subject] - difficulty[item]))); in the form 1pl all discriminate alike.

    Source: Birnbaum (1968) in Lord and Novick, Statistical Theories of Mental Test Scores; Rasch (1960) for 1pl.
    """

    def item_response(subject: jax.Array, item: jax.Array, y: jax.Array) -> None:
        subject, item = subject.astype(jnp.int32), item.astype(jnp.int32)
        with numpyro.plate("subjects", model["subjects"]):
            ability = _sample("ability", dist.Normal(0, 1))
        with numpyro.plate("items", model["items"]):
            difficulty = _sample("difficulty", dist.Normal(0, model["prior_scale_difficulty"]))
            steep = model["form"] == "2pl"
            prior = dist.LogNormal(0, model["prior_scale_discrimination"])
            discrimination = _sample("discrimination", prior) if steep else jnp.ones(model["items"])
        with numpyro.plate("answers", y.shape[0]):
            logits = discrimination[item] * (ability[subject] - difficulty[item])
            _sample("y", dist.Bernoulli(logits=logits), obs=y)

    return item_response


def _linear_predictor(model: Section, x: jax.Array) -> jax.Array:
    x = x.reshape(x.shape[0], -1)
    alpha = _sample("alpha", dist.Normal(0, model["prior_scale_intercept"]))
    beta = _sample("beta", dist.Normal(0, model["prior_scale_coefficients"]).expand([x.shape[1]]).to_event(1))
    return alpha + x @ beta
