"""Optimizers, schedules and losses of Optax."""

from __future__ import annotations

import inspect
from typing import Any

import optax

from jobs.programs.catalog.arguments import (
    BOOLEAN,
    COUNT,
    INT32_MAX,
    INTEGER,
    NULL,
    NUMBER,
    OPTIMIZER,
    SCHEDULE,
    Rules,
    Schema,
    members_of,
    nullable,
)
from jobs.programs.catalog.entries import Section, public

UNIT: Schema = {"minimum": 0, "maximum": 1}
POSITIVE: Schema = {"exclusiveMinimum": 0}
NOT_NEGATIVE: Schema = {"minimum": 0}
AT_LEAST_ONE: Schema = {"minimum": 1}
FEW: Schema = {"minimum": 1, "maximum": 100}
SEED: Schema = {"type": "integer", "minimum": 0, "maximum": INT32_MAX, "default": 0}
BETAS: Schema = {"type": "array", "prefixItems": [NUMBER | UNIT, NUMBER | UNIT], "minItems": 2, "maxItems": 2}
PATTERNS: Schema = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 200}, "maxItems": 100}
MASK: Schema = {
    "type": "object",
    "properties": {"match": PATTERNS | {"default": ["*"]}, "except": PATTERNS | {"default": []}},
    "required": [],
    "additionalProperties": False,
    "description": "parameters by patterns over their dotted paths: * stands for any characters, ? for one",
}
NO_MASK: Schema = {**nullable(MASK), "default": None}
ALL_OR_MASK: Schema = {"anyOf": [BOOLEAN, MASK, NULL], "default": True}
LABELS: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"match": PATTERNS | {"minItems": 1}, "label": {"type": "string", "minLength": 1, "maxLength": 40}},
        "required": ["match", "label"],
        "additionalProperties": False,
    },
    "minItems": 1,
    "maxItems": 100,
    "description": "the label of each parameter: that of the first entry with a pattern that matches its path",
}
LABELLED: Schema = {
    "type": "object",
    "patternProperties": {"^[A-Za-z0-9_-]{1,40}$": OPTIMIZER},
    "propertyNames": {"description": "a label of letters, digits, - and _"},
    "additionalProperties": False,
}
TRIPLE: Schema = {"type": "array", "items": NUMBER, "minItems": 3, "maxItems": 3}

# Why a transformation of Optax is not among the optimizers, where its signature alone does not say it.
_PER_EXAMPLE = "needs the gradient of each example, and a training step gives their mean"
NOT_OPTIMIZERS = {
    "named_chain": "is chain with names; use chain",
    "lookahead": "keeps the parameters in a type of its own, which no model has",
    "differentially_private_aggregate": _PER_EXAMPLE,
    "dpsgd": _PER_EXAMPLE,
    "monitor": "measures, and changes nothing in what an optimizer does",
    "inject_stateful_hyperparams": "is an older name of inject_hyperparams; use that",
    "scale_by_muon": "needs to know how each array is a matrix, which cannot be written in JSON; use muon",
    "multi_transform": "is an older name of partition; use that",
    "optimistic_adam": "is deprecated by Optax; use optimistic_adam_v2",
    "with_extra_args_support": "changes nothing in what an optimizer does",
}
# Functions that give a transformation and do not say so in their signature.
UNANNOTATED = ("dog", "dowg", "hutchinson_estimator_diag_hessian", "scale_by_factored_rms")

# What optax.lbfgs searches with unless told otherwise.
_ZOOM = {
    "max_linesearch_steps": 20,
    "max_learning_rate": None,
    "tol": 0.0,
    "increase_factor": 2.0,
    "slope_rtol": 0.0001,
    "curv_rtol": 0.9,
    "approx_dec_rtol": 1e-06,
    "stepsize_precision": 1e-05,
    "initial_guess_strategy": "one",
}
_SEED_IS_DEPRECATED = dict.fromkeys(("add_noise.seed", "noisy_sgd.seed"))
OPTIMIZER_RULES = Rules(
    own={
        **_SEED_IS_DEPRECATED,
        "add_noise.key": SEED,
        "noisy_sgd.key": SEED,
        "adaptive_grad_clip.axis": None,
        "lars.momentum": NUMBER | UNIT,
        "lars.weight_decay_mask": ALL_OR_MASK,
        "lars.trust_ratio_mask": ALL_OR_MASK,
        **dict.fromkeys(("masked.mask", "freeze.mask", "selective_transform.freeze_mask"), MASK),
        "partition.transforms": LABELLED,
        "partition.param_labels": LABELS,
        "lbfgs.linesearch": {**nullable(OPTIMIZER), "default": {"type": "scale_by_zoom_linesearch", **_ZOOM}},
        "sophia.hessian_diagonal_fn": None,
        "sophia.print_win_rate_every_n_steps": None,
        "hutchinson_estimator_diag_hessian.random_seed": None,
        "scale_by_backtracking_linesearch.max_backtracking_steps": COUNT | FEW,
        "scale_by_zoom_linesearch.max_linesearch_steps": COUNT | FEW,
        "scale_by_zoom_linesearch.initial_guess_strategy": {"enum": ["one", "keep"]},
        "dog.init_step": {
            "type": "array",
            "prefixItems": [{"enum": ["distance", "learning_rate", "heuristic"]}, NUMBER | POSITIVE],
            "minItems": 2,
            "maxItems": 2,
        },
        "muon.ns_coeffs": {"anyOf": [TRIPLE, {"enum": ["standard", "dion"]}]},
        "polyak_sgd.variant": {"enum": ["sps", "sps+"]},
        "sam.batch_axis_name": None,
        "sam.opaque_mode": None,
        "scale_by_polyak.variant": {"enum": ["sps", "sps+"]},
        "scale_by_lion.mode": {"enum": ["hard", "smooth", "refined"]},
        "scale_by_distance_over_gradients.reps_rel": NUMBER | POSITIVE,
        "scale_by_distance_over_gradients.eps": NUMBER | POSITIVE,
        "scale_by_distance_over_gradients.global_scale": NUMBER,
    },
    schemas={
        "mask": NO_MASK,
        "weight_decay_mask": NO_MASK,
        **dict.fromkeys(("mask_compatible_extra_args", "verbose")),
        "betas": BETAS,
        "ns_coeffs": TRIPLE,
        "preconditioning": {"enum": ["frobenius", "spectral", "aol", "schatten"]},
    },
    bounds={
        **dict.fromkeys(("b1", "b2", "b3", "adam_b1", "adam_b2", "rho", "decay"), UNIT),
        **dict.fromkeys(("k", "sync_period", "rank", "update_proj_gap", "update_interval"), AT_LEAST_ONE),
        # Each of these is a loop unrolled into the compiled step, or a copy of the parameters.
        **dict.fromkeys(("ns_steps", "memory_size", "num_betas"), FEW),
        **dict.fromkeys(("patience", "accumulation_size", "min_dim_size_to_factor"), AT_LEAST_ONE),
        **dict.fromkeys(("max_norm", "max_delta", "clipping"), POSITIVE),
        **dict.fromkeys(("learning_rate", "adam_learning_rate", "max_learning_rate"), NOT_NEGATIVE),
        **dict.fromkeys(("weight_decay", "weight_decay_rate", "adam_weight_decay"), NOT_NEGATIVE),
        **dict.fromkeys(
            ("eps", "eps_root", "adam_eps_root", "momentum", "threshold", "eta", "min_norm", "min_scale"), NOT_NEGATIVE
        ),
    },
)

SCHEDULE_RULES = Rules(
    own={
        "join_schedules.schedules": {"type": "array", "items": SCHEDULE, "minItems": 1, "maxItems": 32},
        "join_schedules.boundaries": {"type": "array", "items": COUNT, "maxItems": 31},
        "piecewise_interpolate_schedule.interpolate_type": {"enum": ["linear", "cosine"]},
        # With no step of warm-up Optax stays at init_value for ever.
        "warmup_constant_schedule.warmup_steps": COUNT,
        "exponential_decay.decay_rate": NUMBER | POSITIVE,
        "warmup_exponential_decay_schedule.decay_rate": NUMBER | POSITIVE,
        "exponential_decay.transition_begin": INTEGER | {"default": 0},
    },
    schemas={
        "boundaries_and_scales": {
            "type": ["object", "null"],
            "patternProperties": {"^(0|[1-9][0-9]{0,8})$": NUMBER | NOT_NEGATIVE},
            "propertyNames": {"description": "a step number"},
            "additionalProperties": False,
            "default": None,
        },
    },
    bounds={
        **dict.fromkeys(("decay_steps", "transition_steps"), AT_LEAST_ONE),
        **dict.fromkeys(("pct_start", "pct_final"), UNIT),
        **dict.fromkeys(("div_factor", "final_div_factor", "power"), POSITIVE),
    },
)
NOT_SCHEDULES = {"inject_hyperparams", "inject_stateful_hyperparams"}

_LABELS = {"kind": "integer"}
_PROBABILITIES = {"kind": "values", "minimum": 0, "maximum": 1}
_SIGNS = {"kind": "values", "minimum": -1, "maximum": 1}
_VALUES = {"kind": "values"}
# What each loss takes as targets: integer classes, or one value for each output.
LOSS_TARGETS = {
    "softmax_cross_entropy_with_integer_labels": _LABELS,
    "multiclass_hinge_loss": _LABELS,
    "multiclass_perceptron_loss": _LABELS,
    "multiclass_sparsemax_loss": _LABELS,
    "softmax_cross_entropy": _PROBABILITIES,
    "safe_softmax_cross_entropy": _PROBABILITIES,
    "poly_loss_cross_entropy": _PROBABILITIES,
    "sigmoid_binary_cross_entropy": _PROBABILITIES,
    "sigmoid_focal_loss": _PROBABILITIES,
    "sparsemax_loss": _PROBABILITIES,
    "hinge_loss": _SIGNS,
    "perceptron_loss": _SIGNS,
    "squared_error": _VALUES,
    "l2_loss": _VALUES,
    "huber_loss": _VALUES,
    "log_cosh": _VALUES,
    "cosine_distance": _VALUES,
}
_LOG_PROBABILITIES = "takes log-probabilities, and the catalog's models give scores"
_WHOLE_BATCH = "mixes the examples of a batch; a job's loss is a mean over examples"
NOT_LOSSES = {
    "convex_kl_divergence": _LOG_PROBABILITIES,
    "generalized_kl_divergence": _LOG_PROBABILITIES,
    "kl_divergence": _LOG_PROBABILITIES,
    "kl_divergence_with_log_targets": _LOG_PROBABILITIES,
    "binary_dice_loss": _WHOLE_BATCH,
    "dice_loss": _WHOLE_BATCH,
    "multiclass_generalized_dice_loss": _WHOLE_BATCH,
    "ntxent": _WHOLE_BATCH,
    "ranking_softmax_loss": _WHOLE_BATCH,
    "cosine_similarity": "grows with agreement; use cosine_distance",
    "ctc_loss": "needs paddings beside logits and labels",
    "ctc_loss_with_forward_probs": "needs paddings beside logits and labels",
    "make_fenchel_young_loss": "needs max_fun, which cannot be written in JSON",
    "smooth_labels": "is a change of labels, not a loss",
    "triplet_margin_loss": "compares three batches",
}
# `axis` other than the last would leave the examples' axis; `where` is an array.
LOSS_RULES = Rules(schemas={"axis": None, "where": None}, bounds={"delta": POSITIVE, "gamma": NOT_NEGATIVE, "alpha": UNIT})


def optimizers() -> Section:
    """Every transformation and alias of `optax` and `optax.contrib` that plain arguments build; `chain` is ours."""
    section = Section(excluded=dict(NOT_OPTIMIZERS))
    for module in (optax, optax.contrib):
        for name, found in public(module).items():
            if name not in NOT_OPTIMIZERS and name != "chain" and _gives_transformation(found):
                section.add(f"{module.__name__}.{name}", found, OPTIMIZER_RULES)
    return _with_wrappers(section)


def schedules() -> Section:
    """Every schedule of Optax that plain arguments build."""
    section = Section(excluded=dict.fromkeys(NOT_SCHEDULES, "makes an optimizer of functions, not a schedule"))
    for name, found in public(optax.schedules).items():
        if inspect.isfunction(found) and name not in NOT_SCHEDULES and name != "sgdr_schedule":
            section.add(f"optax.{name}", found, SCHEDULE_RULES)
    cycle = section.entries["warmup_cosine_decay_schedule"]["schema"]
    cycles: Schema = {"type": "array", "items": cycle, "minItems": 1, "maxItems": 100}
    section.add("optax.sgdr_schedule", optax.sgdr_schedule, Rules(schemas={"cosine_kwargs": cycles}))
    return section.sorted()


def losses() -> Section:
    """Every loss of Optax that compares one output with one target."""
    section = Section(excluded=dict(NOT_LOSSES))
    for name, found in public(optax.losses).items():
        if inspect.isfunction(found) and name not in NOT_LOSSES:
            section.add(f"optax.losses.{name}", found, LOSS_RULES, skip=2, kinds=["train"], targets=LOSS_TARGETS[name])
    return section


def _gives_transformation(found: Any) -> bool:
    if not inspect.isfunction(found):
        return False
    kinds = {optax.GradientTransformation, optax.GradientTransformationExtraArgs}
    gives = set(members_of(inspect.signature(found).return_annotation))
    return bool(kinds & gives) or found.__name__ in UNANNOTATED


def _with_wrappers(section: Section) -> Section:
    """Add what makes a transformation of another and is no function that returns one."""
    rules = Rules(schemas={"opt": OPTIMIZER, "every_k_schedule": COUNT, "use_grad_mean": BOOLEAN, "should_skip_update_fn": None})
    section.add("optax.MultiSteps", optax.MultiSteps, rules)
    section.add("optax.inject_hyperparams", optax.inject_hyperparams, Rules({"inner_factory": OPTIMIZER, "static_args": None}))
    return section.sorted()
