"""Every optimizer, schedule, loss and kernel that the catalog lists is built, and is the library's own."""

from __future__ import annotations

import functools
import inspect
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.infer import HMC, MCMC, NUTS

from jobs.errors import UserFault
from jobs.programs.kernels import build as build_kernel
from jobs.programs.losses import build as build_loss
from jobs.programs.optimizers import build as build_optimizer
from jobs.programs.optimizers import build_schedule, hyperparams, learning_rate, learning_rates
from jobs.spec.catalog import load
from tests.jobs.programs.examples import LINEAR, MORE_OPTIMIZERS, NO_TRANSFORMATIONS, OPTIMIZERS, SCHEDULES, SGD

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 12).reshape(4, 3), "b": jnp.array([0.1, -0.2, 0.3])}


def fitted(section, value):
    result = load().fit(section, value, "/x")
    assert result.issues == []
    return result.value


def gradients(step):
    return jax.tree.map(lambda leaf: jnp.cos(leaf * (step + 1)), PARAMS)


def bowl(params, obj_fn=None):
    """A loss for what looks at more than a gradient."""
    return sum(jnp.sum((leaf - 0.3) ** 2) for leaf in jax.tree.leaves(params))


def run(optimizer, steps=5):
    """Parameters after some updates, as a training job makes them."""
    optimizer = optax.with_extra_args_support(optimizer)
    params, state = PARAMS, optimizer.init(PARAMS)
    for step in range(steps):
        grads = gradients(step)
        more = {"value": jnp.float32(1.0 / (step + 1)), "grad": grads, "value_fn": bowl, "obj_fn": bowl}
        updates, state = optimizer.update(grads, state, params, **more)
        params = optax.apply_updates(params, updates)
    return params


def assert_same(named, own):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, theirs = run(build_optimizer(fitted("optimizers", named), PARAMS)), run(own())
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(ours))


@pytest.mark.parametrize("name", load().sections["optimizers"])
def test_an_optimizer_updates_exactly_as_the_librarys_own(name):
    given, own = OPTIMIZERS[name]
    assert_same({"type": name, **given}, own)


@pytest.mark.parametrize(("named", "own"), MORE_OPTIMIZERS, ids=[named["type"] for named, _ in MORE_OPTIMIZERS])
def test_arguments_of_every_form_reach_the_library(named, own):
    assert_same(named, own)


@pytest.mark.parametrize("name", load().sections["schedules"])
def test_a_schedule_gives_exactly_what_the_librarys_own_does(name):
    given, own = SCHEDULES[name]
    ours, theirs = build_schedule(fitted("schedules", {"type": name, **given})), own()
    for step in range(5):
        assert jnp.float32(ours(jnp.int32(step))) == jnp.float32(theirs(jnp.int32(step)))


def test_no_example_is_of_something_else():
    assert set(OPTIMIZERS) == set(load().sections["optimizers"])
    assert set(SCHEDULES) == set(load().sections["schedules"])


def test_every_optimizer_of_the_installed_library_is_listed_or_left_out_with_a_reason():
    known = {*load().sections["optimizers"], *load().excluded["optimizers"], *load().sections["schedules"], *NO_TRANSFORMATIONS}
    known |= set(vars(optax.losses))
    public = {
        name
        for module in (optax, optax.contrib, optax.transforms)
        for name, found in vars(module).items()
        if not name.startswith("_") and inspect.isfunction(found)
    }
    assert public - known == set()
    assert {name for name in load().sections["optimizers"] if name not in public} == {"MultiSteps"}


@pytest.mark.parametrize(("module", "section"), [(optax.schedules, "schedules"), (optax.losses, "losses")])
def test_every_schedule_and_loss_of_the_installed_library_is_listed_or_left_out_with_a_reason(module, section):
    known = {*load().sections[section], *load().excluded[section]}
    assert {name for name, found in vars(module).items() if not name.startswith("_") and inspect.isfunction(found)} <= known


def test_a_pattern_that_matches_nothing_is_named():
    named = fitted("optimizers", {"type": "adamw", "learning_rate": 0.1, "mask": {"match": ["*"], "except": ["v"]}})
    with pytest.raises(UserFault, match='"v" matches no parameter') as caught:
        build_optimizer(named, PARAMS)
    assert caught.value.param == "/optimizer/mask/except/0"


def test_a_parameter_without_a_label_is_named():
    named = {"type": "partition", "transforms": {"a": SGD}, "param_labels": [{"match": ["w"], "label": "a"}]}
    with pytest.raises(UserFault, match='no pattern matches the parameter "b"') as caught:
        build_optimizer(fitted("optimizers", named), PARAMS)
    assert caught.value.param == "/optimizer/param_labels"


def test_injected_hyperparameters_are_the_numbers_that_were_used():
    given, _ = OPTIMIZERS["inject_hyperparams"]
    optimizer = build_optimizer(fitted("optimizers", {"type": "inject_hyperparams", **given}), PARAMS)
    state = optimizer.init(PARAMS)
    _, state = optimizer.update(gradients(0), state, PARAMS)
    used = {name: float(value) for name, value in hyperparams(state).items()}
    assert used == pytest.approx(
        {
            f"hyperparams/{name}": value
            for name, value in {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "eps_root": 0, "weight_decay": 0.5}.items()
        }
    )


def test_each_part_of_a_partition_has_its_own_learning_rate():
    parts = {"slow": {"type": "sgd", "learning_rate": LINEAR}, "fast": {"type": "MultiSteps", "opt": SGD, "every_k_schedule": 2}}
    labels = [{"match": ["w"], "label": "slow"}, {"match": ["*"], "label": "fast"}]
    found = learning_rates(fitted("optimizers", {"type": "partition", "transforms": parts, "param_labels": labels}))
    assert {name: float(rate(2)) for name, rate in found.items()} == pytest.approx(
        {"learning_rate/fast": 0.1, "learning_rate/slow": 0.055}
    )


RATES = [
    ({"type": "adam", "learning_rate": 0.1}, [0.1, 0.1]),
    ({"type": "adam", "learning_rate": LINEAR}, [0.1, 0.0775]),
    (
        {"type": "chain", "transforms": [{"type": "scale_by_adam"}, {"type": "scale_by_learning_rate", "learning_rate": 0.2}]},
        [0.2, 0.2],
    ),
    (
        {"type": "chain", "transforms": [{"type": "clip", "max_delta": 1.0}, {"type": "adam", "learning_rate": LINEAR}]},
        [0.1, 0.0775],
    ),
    ({"type": "MultiSteps", "opt": {"type": "sgd", "learning_rate": LINEAR}, "every_k_schedule": 2}, [0.1, 0.1, 0.0775]),
    ({"type": "adafactor"}, None),
    ({"type": "scale_by_adam"}, None),
    ({"type": "dog"}, [1.0]),
]


@pytest.mark.parametrize(("named", "rates"), RATES, ids=[case[0]["type"] for case in RATES])
def test_the_learning_rate_is_found_wherever_it_stands(named, rates):
    rate = learning_rate(fitted("optimizers", named))
    found = None if rate is None else [float(rate(step)) for step in range(len(rates))]
    assert found == (None if rates is None else pytest.approx(rates))


@pytest.mark.parametrize(
    "name", [name for name, entry in load().sections["losses"].items() if "targets" in entry and hasattr(optax.losses, name)]
)
def test_a_loss_keeps_rows_apart_and_is_the_librarys_own(name):
    outputs = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)
    kind = load().entry("losses", name)["targets"]["kind"]
    targets = jnp.array([0, 1, 2, 3, 0]) if kind == "integer" else jax.nn.one_hot(jnp.array([0, 1, 2, 3, 0]), 4)
    found = build_loss(fitted("losses", {"type": name}))(outputs, targets)
    assert found.shape[0] == 5
    np.testing.assert_array_equal(found, getattr(optax.losses, name)(outputs, targets))


def test_a_loss_takes_its_arguments():
    outputs, targets = jnp.array([[3.0]]), jnp.array([[0.0]])
    assert float(build_loss(fitted("losses", {"type": "huber_loss", "delta": 2}))(outputs, targets)[0, 0]) == 4.0


def test_next_token_is_the_cross_entropy_of_tokens():
    logits = jnp.log(jnp.array([[[0.5, 0.25, 0.25]]]))
    assert float(build_loss({"type": "next_token"})(logits, jnp.array([[1]]))[0, 0]) == pytest.approx(np.log(4))


def normal():
    numpyro.sample("x", dist.Normal(0, 1).expand([2]).to_event(1))


BY_STEPS: dict[str, Any] = {"num_steps": 4, "trajectory_length": None}


def draws(kernel):
    mcmc = MCMC(kernel, num_warmup=20, num_samples=10, progress_bar=False)
    mcmc.run(jax.random.key(0))
    return mcmc.get_samples()["x"]


@pytest.mark.parametrize(
    ("named", "own"),
    [
        ({"type": "NUTS"}, functools.partial(NUTS, normal)),
        (
            {"type": "NUTS", "dense_mass": True, "max_tree_depth": 3},
            functools.partial(NUTS, normal, dense_mass=True, max_tree_depth=3),
        ),
        ({"type": "HMC"}, functools.partial(HMC, normal)),
        (
            {"type": "HMC", "num_steps": 4, "trajectory_length": None},
            functools.partial(HMC, normal, **BY_STEPS),
        ),
    ],
    ids=["NUTS", "NUTS with arguments", "HMC", "HMC by steps"],
)
def test_a_kernel_draws_exactly_as_the_librarys_own(named, own):
    ours = build_kernel(fitted("kernels", named), normal)
    assert type(ours) is type(own())
    np.testing.assert_array_equal(draws(ours), draws(own()))
