"""Every optimizer, schedule, loss and kernel that the catalog lists is built, and is the library's own."""

from __future__ import annotations

import functools
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

from jobs.programs.kernels import build as build_kernel
from jobs.programs.losses import build as build_loss
from jobs.programs.optimizers import build as build_optimizer
from jobs.programs.optimizers import build_schedule, learning_rate
from jobs.spec.catalog import load

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 12).reshape(4, 3), "b": jnp.array([0.1, -0.2, 0.3])}
SGD = {"type": "sgd", "learning_rate": 0.1}
LINEAR = {"type": "linear_schedule", "init_value": 0.1, "end_value": 0.01, "transition_steps": 4}
# A value for each argument that has no default, by its name.
REQUIRED = {
    "learning_rate": 0.1,
    **dict.fromkeys(("opt", "inner", "base_optimizer", "optimizer", "adv_optimizer"), SGD),
    **dict.fromkeys(("every_k_schedule", "max_consecutive_errors", "sync_period"), 2),
    **dict.fromkeys(("clipping", "max_delta", "max_norm", "threshold", "decay", "eta", "gamma", "step_size", "b1"), 0.5),
    "step_size_fn": LINEAR,
    "transforms": [SGD],
    "schedules": [LINEAR, LINEAR],
    "boundaries": [3],
    "cosine_kwargs": [{"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 2, "decay_steps": 5}],
    "interpolate_type": "cosine",
    **dict.fromkeys(("init_value", "end_value", "peak_value", "value", "power", "decay_rate"), 0.5),
    **dict.fromkeys(("decay_steps", "transition_steps"), 5),
    "warmup_steps": 2,
}


def fitted(section, value):
    result = load().fit(section, value, "/x")
    assert result.issues == []
    return result.value


def least(section, name):
    """The entry with nothing but what it requires."""
    schema = load().entry(section, name)["schema"]
    return fitted(section, {"type": name} | {argument: REQUIRED[argument] for argument in schema["required"]})


def gradients(step):
    return jax.tree.map(lambda leaf: jnp.cos(leaf * (step + 1)), PARAMS)


def run(optimizer, steps=5):
    """Parameters after some updates, as a training job makes them."""
    optimizer = optax.with_extra_args_support(optimizer)
    params, state = PARAMS, optimizer.init(PARAMS)
    for step in range(steps):
        updates, state = optimizer.update(gradients(step), state, params, value=jnp.float32(1.0 / (step + 1)))
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("name", load().sections["optimizers"])
def test_every_optimizer_builds_from_what_it_requires_and_updates(name):
    params = run(build_optimizer(least("optimizers", name)), steps=2)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", load().sections["schedules"])
def test_every_schedule_builds_and_gives_numbers(name):
    schedule = build_schedule(least("schedules", name))
    assert all(bool(jnp.isfinite(schedule(jnp.int32(step)))) for step in range(8))


WARMUP = {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 2, "decay_steps": 5}
SAME = [
    ({"type": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True}, lambda: optax.sgd(0.1, 0.9, nesterov=True)),
    ({"type": "adam", "learning_rate": 1e-2}, lambda: optax.adam(1e-2)),
    ({"type": "adam", "learning_rate": 1}, lambda: optax.adam(1.0)),
    ({"type": "adamw", "learning_rate": 1e-2}, lambda: optax.adamw(1e-2)),
    ({"type": "adamw", "learning_rate": 1e-2, "mu_dtype": "bfloat16"}, lambda: optax.adamw(1e-2, mu_dtype=jnp.bfloat16)),
    ({"type": "lion", "learning_rate": 1e-2}, lambda: optax.lion(1e-2)),
    ({"type": "lamb", "learning_rate": 1e-2}, lambda: optax.lamb(1e-2)),
    ({"type": "lars", "learning_rate": 1e-2}, lambda: optax.lars(1e-2)),
    ({"type": "adafactor"}, optax.adafactor),
    ({"type": "adafactor", "learning_rate": 1e-2, "momentum": 0.9}, lambda: optax.adafactor(1e-2, momentum=0.9)),
    ({"type": "rmsprop", "learning_rate": 1e-2, "centered": True}, lambda: optax.rmsprop(1e-2, centered=True)),
    ({"type": "noisy_sgd", "learning_rate": 1e-2}, lambda: optax.noisy_sgd(1e-2, key=0)),
    ({"type": "polyak_sgd", "variant": "sps+"}, lambda: optax.polyak_sgd(variant="sps+")),
    ({"type": "muon", "learning_rate": 1e-2}, lambda: optax.contrib.muon(1e-2)),
    ({"type": "muon", "learning_rate": 1e-2, "ns_coeffs": [3.0, -4.0, 2.0]}, lambda: optax.contrib.muon(1e-2, (3.0, -4.0, 2.0))),
    ({"type": "prodigy", "betas": [0.8, 0.9]}, lambda: optax.contrib.prodigy(betas=(0.8, 0.9))),
    ({"type": "dog", "init_step": ["distance", 0.1]}, lambda: optax.contrib.dog(init_step=("distance", 0.1))),
    ({"type": "momo", "learning_rate": 0.1}, lambda: optax.contrib.momo(0.1)),
    (
        {"type": "sam", "optimizer": SGD, "adv_optimizer": {"type": "sgd", "learning_rate": 0.05}},
        lambda: optax.GradientTransformation(*optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.05))),
    ),
    (
        {"type": "apply_if_finite", "inner": {"type": "adam", "learning_rate": 0.1}, "max_consecutive_errors": 3},
        lambda: optax.apply_if_finite(optax.adam(0.1), 3),
    ),
    (
        {"type": "MultiSteps", "opt": {"type": "adam", "learning_rate": 0.1}, "every_k_schedule": 2},
        lambda: optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(),
    ),
    (
        {"type": "adamw", "learning_rate": {"type": "warmup_cosine_decay_schedule", **WARMUP}},
        lambda: optax.adamw(optax.warmup_cosine_decay_schedule(**WARMUP)),
    ),
    (
        {
            "type": "sgd",
            "learning_rate": {"type": "piecewise_constant_schedule", "init_value": 1.0, "boundaries_and_scales": {"2": 0.1}},
        },
        lambda: optax.sgd(optax.piecewise_constant_schedule(1.0, {2: 0.1})),
    ),
    (
        {"type": "adam", "learning_rate": {"type": "join_schedules", "schedules": [LINEAR, LINEAR], "boundaries": [2]}},
        lambda: optax.adam(optax.join_schedules([optax.linear_schedule(0.1, 0.01, 4)] * 2, [2])),
    ),
    (
        {"type": "sgd", "learning_rate": {"type": "sgdr_schedule", "cosine_kwargs": [WARMUP, WARMUP]}},
        lambda: optax.sgd(optax.sgdr_schedule([WARMUP, WARMUP])),
    ),
    (
        {
            "type": "chain",
            "transforms": [
                {"type": "clip_by_global_norm", "max_norm": 1.0},
                {"type": "scale_by_adam"},
                {"type": "add_decayed_weights", "weight_decay": 0.01},
                {"type": "scale_by_learning_rate", "learning_rate": {"type": "warmup_cosine_decay_schedule", **WARMUP}},
            ],
        },
        lambda: optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.scale_by_adam(),
            optax.add_decayed_weights(0.01),
            optax.scale_by_learning_rate(optax.warmup_cosine_decay_schedule(**WARMUP)),
        ),
    ),
    (
        {
            "type": "chain",
            "transforms": [{"type": "scale_by_schedule", "step_size_fn": LINEAR}, {"type": "scale", "step_size": -1}],
        },
        lambda: optax.chain(optax.scale_by_schedule(optax.linear_schedule(0.1, 0.01, 4)), optax.scale(-1.0)),
    ),
    (
        {"type": "chain", "transforms": [{"type": "adam", "learning_rate": 0.1}, {"type": "reduce_on_plateau", "patience": 1}]},
        lambda: optax.chain(optax.adam(0.1), optax.contrib.reduce_on_plateau(patience=1)),
    ),
]


@pytest.mark.parametrize(("named", "own"), SAME, ids=[case[0]["type"] for case in SAME])
def test_an_optimizer_updates_exactly_as_the_librarys_own(named, own):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, theirs = run(build_optimizer(fitted("optimizers", named))), run(own())
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


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


@pytest.mark.parametrize("name", [name for name in load().sections["losses"] if name != "next_token"])
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
