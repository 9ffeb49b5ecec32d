"""Rules of optimizers and schedules that no schema of their arguments can state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jobs.errors import Issue
from jobs.spec.catalog import load, named
from jobs.spec.pointers import join, listed, nearest, quoted
from jobs.spec.strict import as_list, as_object

Named = dict[str, Any]
POINTER = "/optimizer"
SINGLE_RATE = ("learning_rate", "max_learning_rate")
MASKS = ("mask", "weight_decay_mask", "trust_ratio_mask", "freeze_mask")
FUNCTIONAL = (
    "sophia",
    "hutchinson_estimator_diag_hessian",
    "lbfgs",
    "scale_by_zoom_linesearch",
    "scale_by_backtracking_linesearch",
)
"""Those that compute the loss of a whole batch again, or its derivatives, within an update."""
CURVED = ("sophia", "hutchinson_estimator_diag_hessian")
"""Those of them that differentiate a gradient forwards."""
SCHEDULE_FREE = ("schedule_free", "schedule_free_adamw", "schedule_free_sgd")


def is_curved(optimizer: Named) -> bool:
    """Whether any part of an optimizer differentiates a gradient forwards."""
    return any(section == "optimizers" and value["type"] in CURVED for section, value, _ in named("optimizers", optimizer, POINTER))


def check_schedules(optimizer: Named) -> Iterator[Issue]:
    """Schedules whose arguments contradict each other."""
    for section, value, pointer in named("optimizers", optimizer, POINTER):
        if section == "schedules":
            yield from _faults_of_schedule(value, pointer)


def check_parts(optimizer: Named) -> Iterator[Issue]:
    """Parts of the parameters, and hyperparameters, that do not fit what is done with them."""
    for _, value, pointer in named("optimizers", optimizer, POINTER):
        if value["type"] == "partition":
            yield from _faults_of_labels(value, pointer)
        elif value["type"] == "inject_hyperparams" and not injected(value["inner_factory"]):
            detail = (
                "has no number or schedule of its own to inject: name the optimizer that has, and put what is around it outside"
            )
            yield Issue(join(pointer, "inner_factory", "type"), "no_effect", detail)
        elif value["type"] in ("flatten", "split_real_and_imaginary"):
            yield from _faults_of_reshaping(value, pointer)


def rates(optimizer: Named) -> dict[str, tuple[Any, int]]:
    """Every learning rate by the name of its metric: a number or a schedule, and how many steps make one of its updates.

    In a chain it is the last one, by which all before it is scaled; each part of a `partition` has its own, under its label.
    """
    if optimizer["type"] == "MultiSteps":
        every = optimizer["every_k_schedule"]
        return {name: (value, times * every) for name, (value, times) in rates(optimizer["opt"]).items()}
    if optimizer["type"] == "partition":
        parts = [(label, rates(inner)) for label, inner in sorted(optimizer["transforms"].items())]
        return {f"{name}/{label}": rate for label, found in parts for name, rate in found.items()}
    value = next((optimizer[name] for name in SINGLE_RATE if optimizer.get(name) is not None), None)
    if value is not None:
        return {"learning_rate": (value, 1)}
    return next((found for inner in _inside(optimizer) if (found := rates(inner))), dict[str, tuple[Any, int]]())


def injected(optimizer: Named) -> list[str]:
    """The arguments of an optimizer that `inject_hyperparams` makes part of the state: its numbers and schedules.

    Integers are sizes and counts: they decide the form of a program, and stay as they are.
    """
    schedules = load().sections["schedules"]
    return [name for name, value in optimizer.items() if isinstance(value, float) or _type_of(value) in schedules]


def figures(optimizer: Named) -> list[str]:
    """The metrics that an optimizer gives at every step."""
    inner = [
        value["inner_factory"] for _, value, _ in named("optimizers", optimizer, POINTER) if value["type"] == "inject_hyperparams"
    ]
    names = {f"hyperparams/{name}" for value in inner for name in injected(value) if name != "learning_rate"}
    return [*rates(optimizer), *sorted(names), *(["clipped_fraction"] if clip_of(optimizer) is not None else [])]


def clip_of(optimizer: Named) -> Named | None:
    """The clip that gradients meet first, if they meet one before anything else."""
    if optimizer["type"] == "chain":
        return clip_of(optimizer["transforms"][0])
    return optimizer if optimizer["type"] in ("clip", "clip_by_global_norm") else None


def is_schedule_free(optimizer: Named) -> bool:
    """Whether what it trains is not what is to be evaluated."""
    return any(value["type"] in SCHEDULE_FREE for _, value, _ in named("optimizers", optimizer, POINTER))


def check_accumulation(optimizer: Named, pieces: int) -> Iterator[Issue]:
    """Two ways of accumulating gradients at once."""
    if pieces > 1 and any(value["type"] == "MultiSteps" for _, value, _ in named("optimizers", optimizer, POINTER)):
        detail = "MultiSteps accumulates gradients too, and schedules would then count neither: leave one of the two out"
        yield Issue("/grad_accumulation", "conflict", detail)
    functional = [value["type"] for _, value, _ in named("optimizers", optimizer, POINTER) if value["type"] in FUNCTIONAL]
    if pieces > 1 and functional:
        detail = f"{functional[0]} computes the loss of the whole batch again, which accumulation is there to avoid: leave one out"
        yield Issue("/grad_accumulation", "conflict", detail)


def check_average(ema: object | None, optimizer: Named) -> Iterator[Issue]:
    """Two averages of the parameters at once."""
    if ema is not None and is_schedule_free(optimizer):
        yield Issue("/ema", "conflict", "a schedule-free optimizer averages the parameters itself: leave ema out")


def warn_of_optimizer(optimizer: Named, steps: int) -> Iterator[Issue]:
    """What an optimizer or schedule does that its user may not expect."""
    for _, value, pointer in named("optimizers", optimizer, POINTER):
        warmup = value.get("warmup_steps")
        if warmup is not None and warmup >= steps:
            yield Issue(
                join(pointer, "warmup_steps"), "never_reached", "the job ends before its warm-up does: use fewer, or more steps"
            )


def _type_of(value: Any) -> str | None:
    found = as_object(value)
    return None if found is None else found.get("type")


def _inside(optimizer: Named) -> Iterator[Named]:
    """The optimizers within another, the last first."""
    legal = load().sections["optimizers"]
    for value in reversed(list(optimizer.values())):
        yield from (item for item in reversed(as_list(value) or [value]) if _type_of(item) in legal)


def _faults_of_labels(value: Named, pointer: str) -> Iterator[Issue]:
    used = {entry["label"] for entry in value["param_labels"]}
    for at, entry in enumerate(value["param_labels"]):
        if entry["label"] not in value["transforms"]:
            detail = f"{quoted(entry['label'])} is none of the transforms; {nearest(entry['label'], value['transforms'])}"
            yield Issue(join(pointer, "param_labels", at, "label"), "unknown_value", detail)
    for label in sorted(set(value["transforms"]) - used):
        detail = "no entry of param_labels has this label, so it updates nothing: give it parameters, or leave it out"
        yield Issue(join(pointer, "transforms", label), "no_effect", detail)


def _faults_of_reshaping(value: Named, pointer: str) -> Iterator[Issue]:
    """Masks inside what changes the form of the parameters, where their paths are gone."""
    for _, inner, where in named("optimizers", value["inner"], join(pointer, "inner")):
        kept = [name for name in MASKS if as_object(inner.get(name)) is not None]
        if kept or inner["type"] == "partition":
            detail = f"{value['type']} leaves no paths for {listed(kept or ['param_labels'])} to match: put the mask around it"
            yield Issue(join(where, (kept or ["param_labels"])[0]), "conflict", detail)


def _faults_of_schedule(value: Named, pointer: str) -> Iterator[Issue]:
    if value["type"] == "warmup_cosine_decay_schedule":
        yield from _faults_of_warmup(value, pointer)
    elif value["type"] == "sgdr_schedule":
        for at, cycle in enumerate(value["cosine_kwargs"]):
            yield from _faults_of_warmup(cycle, join(pointer, "cosine_kwargs", at))
    elif value["type"] == "join_schedules":
        yield from _faults_of_joints(value, join(pointer, "boundaries"))
    elif value["type"] == "linear_onecycle_schedule" and value["pct_start"] >= value["pct_final"]:
        yield Issue(join(pointer, "pct_start"), "out_of_range", f"must be less than pct_final, which is {value['pct_final']:g}")


def _faults_of_warmup(value: Mapping[str, Any], pointer: str) -> Iterator[Issue]:
    if value["warmup_steps"] >= value["decay_steps"]:
        detail = f"must be less than decay_steps, which is {value['decay_steps']} and counts the warm-up too"
        yield Issue(join(pointer, "warmup_steps"), "out_of_range", detail)


def _faults_of_joints(value: Mapping[str, Any], pointer: str) -> Iterator[Issue]:
    boundaries, wanted = value["boundaries"], len(value["schedules"]) - 1
    if len(boundaries) != wanted:
        yield Issue(pointer, "out_of_range", f"must hold {wanted}, one between each two schedules")
    elif sorted(set(boundaries)) != boundaries:
        yield Issue(pointer, "out_of_range", "must grow: each schedule begins after the one before it")
