"""Models as programs, and the same by hand in NumPyro: (statements, data, sites with their unconstrained shapes, function)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.special as jss
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints as c

# ruff: noqa: E501, N803  (one model reads best on few lines, and data bears the names that Stan gives it)
G = np.random.default_rng(7)
X2 = G.normal(size=(12, 2)).round(3)
X, Y = X2[:, 0], (1 + 2 * X2[:, 0] + G.normal(size=12)).round(3)
COUNTS = G.poisson(3.0, 12)
BINARY = np.array([0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1])
GROUP = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2])
AGE = np.array([1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4])


sample: Any = numpyro.sample
"""Its values as arrays, which the library's own signature does not promise."""


class Example(NamedTuple):
    """A model, written twice."""

    body: list[dict[str, Any]]
    data: dict[str, Any]
    free: dict[str, tuple[int, ...]]
    model: Callable[..., None]


def flat(name: str, support: Any = c.real, shape: tuple[int, ...] = ()) -> Any:
    return sample(name, dist.ImproperUniform(support, shape, ()).to_event(len(shape)))


def site(name: str, kind: str, *, observed: Any = None, shape: Any = None, constraint: Any = None, **given: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"sample": name, "distribution": {"type": kind, **given}}
    extra = {"observed": observed, "shape": shape, "constraint": constraint}
    return found | {key: value for key, value in extra.items() if value is not None}


def let(**named: Any) -> dict[str, Any]:
    ((name, value),) = named.items()
    return {"let": name, "value": value}


def flats(name: str, support: Any = "real", shape: Any = None) -> dict[str, Any]:
    return site(name, "ImproperUniform", support=support, shape=shape)


def kidiq(kid_score: Any, mom_iq: Any, mom_hs: Any) -> None:
    beta = flat("beta", shape=(4,))
    sigma = sample("sigma", dist.HalfCauchy(2.5))
    mu = beta[0] + beta[1] * mom_hs + beta[2] * mom_iq + beta[3] * mom_hs * mom_iq
    sample("kid_score", dist.Normal(mu, sigma), obs=kid_score)


def logearn(earn: Any, height: Any) -> None:
    beta, sigma = flat("beta", shape=(2,)), flat("sigma", c.positive)
    sample("log_earn", dist.Normal(beta[0] + beta[1] * height, sigma), obs=jnp.log(earn))


def nes(y: Any, income: Any, age: Any) -> None:
    beta, sigma = flat("beta", shape=(5,)), flat("sigma", c.positive)
    mu = beta[0] + beta[1] * income + beta[2] * (age == 2) + beta[3] * (age == 3) + beta[4] * (age == 4)
    sample("y", dist.Normal(mu, sigma), obs=y)


def schools(y: Any, sigma: Any) -> None:
    mu = sample("mu", dist.Normal(0, 5))
    tau = sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("J", 8):
        standard = sample("theta_trans", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * standard)
        sample("y", dist.Normal(theta, sigma), obs=y)


def schools_centred(y: Any, sigma: Any) -> None:
    mu, tau = sample("mu", dist.Normal(0, 5)), sample("tau", dist.HalfCauchy(5))
    theta = sample("theta", dist.Normal(mu, tau).expand([8]).to_event(1))
    sample("y", dist.Normal(theta, sigma), obs=y)


def autoregression(K: int, T: int, y: Any) -> None:
    alpha = sample("alpha", dist.Normal(0, 10))
    beta = sample("beta", dist.Normal(0, 10).expand([K]).to_event(1))
    sigma = sample("sigma", dist.HalfCauchy(2.5))
    mu = alpha + sum(beta[k] * y[K - k - 1 : T - k - 1] for k in range(K))
    sample("y", dist.Normal(mu, sigma), obs=y[K:])


def arma(y: Any) -> None:
    mu = sample("mu", dist.Normal(0, 10))
    phi, theta = sample("phi", dist.Normal(0, 2)), sample("theta", dist.Normal(0, 2))
    sigma = sample("sigma", dist.HalfCauchy(2.5))
    errors = [y[0] - (mu + phi * mu)]
    for t in range(1, len(y)):
        errors.append(y[t] - (mu + phi * y[t - 1] + theta * errors[-1]))
    numpyro.factor("err", dist.Normal(0, sigma).log_prob(jnp.stack(errors)))


def garch(y: Any, sigma1: float) -> None:
    mu, alpha0 = flat("mu"), flat("alpha0", c.positive)
    alpha1 = flat("alpha1", c.interval(0, 1))
    beta1 = flat("beta1", c.interval(0, 1 - alpha1))
    variances = [jnp.square(sigma1)]
    for t in range(1, len(y)):
        variances.append(alpha0 + alpha1 * (y[t - 1] - mu) ** 2 + beta1 * variances[-1])
    sample("y", dist.Normal(mu, jnp.sqrt(jnp.stack(variances))), obs=y)


def gp_poisson(x: Any, k: Any) -> None:
    rho, alpha = sample("rho", dist.Gamma(25, 4)), sample("alpha", dist.HalfNormal(2))
    f_tilde = sample("f_tilde", dist.Normal(0, 1).expand([len(x)]).to_event(1))
    cov = alpha**2 * jnp.exp(-0.5 * (x[:, None] - x) ** 2 / rho**2) + 1e-4 * jnp.eye(len(x))
    sample("k", dist.Poisson(jnp.exp(jnp.linalg.cholesky(cov) @ f_tilde)), obs=k)


def gp(x: Any, y: Any) -> None:
    rho, alpha = sample("rho", dist.InverseGamma(5, 5)), sample("alpha", dist.HalfNormal(1))
    sigma = sample("sigma", dist.HalfNormal(1))
    cov = alpha**2 * jnp.exp(-0.5 * (x[:, None] - x) ** 2 / rho**2) + sigma**2 * jnp.eye(len(x))
    sample("y", dist.MultivariateNormal(jnp.zeros(len(x)), covariance_matrix=cov), obs=y)


def mixture(y: Any) -> None:
    mu = sample("mu", dist.ImproperUniform(c.ordered_vector, (), (2,)))
    numpyro.factor("mu_prior", dist.Normal(0, 2).log_prob(mu))
    sigma = sample("sigma", dist.HalfNormal(2).expand([2]).to_event(1))
    theta = sample("theta", dist.Beta(5, 5))
    pair = [jnp.log(theta) + dist.Normal(mu[0], sigma[0]).log_prob(y), jnp.log1p(-theta) + dist.Normal(mu[1], sigma[1]).log_prob(y)]
    numpyro.factor("y", jnp.logaddexp(*pair))


def hmm(y: Any) -> None:
    theta = sample("theta", dist.Dirichlet(jnp.ones((2, 2))).to_event(1))
    mu = sample("mu", dist.ImproperUniform(c.positive_ordered_vector, (), (2,)))
    numpyro.factor("mu_prior", dist.Normal(jnp.array([3.0, 10.0]), 1).log_prob(mu))
    gamma = dist.Normal(mu, 1).log_prob(y[0])
    for value in y[1:]:
        gamma = jss.logsumexp(gamma[:, None] + jnp.log(theta), axis=0) + dist.Normal(mu, 1).log_prob(value)
    numpyro.factor("forward", jss.logsumexp(gamma))


def covariance(x: Any) -> None:
    sigma = sample("Sigma", dist.ImproperUniform(c.positive_definite, (), (2, 2)))
    factor = sample("L", dist.ImproperUniform(c.lower_cholesky, (), (2, 2)))
    sample("y", dist.MultivariateNormal(0.0, covariance_matrix=sigma), obs=x)
    sample("z", dist.MultivariateNormal(0.0, scale_tril=factor), obs=x)


def volterra(ts: Any, y: Any) -> None:
    theta = sample("theta", dist.Normal(jnp.array([0.0, -3, 0, -3]), 0.5).to_event(1))
    rates, state = jnp.exp(theta), sample("z0", dist.LogNormal(2.3, 1).expand([2]).to_event(1))
    sigma = sample("sigma", dist.LogNormal(-1, 1).expand([2]).to_event(1))

    def slope(z: Any) -> Any:
        return jnp.stack([(rates[0] - rates[1] * z[1]) * z[0], (-rates[2] + rates[3] * z[0]) * z[1]])

    def quarter(z: Any, _: Any) -> Any:
        k1 = slope(z)
        k2 = slope(z + k1 / 8)
        k3 = slope(z + k2 / 8)
        z = z + (k1 + 2 * k2 + 2 * k3 + slope(z + k3 / 4)) / 24
        return z, z

    path = jax.lax.scan(quarter, state, None, length=4 * len(ts))[1][3::4]
    sample("y", dist.LogNormal(jnp.log(path), sigma), obs=y)


def logistic(x: Any, y: Any) -> None:
    alpha, beta = sample("alpha", dist.Cauchy(0, 10)), sample("beta", dist.Normal(0, 2.5).expand([2]).to_event(1))
    sample("y", dist.Bernoulli(logits=alpha + x @ beta), obs=y)


def negative_binomial(x: Any, y: Any) -> None:
    alpha, beta = sample("alpha", dist.Normal(0, 2)), sample("beta", dist.Normal(0, 2))
    phi = sample("inverse", dist.HalfNormal(1))
    sample("y", dist.NegativeBinomial2(jnp.exp(alpha + beta * x + 0.5), 1 / phi), obs=y)


def correlated(x: Any, y: Any, g: Any) -> None:
    scale = sample("scale", dist.HalfNormal(1).expand([2]).to_event(1))
    corr = sample("L", dist.LKJCholesky(2, 2.0))
    z = sample("z", dist.Normal(0, 1).expand([3, 2]).to_event(2))
    effect = z @ (scale[:, None] * corr).T
    sample("y", dist.Normal(effect[g, 0] + effect[g, 1] * x, 1), obs=y)


def ordinal(x: Any, y: Any) -> None:
    beta = sample("beta", dist.Normal(0, 1))
    base = dist.Normal(0, 2).expand([3]).to_event(1)
    cut = sample("cut", dist.TransformedDistribution(base, dist.transforms.OrderedTransform()))
    sample("y", dist.OrderedLogistic(beta * x, cut), obs=y)


def softmax(x: Any, y: Any) -> None:
    beta = sample("beta", dist.Normal(0, 1).expand([2, 2]).to_event(2))
    sample("y", dist.Categorical(logits=jnp.concatenate([jnp.zeros((12, 1)), x @ beta], axis=1)), obs=y)


def robust(x: Any, y: Any) -> None:
    alpha, nu, sigma = (
        sample("alpha", dist.Normal(0, 5)),
        sample("nu", dist.Gamma(2, 0.1)),
        flat("sigma", c.positive),
    )
    sample("y", dist.StudentT(nu, alpha + x, sigma), obs=y)


def horseshoe(x: Any, y: Any) -> None:
    tau = sample("tau", dist.HalfCauchy(1))
    lam = sample("lam", dist.HalfCauchy(1).expand([2]).to_event(1))
    z = sample("z", dist.Normal(0, 1).expand([2]).to_event(1))
    sample("y", dist.Normal(x @ (z * lam * tau), 1), obs=y)


def volatility(y: Any) -> None:
    step = sample("step", dist.Exponential(50))
    s = sample("s", dist.GaussianRandomWalk(step, 12))
    nu = sample("nu", dist.Exponential(0.1))
    sample("y", dist.StudentT(nu, 0, jnp.exp(s)), obs=y)


def items(y: Any, subject: Any, item: Any) -> None:
    with numpyro.plate("subjects", 4):
        ability = sample("ability", dist.Normal(0, 1))
    with numpyro.plate("items", 3):
        hard, sharp = sample("hard", dist.Normal(0, 2)), sample("sharp", dist.LogNormal(0, 1))
    sample("y", dist.Bernoulli(logits=sharp[item] * (ability[subject] - hard[item])), obs=y)


def inflated(y: Any) -> None:
    gate, rate = sample("gate", dist.Beta(1, 1)), sample("rate", dist.Gamma(2, 1))
    sample("y", dist.ZeroInflatedPoisson(gate, rate), obs=y)


def truncated(y: Any) -> None:
    mu, sigma = sample("mu", dist.Normal(0, 3)), sample("sigma", dist.HalfNormal(2))
    sample("y", dist.TruncatedNormal(mu, sigma, low=-5, high=9), obs=y)


def orthogonal(x: Any, y: Any) -> None:
    centred = (x - x.mean(0)) / x.std(0, ddof=1)
    theta, sigma = sample("theta", dist.Normal(0, 5).expand([2]).to_event(1)), sample("sigma", dist.HalfNormal(1))
    q = jnp.linalg.qr(centred)[0] * jnp.sqrt(11.0)
    numpyro.deterministic("beta", jnp.linalg.solve(jnp.linalg.qr(centred)[1] / jnp.sqrt(11.0), theta))
    sample("y", dist.Normal(q @ theta, sigma), obs=y)


def shares(y: Any) -> None:
    concentration = sample("a", dist.Gamma(2, 0.5).expand([3]).to_event(1))
    sample("y", dist.DirichletMultinomial(concentration, y.sum(-1)), obs=y)


def funnel() -> None:
    z = sample("z", dist.Normal(0, 3))
    sample("x", dist.Normal(0, jnp.exp(z / 2)).expand([9]).to_event(1))


def conjugate(y: Any, n: Any, k: Any) -> None:
    sample("y", dist.Normal(sample("mu", dist.Normal(1, 2)), 1.5), obs=y)
    sample("k", dist.Binomial(n, probs=sample("p", dist.Beta(2, 3))), obs=k)


def survival(t: Any, seen: Any) -> None:
    shape, scale = sample("shape", dist.Gamma(2, 1)), sample("scale", dist.Gamma(2, 0.5))
    died = dist.Weibull(scale, shape).log_prob(t)
    numpyro.factor("fit", jnp.where(seen == 1, died, -((t / scale) ** shape)))


def change_point(y: Any) -> None:
    early, late = sample("early", dist.Exponential(1)), sample("late", dist.Exponential(1))
    both = [dist.Poisson(rate).log_prob(y) for rate in (early, late)]
    before = jnp.concatenate([jnp.zeros(1), jnp.cumsum(both[0])])[:-1]
    after = jnp.sum(both[1]) - jnp.concatenate([jnp.zeros(1), jnp.cumsum(both[1])])[:-1]
    numpyro.factor("y", jss.logsumexp(before + after - jnp.log(12.0)))


def crossed(y: Any) -> None:
    with numpyro.plate("columns", 3, dim=-1):
        b = sample("b", dist.Normal(0, 1))
        with numpyro.plate("rows", 4, dim=-2):
            a = sample("a", dist.Normal(b, 1))
            sample("y", dist.Normal(a, 1), obs=y)


def local_level(y: Any) -> None:
    q, r = sample("q", dist.HalfNormal(1)), sample("r", dist.HalfNormal(1))

    def filtered(carry: Any, value: Any) -> Any:
        mean, var = carry
        gain = var / (var + r**2)
        return (mean + gain * (value - mean), (1 - gain) * var + q**2), dist.Normal(mean, jnp.sqrt(var + r**2)).log_prob(value)

    numpyro.factor("y", jnp.sum(jax.lax.scan(filtered, (0.0, 10.0), y)[1]))


HMM_Y = (np.array([3, 10, 9, 3, 4, 10, 11, 3]) + G.normal(size=8)).round(3)
T_TIMES, PREY = np.arange(1.0, 4.0), np.array([[30.0, 4.0], [47.2, 6.1], [70.2, 9.8]])
DIED = np.array([1.0, 2.5, 0.5, 3.0])
BLOCK = COUNTS.reshape(4, 3) + 1
MIX = {"type": "Categorical", "probs": ["theta", "1 - theta"]}

EXAMPLES: dict[str, Example] = {
    "kidiq_interaction": Example(
        [flats("beta", shape=[4]), site("sigma", "HalfCauchy", scale=2.5),
         let(mu="beta[0] + beta[1] * mom_hs + beta[2] * mom_iq + beta[3] * mom_hs * mom_iq"),
         site("kid_score", "Normal", loc="mu", scale="sigma", observed="kid_score")],
        {"kid_score": Y, "mom_iq": X, "mom_hs": BINARY}, {"beta": (4,), "sigma": ()}, kidiq),
    "logearn": Example(
        [flats("beta", shape=[2]), flats("sigma", "positive"),
         site("log_earn", "Normal", loc="beta[0] + beta[1] * height", scale="sigma", observed="log(earn)")],
        {"earn": np.exp(Y), "height": X}, {"beta": (2,), "sigma": ()}, logearn),
    "nes": Example(
        [flats("beta", shape=[5]), flats("sigma", "positive"),
         let(design="column_stack([ones(len(y)), income, age == 2, age == 3, age == 4])"),
         site("y", "Normal", loc="design @ beta", scale="sigma", observed="y")],
        {"y": Y, "income": X, "age": AGE}, {"beta": (5,), "sigma": ()}, nes),
    "eight_schools_noncentered": Example(
        [site("mu", "Normal", loc=0, scale=5), site("tau", "HalfCauchy", scale=5),
         {"plate": "J", "size": "len(y)", "body": [
             site("theta_trans", "Normal", loc=0, scale=1), {"deterministic": "theta", "value": "mu + tau * theta_trans"},
             site("y", "Normal", loc="theta", scale="sigma", observed="y")]}],
        {"y": Y[:8], "sigma": np.arange(10.0, 18.0)}, {"mu": (), "tau": (), "theta_trans": (8,)}, schools),
    "eight_schools_centred": Example(
        [site("mu", "Normal", loc=0, scale=5), site("tau", "HalfCauchy", scale=5),
         site("theta", "Normal", loc="mu", scale="tau", shape=["len(y)"]), site("y", "Normal", loc="theta", scale="sigma", observed="y")],
        {"y": Y[:8], "sigma": np.arange(10.0, 18.0)}, {"mu": (), "tau": (), "theta": (8,)}, schools_centred),
    "ar": Example(
        [site("alpha", "Normal", loc=0, scale=10), site("beta", "Normal", loc=0, scale=10, shape=["K"]),
         site("sigma", "HalfCauchy", scale=2.5), let(lags="arange(K, T)[:, None] - 1 - arange(K)[None, :]"),
         site("y", "Normal", loc="alpha + y[lags] @ beta", scale="sigma", observed="y[K:]")],
        {"K": 2, "T": 12, "y": Y}, {"alpha": (), "beta": (2,), "sigma": ()}, autoregression),
    "arma": Example(
        [site("mu", "Normal", loc=0, scale=10), site("phi", "Normal", loc=0, scale=2), site("theta", "Normal", loc=0, scale=2),
         site("sigma", "HalfCauchy", scale=2.5), let(first="y[0] - (mu + phi * mu)"),
         {"scan": {"e": "first"}, "over": {"now": "y[1:]", "before": "y[:-1]"},
          "body": [let(error="now - (mu + phi * before + theta * e)")], "next": {"e": "error"}, "stack": {"rest": "error"}},
         {"factor": "err", "log_prob": {"type": "Normal", "loc": 0, "scale": "sigma"}, "at": "concatenate([[first], rest])"}],
        {"y": Y}, {"mu": (), "phi": (), "theta": (), "sigma": ()}, arma),
    "garch": Example(
        [flats("mu"), flats("alpha0", "positive"), flats("alpha1", {"type": "interval", "lower_bound": 0, "upper_bound": 1}),
         flats("beta1", {"type": "interval", "lower_bound": 0, "upper_bound": "1 - alpha1"}),
         {"scan": {"v": "sigma1 ** 2"}, "over": {"e": "y - mu"}, "next": {"v": "alpha0 + alpha1 * e ** 2 + beta1 * v"},
          "stack": {"variance": "v"}}, site("y", "Normal", loc="mu", scale="sqrt(variance)", observed="y")],
        {"y": Y, "sigma1": 0.5}, {"mu": (), "alpha0": (), "alpha1": (), "beta1": ()}, garch),
    "gp_poisson": Example(
        [site("rho", "Gamma", concentration=25, rate=4), site("alpha", "HalfNormal", scale=2),
         site("f_tilde", "Normal", loc=0, scale=1, shape=["len(x)"]),
         let(cov="alpha ** 2 * exp(-0.5 * squared_distance(x, x) / rho ** 2) + 1e-4 * eye(len(x))"),
         site("k", "Poisson", rate="exp(cholesky(cov) @ f_tilde)", observed="k")],
        {"x": X, "k": COUNTS}, {"rho": (), "alpha": (), "f_tilde": (12,)}, gp_poisson),
    "gp_regression": Example(
        [site("rho", "InverseGamma", concentration=5, rate=5), site("alpha", "HalfNormal", scale=1), site("sigma", "HalfNormal", scale=1),
         let(cov="alpha ** 2 * exp(-0.5 * (x[:, None] - x[None, :]) ** 2 / rho ** 2) + sigma ** 2 * eye(len(x))"),
         site("y", "MultivariateNormal", loc="zeros(len(x))", covariance_matrix="cov", observed="y")],
        {"x": X, "y": Y}, {"rho": (), "alpha": (), "sigma": ()}, gp),
    "ordered_mixture": Example(
        [site("mu", "Normal", loc=0, scale=2, shape=[2], constraint="ordered_vector"), site("sigma", "HalfNormal", scale=2, shape=[2]),
         site("theta", "Beta", concentration1=5, concentration0=5),
         site("y", "MixtureSameFamily", mixing_distribution=MIX,
              component_distribution={"type": "Normal", "loc": "mu", "scale": "sigma"}, observed="y")],
        {"y": Y}, {"mu": (2,), "sigma": (2,), "theta": ()}, mixture),
    "ordered_mixture_by_log_mix": Example(
        [site("mu", "Normal", loc=0, scale=2, shape=[2], constraint="ordered_vector"), site("sigma", "HalfNormal", scale=2, shape=[2]),
         site("theta", "Beta", concentration1=5, concentration0=5),
         {"let": "lp", "log_prob": {"type": "Normal", "loc": "mu", "scale": "sigma"}, "at": "y[:, None]"},
         {"factor": "y", "value": "log_mix(theta, lp[:, 0], lp[:, 1])"}],
        {"y": Y}, {"mu": (2,), "sigma": (2,), "theta": ()}, mixture),
    "hmm": Example(
        [site("theta", "Dirichlet", concentration="ones([2, 2])", to_event=1),
         site("mu", "Normal", loc=[3, 10], scale=1, shape=[2], constraint="positive_ordered_vector"),
         {"let": "emission", "log_prob": {"type": "Normal", "loc": "mu", "scale": 1}, "at": "y[:, None]"},
         {"scan": {"gamma": "emission[0]"}, "over": {"row": "emission[1:]"},
          "next": {"gamma": "logsumexp(gamma[:, None] + log(theta), axis=0) + row"}},
         {"factor": "forward", "value": "logsumexp(gamma)"}],
        {"y": HMM_Y}, {"theta": (2, 1), "mu": (2,)}, hmm),
    "hmm_flat": Example(
        [flats("theta", "simplex", shape=[2, 2]), site("mu", "Normal", loc=[3, 10], scale=1, constraint="positive_ordered_vector"),
         {"let": "emission", "log_prob": {"type": "Normal", "loc": "mu", "scale": 1}, "at": "y[:, None]"},
         {"scan": {"gamma": "emission[0]"}, "over": {"row": "emission[1:]"},
          "next": {"gamma": "log_sum_exp(gamma[:, None] + log(theta), axis=0) + row"}},
         {"factor": "forward", "value": "log_sum_exp(gamma)"}],
        {"y": HMM_Y}, {"theta": (2, 1), "mu": (2,)}, hmm),
    "flat_covariance": Example(
        [flats("Sigma", "positive_definite", shape=[2, 2]), flats("L", "lower_cholesky", shape=[2, 2]),
         site("y", "MultivariateNormal", loc=0, covariance_matrix="Sigma", observed="x"),
         site("z", "MultivariateNormal", loc=0, scale_tril="L", observed="x")],
        {"x": X2}, {"Sigma": (3,), "L": (3,)}, covariance),
    "lotka_volterra": Example(
        [site("theta", "Normal", loc=[0, -3, 0, -3], scale=0.5, to_event=1), site("z0", "LogNormal", loc=2.3, scale=1, shape=[2]),
         site("sigma", "LogNormal", loc=-1, scale=1, shape=[2]), let(r="exp(theta)"),
         {"ode": {"u": "z0[0]", "v": "z0[1]"}, "times": "ts", "solver": "rk4", "steps": 4, "body": [let(meet="u * v")],
          "derivative": {"u": "r[0] * u - r[1] * meet", "v": "-r[2] * v + r[3] * meet"}},
         site("y", "LogNormal", loc="log(column_stack([u, v]))", scale="sigma", observed="y")],
        {"ts": T_TIMES, "y": PREY}, {"theta": (4,), "z0": (2,), "sigma": (2,)}, volterra),
    "logistic": Example(
        [site("alpha", "Cauchy", loc=0, scale=10), site("beta", "Normal", loc=0, scale=2.5, shape=["x.shape[1]"]),
         site("y", "Bernoulli", logits="alpha + x @ beta", observed="y")],
        {"x": X2, "y": BINARY}, {"alpha": (), "beta": (2,)}, logistic),
    "negative_binomial": Example(
        [site("alpha", "Normal", loc=0, scale=2), site("beta", "Normal", loc=0, scale=2), site("inverse", "HalfNormal", scale=1),
         site("y", "NegativeBinomial2", mean="exp(alpha + beta * x + 0.5)", concentration="1 / inverse", observed="y")],
        {"x": X, "y": COUNTS}, {"alpha": (), "beta": (), "inverse": ()}, negative_binomial),
    "correlated_effects": Example(
        [site("scale", "HalfNormal", scale=1, shape=[2]), site("L", "LKJCholesky", dimension=2, concentration=2),
         site("z", "Normal", loc=0, scale=1, shape=["max(g) + 1", 2]), let(effect="z @ (diag(scale) @ L).T"),
         site("y", "Normal", loc="effect[g, 0] + effect[g, 1] * x", scale=1, observed="y")],
        {"x": X, "y": Y, "g": GROUP}, {"scale": (2,), "L": (1,), "z": (3, 2)}, correlated),
    "ordinal": Example(
        [site("beta", "Normal", loc=0, scale=1),
         site("cut", "TransformedDistribution", transforms="OrderedTransform",
              base_distribution={"type": "Normal", "loc": 0, "scale": 2, "expand": [3], "to_event": 1}),
         site("y", "OrderedLogistic", predictor="beta * x", cutpoints="cut", observed="y")],
        {"x": X, "y": AGE - 1}, {"beta": (), "cut": (3,)}, ordinal),
    "softmax": Example(
        [site("beta", "Normal", loc=0, scale=1, shape=[2, 2]),
         site("y", "Categorical", logits="concatenate([zeros([len(y), 1]), x @ beta], axis=1)", observed="y")],
        {"x": X2, "y": GROUP}, {"beta": (2, 2)}, softmax),
    "robust": Example(
        [site("alpha", "Normal", loc=0, scale=5), site("nu", "Gamma", concentration=2, rate=0.1), flats("sigma", "positive"),
         site("y", "StudentT", df="nu", loc="alpha + x", scale="sigma", observed="y")],
        {"x": X, "y": Y}, {"alpha": (), "nu": (), "sigma": ()}, robust),
    "horseshoe": Example(
        [site("tau", "HalfCauchy", scale=1), site("lam", "HalfCauchy", scale=1, shape=[2]), site("z", "Normal", loc=0, scale=1, shape=[2]),
         site("y", "Normal", loc="x @ (z * lam * tau)", scale=1, observed="y")],
        {"x": X2, "y": Y}, {"tau": (), "lam": (2,), "z": (2,)}, horseshoe),
    "stochastic_volatility": Example(
        [site("step", "Exponential", rate=50), site("s", "GaussianRandomWalk", scale="step", num_steps="len(y)"),
         site("nu", "Exponential", rate=0.1), site("y", "StudentT", df="nu", loc=0, scale="exp(s)", observed="y")],
        {"y": Y}, {"step": (), "s": (12,), "nu": ()}, volatility),
    "item_response": Example(
        [{"plate": "subjects", "size": 4, "body": [site("ability", "Normal", loc=0, scale=1)]},
         {"plate": "items", "size": 3, "body": [site("hard", "Normal", loc=0, scale=2), site("sharp", "LogNormal", loc=0, scale=1)]},
         site("y", "Bernoulli", logits="sharp[item] * (ability[subject - 1] - hard[item])", observed="y")],
        {"y": BINARY, "subject": AGE, "item": GROUP}, {"ability": (4,), "hard": (3,), "sharp": (3,)},
        lambda y, subject, item: items(y, subject - 1, item)),
    "zero_inflated": Example(
        [site("gate", "Beta", concentration1=1, concentration0=1), site("rate", "Gamma", concentration=2, rate=1),
         site("y", "ZeroInflatedPoisson", gate="gate", rate="rate", observed="y")],
        {"y": COUNTS}, {"gate": (), "rate": ()}, inflated),
    "truncated": Example(
        [site("mu", "Normal", loc=0, scale=3), site("sigma", "HalfNormal", scale=2),
         site("y", "TruncatedDistribution", base_dist={"type": "Normal", "loc": "mu", "scale": "sigma"}, low=-5, high=9, observed="y")],
        {"y": Y}, {"mu": (), "sigma": ()}, truncated),
    "scaled_design": Example(
        [site("theta", "Normal", loc=0, scale=5, shape=[2]), site("sigma", "HalfNormal", scale=1), let(xs="standardize(x)"),
         let(q="qr_q(xs) * sqrt(len(y) - 1)"), let(r="qr_r(xs) / sqrt(len(y) - 1)"), {"deterministic": "beta", "value": "solve(r, theta)"},
         site("y", "Normal", loc="q @ theta", scale="sigma", observed="y")],
        {"x": X2, "y": Y}, {"theta": (2,), "sigma": ()}, orthogonal),
    "dirichlet_multinomial": Example(
        [site("a", "Gamma", concentration=2, rate=0.5, shape=[3]),
         site("y", "DirichletMultinomial", concentration="a", total_count="sum(y, axis=1)", observed="y")],
        {"y": BLOCK}, {"a": (3,)}, shares),
    "funnel": Example(
        [site("z", "Normal", loc=0, scale=3), site("x", "Normal", loc=0, scale="exp(z / 2)", shape=[9]), {"factor": "none", "value": 0}],
        {}, {"z": (), "x": (9,)}, funnel),
    "conjugate": Example(
        [site("mu", "Normal", loc=1, scale=2), site("y", "Normal", loc="mu", scale=1.5, observed="y"),
         site("p", "Beta", concentration1=2, concentration0=3), site("k", "Binomial", total_count="n", probs="p", observed="k")],
        {"y": Y, "n": 20, "k": 7}, {"mu": (), "p": ()}, conjugate),
    "survival": Example(
        [site("shape", "Gamma", concentration=2, rate=1), site("scale", "Gamma", concentration=2, rate=0.5),
         {"let": "died", "log_prob": {"type": "Weibull", "scale": "scale", "concentration": "shape"}, "at": "t"},
         {"factor": "fit", "value": "where(seen == 1, died, -(t / scale) ** shape)"}],
        {"t": DIED, "seen": np.array([1, 0, 1, 0])}, {"shape": (), "scale": ()}, survival),
    "change_point": Example(
        [site("early", "Exponential", rate=1), site("late", "Exponential", rate=1), let(T="len(y)"),
         {"let": "lp_early", "log_prob": {"type": "Poisson", "rate": "early"}, "at": "y"},
         {"let": "lp_late", "log_prob": {"type": "Poisson", "rate": "late"}, "at": "y"},
         let(each="where(arange(T)[None, :] < arange(T)[:, None], lp_early, lp_late)"),
         {"factor": "y", "value": "logsumexp(sum(each, axis=1) - log(T))"}],
        {"y": COUNTS}, {"early": (), "late": ()}, change_point),
    "crossed_plates": Example(
        [{"plate": "columns", "size": 3, "dim": -1, "body": [
            site("b", "Normal", loc=0, scale=1),
            {"plate": "rows", "size": 4, "dim": -2, "body": [
                site("a", "Normal", loc="b", scale=1), site("y", "Normal", loc="a", scale=1, observed="y")]}]}],
        {"y": BLOCK * 1.0}, {"b": (3,), "a": (4, 3)}, crossed),
    "local_level_filter": Example(
        [site("q", "HalfNormal", scale=1), site("r", "HalfNormal", scale=1),
         {"scan": {"m": 0, "p": 10}, "over": {"now": "y"},
          "body": [let(gain="p / (p + r ** 2)"),
                   {"let": "lp", "log_prob": {"type": "Normal", "loc": "m", "scale": "sqrt(p + r ** 2)"}, "at": "now"}],
          "next": {"m": "m + gain * (now - m)", "p": "(1 - gain) * p + q ** 2"}, "stack": {"lps": "lp"}},
         {"factor": "y", "value": "sum(lps)"}],
        {"y": Y}, {"q": (), "r": ()}, local_level),
}  # fmt: skip


def arrays(data: dict[str, Any]) -> dict[str, Any]:
    """Data for a function by hand: arrays of JAX, integers as they are."""
    return {name: value if isinstance(value, int) else jnp.asarray(value) for name, value in data.items()}


def points(free: dict[str, tuple[int, ...]], count: int) -> dict[str, jax.Array]:
    """Random unconstrained points."""
    generator = np.random.default_rng(3)
    return {name: jnp.asarray(generator.normal(size=(count, *shape)) * 0.7) for name, shape in free.items()}
