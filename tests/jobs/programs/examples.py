"""For every optimizer and schedule of the catalog: a document that names it, and the call of the library that must come out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from optax import contrib

Example = tuple[dict[str, Any], Callable[[], Any]]
"""The arguments in JSON, and the library's own object."""

SGD = {"type": "sgd", "learning_rate": 0.1}
ADAM = {"type": "adam", "learning_rate": 0.1}
LINEAR = {"type": "linear_schedule", "init_value": 0.1, "end_value": 0.01, "transition_steps": 4}
WARMUP = {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 2, "decay_steps": 5}
MATRICES = {"w": True, "b": False}
VECTORS = {"w": False, "b": True}
NOT_VECTORS = {"except": ["b"]}


def linear() -> optax.Schedule:
    return optax.linear_schedule(0.1, 0.01, 4)


def plain(**named: dict[str, Any]) -> dict[str, Example]:
    """Entries whose JSON arguments are the library's as they stand, arrays as tuples."""

    def example(name: str, given: dict[str, Any]) -> Example:
        own = getattr(optax if hasattr(optax, name) else contrib, name)
        return given, lambda: own(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})

    return {name: example(name, given) for name, given in named.items()}


OPTIMIZERS: dict[str, Example] = {
    **plain(
        adabelief={"learning_rate": 0.1, "b1": 0.8, "nesterov": True},
        adadelta={"learning_rate": 0.1, "rho": 0.8, "weight_decay": 0.1},
        adafactor={"learning_rate": 0.1, "momentum": 0.9, "min_dim_size_to_factor": 2},
        adagrad={"learning_rate": 0.1, "initial_accumulator_value": 0.2},
        adam={"learning_rate": 0.1, "b2": 0.9, "eps_root": 1e-6},
        adamax={"learning_rate": 0.1, "b1": 0.8},
        adamaxw={"learning_rate": 0.1, "weight_decay": 0.1},
        adan={"learning_rate": 0.1, "b3": 0.9},
        adaptive_grad_clip={"clipping": 0.1},
        add_noise={"eta": 0.1, "gamma": 0.5, "key": 7},
        ademamix={"learning_rate": 0.1, "b3": 0.99, "alpha": 4.0},
        adopt={"learning_rate": 0.1, "use_clipping": False},
        amsgrad={"learning_rate": 0.1, "bias_correction_mu": False},
        acprop={"learning_rate": 0.1, "b1": 0.8},
        apply_every={"k": 2},
        centralize={},
        clip={"max_delta": 0.2},
        clip_by_block_rms={"threshold": 0.2},
        clip_by_global_norm={"max_norm": 0.5},
        cocob={"learning_rate": 0.5, "alpha": 50.0},
        dadapt_adamw={"betas": [0.8, 0.9]},
        dog={"init_step": ["distance", 0.1]},
        dowg={"eps": 1e-3},
        ema={"decay": 0.8, "debias": False},
        fromage={"learning_rate": 0.1},
        hutchinson_estimator_diag_hessian={},
        identity={},
        keep_params_nonnegative={},
        lars={"learning_rate": 0.1, "weight_decay": 0.1, "trust_ratio_mask": False},
        lbfgs={"memory_size": 3},
        lion={"learning_rate": 0.1, "b1": 0.8},
        madgrad={"learning_rate": 0.1, "momentum": 0.8},
        momo={"learning_rate": 0.1, "beta": 0.8},
        momo_adam={"learning_rate": 0.1, "lower_bound": 0.1},
        muon={"learning_rate": 0.1, "ns_steps": 3, "adam_learning_rate": 0.05},
        noisy_sgd={"learning_rate": 0.1, "key": 0},
        normalize={},
        normalize_by_update_norm={"scale_factor": 0.5},
        novograd={"learning_rate": 0.1, "weight_decay": 0.1},
        optimistic_adam_v2={"learning_rate": 0.1, "nesterov": False},
        optimistic_gradient_descent={"learning_rate": 0.1, "alpha": 0.8},
        polyak_sgd={"variant": "sps+", "f_min": -1.0},
        prodigy={"betas": [0.8, 0.9]},
        radam={"learning_rate": 0.1, "nesterov": True},
        rmsprop={"learning_rate": 0.1, "centered": True, "momentum": 0.5},
        rprop={"learning_rate": 0.1, "eta_plus": 1.1},
        scale={"step_size": -0.1},
        scale_by_acprop={"b1": 0.8},
        scale_by_adadelta={"rho": 0.8},
        scale_by_adam={"b1": 0.8, "nesterov": True},
        scale_by_adamax={"b2": 0.9},
        scale_by_adan={"b1": 0.9},
        scale_by_ademamix={"alpha": 3.0},
        scale_by_adopt={"b1": 0.8},
        scale_by_amsgrad={"b1": 0.8},
        scale_by_backtracking_linesearch={"max_backtracking_steps": 4},
        scale_by_belief={"b1": 0.8},
        scale_by_cocob={"alpha": 50.0},
        scale_by_distance_over_gradients={"reps_rel": 1e-3},
        scale_by_factored_rms={"min_dim_size_to_factor": 2},
        scale_by_lbfgs={"memory_size": 3},
        scale_by_learning_rate={"learning_rate": 0.1, "flip_sign": False},
        scale_by_lion={"b1": 0.8, "mode": "smooth"},
        scale_by_madgrad={"learning_rate": 0.1},
        scale_by_novograd={"b1": 0.8},
        scale_by_optimistic_gradient={"alpha": 0.8},
        scale_by_param_block_norm={"min_scale": 0.1},
        scale_by_param_block_rms={"min_scale": 0.1},
        scale_by_polyak={"max_learning_rate": 0.5},
        scale_by_radam={"b1": 0.8},
        scale_by_rms={"decay": 0.8, "bias_correction": True},
        scale_by_rprop={"learning_rate": 0.1},
        scale_by_rss={"initial_accumulator_value": 0.2},
        scale_by_sign={},
        scale_by_simplified_ademamix={"alpha": 1.0},
        scale_by_sm3={"b1": 0.8},
        scale_by_stddev={"decay": 0.8},
        scale_by_trust_ratio={"trust_coefficient": 0.5},
        scale_by_yogi={"b1": 0.8},
        scale_by_zoom_linesearch={"max_linesearch_steps": 4, "initial_guess_strategy": "one"},
        schedule_free_adamw={"learning_rate": 0.1, "warmup_steps": 2},
        schedule_free_sgd={"learning_rate": 0.1, "b1": 0.8},
        set_to_zero={},
        sgd={"learning_rate": 0.1, "momentum": 0.9, "nesterov": True},
        sign_sgd={"learning_rate": 0.1},
        signum={"learning_rate": 0.1, "beta": 0.8},
        simplified_ademamix={"learning_rate": 0.1, "alpha": 1.0},
        sm3={"learning_rate": 0.1, "momentum": 0.8},
        sophia={"learning_rate": 0.1, "update_interval": 2, "gamma": 0.1},
        trace={"decay": 0.8, "nesterov": True},
        yogi={"learning_rate": 0.1, "b1": 0.8},
        zero_nans={},
    ),
    "MultiSteps": (
        {"opt": ADAM, "every_k_schedule": 2},
        lambda: optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(),
    ),
    "adamw": (
        {"learning_rate": {"type": "warmup_cosine_decay_schedule", **WARMUP}, "weight_decay": 0.5, "mask": NOT_VECTORS},
        lambda: optax.adamw(optax.warmup_cosine_decay_schedule(**WARMUP), weight_decay=0.5, mask=MATRICES),
    ),
    "add_decayed_weights": (
        {"weight_decay": LINEAR, "mask": {"match": ["w"]}},
        lambda: optax.add_decayed_weights(linear(), MATRICES),
    ),
    "apply_if_finite": (
        {"inner": ADAM, "max_consecutive_errors": 3},
        lambda: optax.apply_if_finite(optax.adam(0.1), 3),
    ),
    "chain": (
        {
            "transforms": [
                {"type": "clip_by_global_norm", "max_norm": 1.0},
                {"type": "scale_by_adam"},
                {"type": "add_decayed_weights", "weight_decay": 0.01},
                {"type": "scale_by_learning_rate", "learning_rate": LINEAR},
            ]
        },
        lambda: optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.scale_by_adam(),
            optax.add_decayed_weights(0.01),
            optax.scale_by_learning_rate(linear()),
        ),
    ),
    "flatten": ({"inner": ADAM}, lambda: optax.flatten(optax.adam(0.1))),
    "freeze": ({"mask": {"match": ["?"], "except": ["w"]}}, lambda: optax.freeze(VECTORS)),
    "galore": (
        {"learning_rate": 0.1, "rank": 2, "update_proj_gap": 2},
        lambda: contrib.galore(0.1, rank=2, update_proj_gap=2),
    ),
    "inject_hyperparams": (
        {"inner_factory": {"type": "adamw", "learning_rate": LINEAR, "weight_decay": 0.5, "mask": NOT_VECTORS}},
        lambda: optax.inject_hyperparams(optax.adamw, static_args=("mask", "mu_dtype"))(linear(), weight_decay=0.5, mask=MATRICES),
    ),
    "lamb": (
        {"learning_rate": 0.1, "weight_decay": 0.5, "mask": NOT_VECTORS},
        lambda: optax.lamb(0.1, weight_decay=0.5, mask=MATRICES),
    ),
    "masked": (
        {"inner": ADAM, "mask": {"match": ["w*"]}},
        lambda: optax.masked(optax.adam(0.1), MATRICES),
    ),
    "mechanize": ({"base_optimizer": SGD, "num_betas": 3}, lambda: contrib.mechanize(optax.sgd(0.1), num_betas=3)),
    "partition": (
        {
            "transforms": {"decayed": {"type": "adamw", "learning_rate": 0.1}, "rest": SGD},
            "param_labels": [{"match": ["b"], "label": "rest"}, {"match": ["*"], "label": "decayed"}],
        },
        lambda: optax.partition({"decayed": optax.adamw(0.1), "rest": optax.sgd(0.1)}, {"w": "decayed", "b": "rest"}),
    ),
    "reduce_on_plateau": ({"patience": 1, "factor": 0.5}, lambda: contrib.reduce_on_plateau(patience=1, factor=0.5)),
    "sam": (
        {"optimizer": SGD, "adv_optimizer": {"type": "sgd", "learning_rate": 0.05}},
        lambda: optax.GradientTransformation(*contrib.sam(optax.sgd(0.1), optax.sgd(0.05))),
    ),
    "scale_by_galore": (
        {"rank": 2, "base_optimizer": {"type": "scale_by_adam"}},
        lambda: contrib.scale_by_galore(rank=2, base_optimizer=optax.scale_by_adam()),
    ),
    "scale_by_schedule": ({"step_size_fn": LINEAR}, lambda: optax.scale_by_schedule(linear())),
    "schedule_free": (
        {"base_optimizer": {"type": "adam", "learning_rate": 0.1, "b1": 0.0}, "learning_rate": 0.1},
        lambda: contrib.schedule_free(optax.adam(0.1, b1=0.0), 0.1),
    ),
    "selective_transform": (
        {"optimizer": ADAM, "freeze_mask": {"match": ["b"]}},
        lambda: optax.selective_transform(optax.adam(0.1), freeze_mask=VECTORS),
    ),
    "split_real_and_imaginary": ({"inner": ADAM}, lambda: contrib.split_real_and_imaginary(optax.adam(0.1))),
}

MORE_OPTIMIZERS: list[tuple[dict[str, Any], Callable[[], Any]]] = [
    ({"type": "adam", "learning_rate": 1}, lambda: optax.adam(1.0)),
    ({"type": "adamw", "learning_rate": 1e-2, "mu_dtype": "bfloat16"}, lambda: optax.adamw(1e-2, mu_dtype=jnp.bfloat16)),
    ({"type": "adafactor"}, optax.adafactor),
    ({"type": "muon", "learning_rate": 0.1, "ns_coeffs": [3.0, -4.0, 2.0]}, lambda: contrib.muon(0.1, (3.0, -4.0, 2.0))),
    (
        {"type": "muon", "learning_rate": 0.1, "weight_decay": 0.1, "weight_decay_mask": NOT_VECTORS},
        lambda: contrib.muon(0.1, weight_decay=0.1, weight_decay_mask=MATRICES),
    ),
    ({"type": "lbfgs", "linesearch": None, "learning_rate": 0.1}, lambda: optax.lbfgs(0.1, linesearch=None)),
    (
        {"type": "chain", "transforms": [ADAM, {"type": "reduce_on_plateau", "patience": 1}]},
        lambda: optax.chain(optax.adam(0.1), contrib.reduce_on_plateau(patience=1)),
    ),
    (
        {"type": "masked", "inner": {"type": "adamw", "learning_rate": 0.1, "mask": NOT_VECTORS}, "mask": {}},
        lambda: optax.masked(optax.adamw(0.1, mask=MATRICES), {"w": True, "b": True}),
    ),
]

SCHEDULES: dict[str, Example] = {
    **plain(
        constant_schedule={"value": 0.1},
        cosine_decay_schedule={"init_value": 0.1, "decay_steps": 5, "alpha": 0.2, "exponent": 2.0},
        cosine_onecycle_schedule={"transition_steps": 6, "peak_value": 0.1, "pct_start": 0.5},
        exponential_decay={"init_value": 0.1, "transition_steps": 2, "decay_rate": 0.5, "staircase": True},
        linear_onecycle_schedule={"transition_steps": 6, "peak_value": 0.1},
        linear_schedule={"init_value": 0.1, "end_value": 0.01, "transition_steps": 4, "transition_begin": 1},
        polynomial_schedule={"init_value": 0.1, "end_value": 0.01, "power": 2.0, "transition_steps": 4},
        warmup_constant_schedule={"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 2},
        warmup_cosine_decay_schedule={**WARMUP, "end_value": 0.01},
        warmup_exponential_decay_schedule={
            "init_value": 0.0,
            "peak_value": 0.1,
            "warmup_steps": 2,
            "transition_steps": 2,
            "decay_rate": 0.5,
        },
    ),
    "join_schedules": (
        {
            "schedules": [
                LINEAR,
                {"type": "join_schedules", "schedules": [LINEAR, {"type": "constant_schedule", "value": 0.3}], "boundaries": [1]},
            ],
            "boundaries": [2],
        },
        lambda: optax.join_schedules([linear(), optax.join_schedules([linear(), optax.constant_schedule(0.3)], [1])], [2]),
    ),
    "piecewise_constant_schedule": (
        {"init_value": 1.0, "boundaries_and_scales": {"2": 0.1, "4": 0.5}},
        lambda: optax.piecewise_constant_schedule(1.0, {2: 0.1, 4: 0.5}),
    ),
    "piecewise_interpolate_schedule": (
        {"interpolate_type": "cosine", "init_value": 1.0, "boundaries_and_scales": {"2": 0.1, "4": 0.5}},
        lambda: optax.piecewise_interpolate_schedule("cosine", 1.0, {2: 0.1, 4: 0.5}),
    ),
    "sgdr_schedule": ({"cosine_kwargs": [WARMUP, WARMUP]}, lambda: optax.sgdr_schedule([WARMUP, WARMUP])),
}

NO_TRANSFORMATIONS = frozenset(
    {
        "apply_updates",
        "global_norm",
        "incremental_update",
        "init_empty_state",
        "matrix_inverse_pth_root",
        "microbatch",
        "multi_normal",
        "nnls",
        "per_example_global_norm_clip",
        "per_example_layer_norm_clip",
        "periodic_update",
        "power_iteration",
        "safe_increment",
        "safe_int32_increment",
        "safe_norm",
        "safe_root_mean_squares",
        "scale_gradient",
        "schedule_free_eval_params",
        "skip_large_updates",
        "skip_not_finite",
        "tree_map_params",
        "unitwise_clip",
        "unitwise_norm",
        "update_infinity_moment",
        "update_moment",
        "update_moment_per_elem_norm",
        "value_and_grad_from_state",
    }
)
"""Public functions of Optax that make neither an optimizer nor a schedule nor a loss."""
