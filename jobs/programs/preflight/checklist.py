"""The checklist that a careful author of JAX programs goes through, each item with what was found in this very job."""

from __future__ import annotations

from typing import Any

from jobs.preflight import ChecklistItem, Findings, Status
from jobs.programs.preflight.notices import CLIPPING, LARGE_PARAMETERS
from jobs.programs.preflight.tracing import Traced, trace
from jobs.spec.catalog import named

__all__ = ["Traced", "checklist", "trace"]

ITEMS = (
    "Functions are pure and side-effect free",
    "RNG keys split and passed explicitly",
    "Hot paths JIT-compiled",
    "Static args marked for dynamic shapes",
    "Checkpointing with async saves",
    "Gradient clipping enabled",
    "Memory profiled for large models",
)
GIB = 2**30

Verdict = tuple[Status, str]


def checklist(spec: dict[str, Any], found: Findings, compiled: bool, traced: Traced) -> list[ChecklistItem]:  # noqa: FBT001
    """All seven items.

    Args:
        spec: the resolved spec.
        found: what the look has found so far.
        compiled: whether the step was compiled and weighed against a device's memory.
        traced: what tracing showed.
    """
    verdicts = (
        _pure(traced),
        _keys(spec, traced),
        _jitted(spec, found),
        _static(spec),
        _saves(spec),
        _clips(spec),
        _memory(found, compiled),
    )
    return [
        ChecklistItem(item=item, status=status, evidence=evidence) for item, (status, evidence) in zip(ITEMS, verdicts, strict=True)
    ]


def _pure(traced: Traced) -> Verdict:
    if traced.differs is not None:
        return (
            "warn",
            f"traced twice, the program differed in {traced.differs}: it reads what changes beside its arguments",
        )
    if traced.effects:
        return "warn", f"{traced.operations} operations, the same when traced twice; but with effects: {', '.join(traced.effects)}"
    return "pass", f"traced twice: the same {traced.operations} operations, the same constants, no effects"


def _keys(spec: dict[str, Any], traced: Traced) -> Verdict:
    seed = f"all keys come from seed {spec['seed']}"
    if not traced.streams:
        return "n/a", f"{seed}, used for the first parameters alone: a step of this model draws nothing"
    streams = ", ".join(traced.streams[:6]) + (" …" if len(traced.streams) > 6 else "")
    uses = ", ".join(f"{count} {name}" for name, count in sorted(traced.uses.items())) or "none drawn from in a step"
    return "pass", f"{seed}; streams in the state, saved with it: {streams}; in a step: {uses}"


def _jitted(spec: dict[str, Any], found: Findings) -> Verdict:
    if spec["debug"]["disable_jit"]:
        return "warn", "debug.disable_jit is on: every operation is run by itself, ten to a hundred times slower"
    if spec["debug"]["nans"]:
        return "warn", "debug.nans is on: the step is compiled, but its buffers are not reused and every result is checked"
    how = f"compiled here in {found.compiled.seconds:.3g} s" if found.compiled else "compiled ahead of the first step"
    what = "a block of transitions" if spec["kind"] == "mcmc" else "a step"
    return "pass", f"{what} is one executable under jax.jit, {how}, with the state donated"


def _static(spec: dict[str, Any]) -> Verdict:
    if spec["kind"] == "train":
        every = f"every batch has {spec['data']['batch_size']} samples"
        return "pass", f"no static argument; {every} (the last of an evaluation is filled up and masked): nothing recompiles"
    return "pass", "no static argument: the length of a block is a traced number, so that one program serves warm-up and sampling"


def _saves(spec: dict[str, Any]) -> Verdict:
    saving = spec["checkpoint"]
    every, seconds = saving.get("every_steps") or saving.get("every_draws"), saving.get("every_seconds")
    unit = "draws" if spec["kind"] == "mcmc" else "steps"
    rules = [f"every {number:g} {what}" for number, what in ((every, unit), (seconds, "seconds")) if number is not None]
    if not rules:
        return "warn", "only the last state is saved: a crash loses the whole run"
    return "pass", f"saved {' and '.join(rules)}, written in the background; the last {saving['keep_latest']} are kept"


def _clips(spec: dict[str, Any]) -> Verdict:
    if "optimizer" not in spec:
        return "n/a", "a sampler has no gradient to clip; step size and divergences are adapted and told"
    found = [pointer for _, value, pointer in named("optimizers", spec["optimizer"], "/optimizer") if value["type"] in CLIPPING]
    if not found:
        return "warn", 'gradients are not clipped: put {"type": "clip_by_global_norm", "max_norm": 1.0} first into a chain'
    return "pass", f"clipped at {', '.join(found)}"


def _memory(found: Findings, compiled: bool) -> Verdict:  # noqa: FBT001
    if compiled and found.verdict is not None:
        need, limit = found.verdict.need_bytes / GIB, found.verdict.limit_bytes / GIB
        told = f"a device needs {need:.3g} of {limit:.3g} GiB ({found.verdict.limit})"
        return ("pass" if found.verdict.code == "fits" else "warn"), f"compiled: {told}"
    count = found.total_parameters.count if found.total_parameters else 0
    if found.memory is None:
        return "n/a", "only shapes were looked at, and a sampler's state is small; level compile weighs it"
    told = f"from shapes, about {found.memory.total / GIB:.3g} GiB on a device"
    if count < LARGE_PARAMETERS:
        return "n/a", f"{told}; the model is small ({count:,} parameters). Level compile weighs it"
    return "warn", f"{told}; level compile weighs what is really allocated for {count:,} parameters"
