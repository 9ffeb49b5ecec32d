"""Every kernel of the catalog, on a posterior that is known in closed form."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from jobs.errors import UserFault
from jobs.programs import nans, posterior_model, reparams
from jobs.programs.kernels import Chains
from jobs.spec.catalog import load

Y = np.array([1.5, 0.5, 1.0, 2.0, 0.0, 1.0], np.float32)


def plain(y: Any) -> None:
    """The mean has the posterior Normal(6/7, 1/sqrt(7))."""
    x = numpyro.sample("x", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(x, 1), obs=y)


def mixed(y: Any) -> None:
    """The class is 1 with the probability 1/4 and moves x by 2; nothing is observed."""
    c: Any = numpyro.sample("c", dist.BernoulliProbs(0.25))
    numpyro.sample("x", dist.Normal(2.0 * c, 1.0))


def counted(y: Any) -> None:
    """A single discrete site."""
    numpyro.sample("c", dist.CategoricalProbs(jnp.array([0.5, 0.25, 0.25])))


def subsampled(y: Any) -> None:
    """The plain model, four rows at a time."""
    x = numpyro.sample("x", dist.Normal(0, 1))
    with numpyro.plate("rows", 6, subsample_size=4):
        numpyro.sample("y", dist.Normal(x, 1), obs=numpyro.subsample(y, 0))


NUTS = {"type": "NUTS"}
HMC = {"type": "HMC", "trajectory_length": 2.0}
CASES: dict[str, tuple[dict[str, Any], Any, float, float]] = {
    "NUTS": ({"dense_mass": [["x"]], "max_tree_depth": [4, 6], "inverse_mass_matrix": None}, plain, 6 / 7, 7**-0.5),
    "HMC": ({"num_steps": 4, "trajectory_length": None, "init_strategy": "init_to_sample"}, plain, 6 / 7, 7**-0.5),
    "BarkerMH": ({"init_strategy": "init_to_median"}, plain, 6 / 7, 7**-0.5),
    "SA": ({}, plain, 6 / 7, 7**-0.5),
    "AIES": ({"moves": {"DEMove": 0.5, "StretchMove": 0.5}}, plain, 6 / 7, 7**-0.5),
    "ESS": ({"moves": {"DifferentialMove": 1.0}}, plain, 6 / 7, 7**-0.5),
    "HMCECS": ({"inner_kernel": NUTS, "num_blocks": 2}, subsampled, 6 / 7, 0.6),
    "DiscreteHMCGibbs": ({"inner_kernel": NUTS, "modified": True}, mixed, 0.5, 1.75**0.5),
    "MixedHMC": ({"inner_kernel": HMC, "num_discrete_updates": 2}, mixed, 0.5, 1.75**0.5),
    "DiscreteGibbs": ({"random_walk": True}, counted, 0.75, 0.6875**0.5),
}
CHAINS, WARMUP, DRAWS = 8, 200, 400


def test_every_kernel_of_the_catalog_is_here() -> None:
    assert set(CASES) == set(load().sections["kernels"])
    assert set(load().excluded["kernels"]) == {"CustomGibbs", "Gibbs", "HMCGibbs"}


@pytest.mark.parametrize("name", CASES)
def test_a_kernel_samples_what_is_known(name: str) -> None:
    given, model, mean, sd = CASES[name]
    fitted = load().fit("kernels", {"type": name, **given}, "/kernel", "mcmc")
    assert fitted.issues == []
    chains = Chains(fitted.value, model, one_by_one=False)
    data = {"y": jnp.asarray(Y)}
    state = chains.init(jax.random.split(jax.random.key(0), CHAINS), WARMUP, None, data)

    @jax.jit
    def run(state: Any) -> Any:
        def one(state: Any, _: Any) -> Any:
            state = chains.sample(state, data)
            return state, (chains.sites(state, data), chains.statistics(state))

        return jax.lax.scan(one, state, None, WARMUP + DRAWS)[1]

    sites, told = run(state)
    drawn = np.asarray(sites["x" if "x" in sites else "c"])[WARMUP:]
    assert abs(drawn.mean() - mean) < 0.2
    assert abs(drawn.std() - sd) < (0.25 if name == "HMCECS" else 0.15)
    assert all(value.shape[:2] == (WARMUP + DRAWS, CHAINS) for value in told.values())
    assert name in ("ESS", "DiscreteGibbs") or "accept_prob" in told


def spec(**changes: Any) -> dict[str, Any]:
    """The parts of a resolved spec that the look at a model reads."""
    return {"kernel": {"type": "NUTS"}, "reparam": None, **changes}


def twice(y: Any) -> None:
    numpyro.sample("x", dist.Normal(0, 1))
    numpyro.sample("x", dist.Normal(0, 1))


def observed(y: Any) -> None:
    numpyro.sample("y", dist.Normal(0, 1), obs=y)


@pytest.mark.parametrize(
    ("model", "changes", "code", "param", "hint"),
    [
        (twice, {}, "duplicate_site", "/model", "rename"),
        (observed, {}, "no_latent_site", "/model", "observed"),
        (mixed, {}, "discrete_latent", "/kernel/type", "DiscreteHMCGibbs"),
        (mixed, {"kernel": {"type": "DiscreteGibbs"}}, "discrete_latent", "/kernel/type", "DiscreteHMCGibbs"),
        (plain, {"kernel": {"type": "MixedHMC"}}, "no_discrete_latent", "/kernel/type", "NUTS"),
        (plain, {"kernel": {"type": "NUTS", "dense_mass": [["x"], ["z"]]}}, "unknown_site", "/kernel/dense_mass/1/0", "it has x"),
        (plain, {"kernel": {"type": "NUTS", "dense_mass": [["x", "x"]]}}, "unknown_site", "/kernel/dense_mass/0/1", "two blocks"),
        (
            plain,
            {"kernel": {"type": "NUTS", "init_strategy": {"type": "init_to_value", "values": {"m": 1}}}},
            "unknown_site",
            "/kernel/init_strategy/values/m",
            "it has x",
        ),
        (plain, {"reparam": {"z": {"type": "TransformReparam"}}}, "unknown_site", "/reparam/z", "its sites are x"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_model_is_told_by_its_own_code(model: Any, changes: dict[str, Any], code: str, param: str, hint: str) -> None:
    with pytest.raises(UserFault) as caught:
        posterior_model.look(model, spec(**changes), {"y": jnp.asarray(Y)})
    assert (caught.value.code, caught.value.param) == (code, param)
    assert hint in caught.value.message


def funnel(y: Any) -> None:
    tau: Any = numpyro.sample("tau", dist.HalfNormal(1))
    numpyro.sample("flat", dist.Normal(0, 1))
    numpyro.sample("theta", dist.Normal(0, tau).expand([3]).to_event(1))
    numpyro.sample("heavy", dist.StudentT(4, 0, tau))
    affine = dist.transforms.AffineTransform(0.0, tau)
    numpyro.sample("moved", dist.TransformedDistribution(dist.Normal(0, 1), affine))


def test_auto_finds_the_sites_that_hang_on_others() -> None:
    model, forms = reparams.apply(funnel, "auto", {"y": Y}, {})
    assert forms == {"theta": "LocScaleReparam", "heavy": "LocScaleReparam", "moved": "TransformReparam"}
    looked = posterior_model.look(funnel, spec(reparam="auto"), {"y": Y})
    assert looked.latent == ["flat", "heavy_decentered", "moved_base", "tau", "theta_decentered"]
    assert looked.sites["theta"]["type"] == "deterministic"
    assert model is not funnel


def brittle(y: Any) -> None:
    """A model whose density has no value where x is large."""
    x: Any = numpyro.sample("x", dist.Normal(0, 1))
    numpyro.factor("bad", jnp.where(x > 1.0, jnp.nan, 0.0))


def test_a_density_that_is_no_number_is_told_by_site_draw_and_chain() -> None:
    kernel = load().fit("kernels", {"type": "HMC", "trajectory_length": 2.0}, "/kernel", "mcmc").value
    watcher, data = nans.Watcher(), {"y": jnp.asarray(Y)}
    model = watcher.watch(brittle)
    chains = Chains(kernel, model, one_by_one=False)
    state = chains.init(jax.random.split(jax.random.key(0), 2), 0, None, data)
    jax.effects_barrier()
    watcher.heard.clear()
    one, before, step = jax.jit(lambda state: chains.sample(state, data)), state, 0
    while not watcher.heard and step < 50:
        before, state, step = state, one(state), step + 1
        jax.block_until_ready(state.z)
        jax.effects_barrier()
    with pytest.raises(UserFault, match=rf"log density of bad became NaN in transition {step} of chain [01]") as caught:
        watcher.require_none(step, lambda: nans.chains_that_fail(kernel, model, watcher, before, data))
    assert (caught.value.code, caught.value.param) == ("nan_loss", "/debug/nans")
