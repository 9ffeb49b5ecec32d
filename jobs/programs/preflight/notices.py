"""What would run, and is probably not meant: warnings that need the model's shapes or the data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jobs.preflight import Findings, Notice
from jobs.programs.preflight.sampling import too_large
from jobs.programs.preflight.unsharded import unsharded
from jobs.spec.catalog import named
from jobs.spec.resolve import total_of

LARGE_PARAMETERS = 50_000_000
"""Parameters from which on activations are worth computing again and memory is worth weighing."""
MANY_STEPS_LOST = 1000
LARGE_SHARE = 0.5
CLIPPING = ("clip", "clip_by_global_norm", "clip_by_block_rms", "adaptive_grad_clip", "per_example_global_norm_clip")
DECAYING = ("decay_steps", "transition_steps")


def notices(spec: dict[str, Any], found: Findings) -> list[Notice]:
    """All that is worth a warning."""
    makers = (_unsharded, _schedule, _partial_pass, _clipping, _remat, _saves, _static, _draws, _activations)
    return [notice for make in makers for notice in make(spec, found)]


def _unsharded(spec: dict[str, Any], found: Findings) -> Iterator[Notice]:
    axes = found.examined.mesh_axes if found.examined else {}
    free = {name for name in ("data", "model") if axes.get(name, 1) > 1}
    if spec["kind"] != "train" or found.parameters is None or found.total_parameters is None:
        return
    for array in unsharded(found.parameters, found.total_parameters.bytes, free):
        share = array.bytes / found.total_parameters.bytes
        by = "fsdp or fsdp_tp" if "data" in free else "tp"
        detail = f"{array.path} ({share:.0%} of all parameters) lies whole on every device; mesh.sharding {by} would spread it"
        yield Notice(pointer="/mesh/sharding", code="unsharded_parameter", detail=detail)


def _schedule(spec: dict[str, Any], found: Findings) -> Iterator[Notice]:
    if spec["kind"] != "train":
        return
    for section, value, pointer in named("optimizers", spec["optimizer"], "/optimizer"):
        length = value.get("decay_steps") if section == "schedules" else None
        if isinstance(length, int) and length != spec["steps"]:
            how = "ends before the job does" if length < spec["steps"] else "does not end within the job"
            detail = f"decay_steps is {length} and steps is {spec['steps']}: the schedule {how}"
            yield Notice(pointer=f"{pointer}/decay_steps", code="decay_steps_differ", detail=detail)


def _partial_pass(spec: dict[str, Any], found: Findings) -> Iterator[Notice]:
    data = found.data
    if data is None:
        return
    if data.unit == "row" and data.samples % data.batch_size and data.batch_size <= data.samples:
        rest = data.samples % data.batch_size
        detail = f"{data.samples} samples do not divide by {data.batch_size}: the last {rest} of a pass share a batch with the next"
        yield Notice(pointer="/data/batch_size", code="partial_batch", detail=detail)
    if data.batch_size > data.samples:
        detail = f"a batch of {data.batch_size} holds some of the {data.samples} samples more than once"
        yield Notice(pointer="/data/batch_size", code="repeated_samples", detail=detail)


def _clipping(spec: dict[str, Any], found: Findings) -> Iterator[Notice]:
    if spec["kind"] != "train":
        return
    if not any(value["type"] in CLIPPING for _, value, _ in named("optimizers", spec["optimizer"], "/optimizer")):
        first = '{"type": "clip_by_global_norm", "max_norm": 1.0}'
        detail = f"gradients are not clipped, and one bad batch can undo much: begin a chain with {first}"
        yield Notice(pointer="/optimizer", code="no_clipping", detail=detail)


def _remat(spec: dict[str, Any], found: Findings) -> Iterator[Notice]:
    if spec["kind"] != "train" or spec["remat"] != "none" or found.total_parameters is None:
        return
    if found.total_parameters.count >= LARGE_PARAMETERS:
        detail = f"{found.total_parameters.count:,} parameters without remat: every activation is kept for the backward pass"
        yield Notice(pointer="/remat", code="no_remat", detail=detail)


def _saves(spec: dict[str, Any], found: Findings) -> Iterator[Notice]:
    saving = spec["checkpoint"]
    every = saving.get("every_steps") or saving.get("every_draws")
    total = total_of(spec)
    pointer = "/checkpoint/every_draws" if spec["kind"] in ("mcmc", "predict") else "/checkpoint/every_steps"
    if saving.get("every_seconds") is not None:
        return
    if every is None or every >= total > MANY_STEPS_LOST:
        yield Notice(pointer=pointer, code="rarely_saved", detail=f"only the end is saved: a crash loses up to all {total} steps")
    elif every > MANY_STEPS_LOST and every > total * LARGE_SHARE:
        yield Notice(pointer=pointer, code="rarely_saved", detail=f"a crash loses up to {every} of {total} steps")


def _static(spec: dict[str, Any], found: Findings) -> Iterator[Notice]:
    if spec["debug"]["disable_jit"]:
        detail = "nothing is compiled: each step takes ten to a hundred times as long"
        yield Notice(pointer="/debug/disable_jit", code="not_jitted", detail=detail)


def _draws(spec: dict[str, Any], found: Findings) -> Iterator[Notice]:
    told = too_large(found.sampling) if found.sampling is not None else None
    if told is not None:
        yield Notice(pointer=told[0], code="draws_too_large", detail=told[1])


def _activations(spec: dict[str, Any], found: Findings) -> Iterator[Notice]:
    memory = found.memory
    if memory is None or memory.activations is None or found.verdict is None or found.verdict.code == "fits":
        return
    if memory.activations > memory.total * LARGE_SHARE:
        detail = "most of the memory is activations: remat or micro-batches help more than spreading parameters"
        yield Notice(pointer="/remat", code="activations_dominate", detail=detail)
