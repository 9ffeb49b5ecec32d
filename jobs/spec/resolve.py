"""From the sound parts of a job description to its resolved spec: every field present, every default fixed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jobs.errors import Issue
from jobs.spec import stop
from jobs.spec.binding import Binding
from jobs.spec.checkpoint import McmcCheckpoint, TrainCheckpoint, warn_of_keep_every
from jobs.spec.data import Data
from jobs.spec.dataset import DatasetFacts
from jobs.spec.draft import Draft
from jobs.spec.envelope import SPEC_VERSION
from jobs.spec.measures import is_text, settle_measures
from jobs.spec.mesh import Placement
from jobs.spec.numerics import resolve_precision
from jobs.spec.origin import CheckpointFacts, default_what
from jobs.spec.predict import CONDITIONED, draws_of
from jobs.spec.resources import Resources
from jobs.spec.text import Corpus, resolve_text

Resolved = dict[str, Any]


def resolve(draft: Draft) -> Resolved:
    """The resolved spec of a draft without issues."""
    own = _OWN[draft.kind](draft.parts, draft.given)
    return {"kind": draft.kind, "spec_version": SPEC_VERSION, **_common(draft.kind, draft.parts), **own}


def warn_of_resolved(resolved: Mapping[str, Any]) -> Iterator[Issue]:
    """Warnings that only the fixed defaults allow."""
    keep = resolved["checkpoint"]["keep_best"]
    if keep is not None:
        save_every, eval_every = resolved["checkpoint"].get("every_steps"), resolved.get("eval_every")
        yield from stop.warn_of_best(resolved["kind"], keep["metric"], save_every, eval_every)
    yield from warn_of_keep_every(resolved["checkpoint"], total_of(resolved))


def total_of(resolved: Mapping[str, Any]) -> int:
    """Steps, or transitions of every chain, after which a job is done."""
    if resolved["kind"] in ("mcmc", "predict"):
        return resolved.get("num_warmup", 0) + resolved["num_samples"]
    return resolved["steps"]


def _common(kind: str, parts: Mapping[str, Any]) -> Resolved:
    placement: Placement = parts["placement"]
    plain = ("name", "metadata", "priority", "timeout_seconds", "seed")
    dumped = ("debug", "retries")
    return {
        **{name: parts[name] for name in plain},
        **{name: parts[name].model_dump() for name in dumped},
        "mesh": {"axes": placement.axes, "sharding": placement.preset, "rules": placement.overrides},
        "precision": resolve_precision(kind, parts["precision"]),
        "profile": None if parts["profile"] is None else parts["profile"].model_dump(),
        "init_from": _origin(kind, parts),
        "resources": _resources(parts["resources"], placement),
    }


def _train(parts: Mapping[str, Any], given: frozenset[str]) -> Resolved:
    checkpoint = _train_checkpoint(parts["checkpoint"], parts["steps"])
    plain = ("model", "loss", "optimizer", "grad_accumulation", "ensemble", "remat", "offload", "steps", "log_every")
    evaluates = parts["data"].evaluates and "eval_every" not in given
    return {
        **{name: parts[name] for name in plain},
        "data": _train_data(parts),
        "eval_every": checkpoint["every_steps"] or _tenth(parts["steps"]) if evaluates else parts["eval_every"],
        "checkpoint": checkpoint,
        "stop": parts["stop"].model_dump(),
        "export": parts["export"].model_dump(),
        "ema": None if parts["ema"] is None else parts["ema"].model_dump(),
        "metrics": settle_measures(parts["metrics"], parts["loss"], parts["data"], text=is_text(parts["model"])),
    }


def _mcmc(parts: Mapping[str, Any], _given: frozenset[str]) -> Resolved:
    plain = ("model", "kernel", "reparam", "num_warmup", "num_samples", "num_chains", "thinning", "chain_method")
    checkpoint: McmcCheckpoint = parts["checkpoint"]
    # A block's buffers are as long as it is, so it is never longer than the run.
    every = min(checkpoint.every_draws, parts["num_warmup"] + parts["num_samples"])
    return {
        **{name: parts[name] for name in plain},
        "data": {**_source(parts["data"], parts["facts"]), "args": _args(parts)},
        "checkpoint": checkpoint.model_dump() | {"every_draws": every},
        "stop": parts["stop"].model_dump(),
        "outputs": parts["outputs"].model_dump(),
    }


def _svi(parts: Mapping[str, Any], given: frozenset[str]) -> Resolved:
    checkpoint = _train_checkpoint(parts["checkpoint"], parts["steps"])
    plain = ("model", "guide", "optimizer", "loss", "reparam", "steps", "num_samples", "eval_particles", "log_every")
    usual = checkpoint["every_steps"] or _tenth(parts["steps"])
    return {
        **{name: parts[name] for name in plain},
        "data": {**_source(parts["data"], parts["facts"]), "args": _args(parts)},
        "eval_every": parts["eval_every"] if "eval_every" in given else usual,
        "checkpoint": checkpoint,
        "stop": parts["stop"].model_dump(),
        "outputs": parts["outputs"].model_dump(),
    }


def _predict(parts: Mapping[str, Any], _given: frozenset[str]) -> Resolved:
    """The model, its form and its number formats are those of the job that has the draws."""
    found: CheckpointFacts = parts["source"]
    thinning: int = parts["posterior"].thinning
    draws = draws_of(found) // thinning
    checkpoint: McmcCheckpoint = parts["checkpoint"]
    fitted = {"fitted": found.resolved_spec["data"]} if parts["model"]["type"] in CONDITIONED else {}
    return {
        "model": parts["model"],
        "reparam": found.resolved_spec.get("reparam"),
        "precision": found.resolved_spec["precision"],
        "posterior": {"job": found.job_id, "step": found.step, "thinning": thinning, "args": _names_of(found)},
        "num_chains": found.resolved_spec.get("num_chains", 1),
        "num_samples": draws,
        "data": {**_source(parts["data"], parts["facts"]), "args": _args(parts), **fitted},
        "checkpoint": checkpoint.model_dump() | {"every_draws": min(checkpoint.every_draws, draws)},
    }


def _names_of(found: CheckpointFacts) -> list[str]:
    """What the sampled model was called with."""
    return sorted(found.resolved_spec["data"].get("args") or {})


_OWN: Mapping[str, Callable[[Mapping[str, Any], frozenset[str]], Resolved]] = {
    "train": _train,
    "mcmc": _mcmc,
    "svi": _svi,
    "predict": _predict,
}


def _train_checkpoint(checkpoint: TrainCheckpoint, steps: int) -> Resolved:
    """`every_steps` left out is a tenth of all, unless the job is saved by time; null is no rule by steps."""
    if "every_steps" in checkpoint.model_fields_set or checkpoint.every_seconds is not None:
        return checkpoint.model_dump()
    return checkpoint.model_dump() | {"every_steps": _tenth(steps)}


def _tenth(steps: int) -> int:
    return max(1, steps // 10)


def _train_data(parts: Mapping[str, Any]) -> Resolved:
    data = parts["data"]
    portions = ("batch_size", "shuffle_seed", "eval_fraction", "eval_dataset", "eval_batches")
    fixed = {name: getattr(data, name) for name in portions}
    return {**_source(data, parts["facts"]), **fixed, **resolve_text(data, parts.get("corpus")), "args": _args(parts)}


def _source(data: Data, facts: DatasetFacts) -> Resolved:
    """Where the data is. A file that was named by its URI has become a dataset."""
    dataset = data.dataset if data.uri is None else facts.id
    return {"dataset": dataset, "uri": data.uri, "inline": data.inline, "builtin": data.builtin}


def _args(parts: Mapping[str, Any]) -> Mapping[str, str | list[str]] | None:
    binding: Binding | Corpus | None = parts.get("binding") or parts.get("corpus")
    return binding.args if binding is not None else None


def _origin(kind: str, parts: Mapping[str, Any]) -> Resolved | None:
    origin = parts["init_from"]
    if origin is None:
        return None
    return {
        "job": origin.job,
        "step": parts["origin"].step,
        "what": origin.what or default_what(kind, parts["origin"]),
        "include": None if origin.include is None else list(origin.include),
        "exclude": list(origin.exclude),
    }


def _resources(resources: Resources, placement: Placement) -> Resolved:
    devices = None if placement.open_axis is not None else math.prod(placement.axes.values())
    return resources.model_dump() | {"devices": devices}
