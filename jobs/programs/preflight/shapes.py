"""What shapes alone tell of a training job: tables, bytes, FLOPs, the learning rate and the data."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import jax
import numpy as np

from jobs.preflight import Array, Curve, DataFacts, Flops, Memory, Total
from jobs.programs.flops import FORMULA
from jobs.programs.optimizers import learning_rates
from jobs.programs.preflight.placing import on_device, size_of
from jobs.programs.program import flatten
from jobs.programs.svi import SviProgram
from jobs.programs.train import TrainProgram
from jobs.programs.update import MOVING

CURVE_POINTS = 101
KINDS = {"params": "parameters", "opt_state": "optimizer"}


def training(program: TrainProgram) -> dict[str, Any]:
    """The parts of the findings that a training job has at level `shapes`."""
    arrays = table(program)
    total = Total(
        count=sum(math.prod(array.shape) for array in arrays),
        bytes=sum(array.bytes for array in arrays),
        bytes_per_device=sum(array.bytes_per_device for array in arrays),
    )
    memory = memory_of(program)
    return {
        "parameters": arrays,
        "total_parameters": total,
        "memory": memory,
        "flops": flops(program, total.count),
        "learning_rate": curve(program),
        "data": data_facts(program),
    }


def fitting(program: SviProgram) -> dict[str, Any]:
    """The parts of the findings that a job has at level `shapes` which fits a guide: its parameters."""
    arrays = [_array(path, leaf, None) for path, leaf in sorted(flatten(program.abstract()["params"]).items())]
    count, size = sum(math.prod(array.shape) for array in arrays), sum(array.bytes for array in arrays)
    return {"parameters": arrays, "total_parameters": Total(count=count, bytes=size, bytes_per_device=size)}


def table(program: TrainProgram) -> list[Array]:
    """Every parameter, in the order of its path."""
    logical = program.form.logical_axes
    return [_array(path, leaf, logical.get(path)) for path, leaf in sorted(program.abstract()["params"].items())]


def _array(path: str, leaf: Any, logical: tuple[str | None, ...] | None) -> Array:
    spec = tuple(leaf.sharding.spec)
    axes = [axis if axis is None or isinstance(axis, str) else "+".join(axis) for axis in spec]
    return Array(
        path=path,
        shape=list(leaf.shape),
        dtype=str(leaf.dtype),
        logical_axes=None if logical is None else [None] * (len(leaf.shape) - len(logical)) + list(logical),
        partition=axes + [None] * (len(leaf.shape) - len(axes)),
        bytes=size_of(leaf),
        bytes_per_device=on_device(leaf),
    )


def memory_of(program: TrainProgram) -> Memory:
    """Bytes of one device by kind."""
    sections = {name: flatten(section) for name, section in program.abstract().items()}
    sums = {"parameters": 0, "optimizer": 0, "other": 0}
    for name, section in sections.items():
        sums[KINDS.get(name, "other")] += sum(map(on_device, section.values()))
    batch = sum(map(on_device, program.example().values()))
    # One gradient of every parameter, lying as it does; accumulation keeps a sum beside it.
    gradients = sums["parameters"] * (2 if program.spec["grad_accumulation"] > 1 else 1)
    kept = activations(program)
    return Memory(**sums, gradients=gradients, batch=batch, activations=kept, total=sum(sums.values()) + gradients + batch + kept)


def activations(program: TrainProgram) -> int:
    """What the backward pass keeps of the forward pass, on one device: the residuals of the traced loss that are no parameters."""
    shapes = program.one
    shards = program.layout.data_shards
    pieces = program.spec["grad_accumulation"]
    batch = {name: jax.ShapeDtypeStruct((a.shape[0] // pieces, *a.shape[1:]), a.dtype) for name, a in program.example().items()}
    moving = {name: shapes[name] for name in MOVING if name in shapes}
    plain = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (shapes["params"], moving))

    def residuals(params: Any, moving: Any, batch: Any) -> Any:
        return jax.vjp(lambda p: program.loss(p, moving, batch), params, has_aux=True)[1]

    with jax.set_mesh(program.layout.mesh):
        kept = jax.tree.leaves(jax.eval_shape(residuals, *plain, batch))
    own = Counter((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(plain[0]))
    total = 0
    for leaf in kept:
        key = (leaf.shape, leaf.dtype)
        if own[key]:
            own[key] -= 1
        else:
            total += size_of(leaf)
    return total * (program.spec["ensemble"] or 1) // shards


def flops(program: TrainProgram, count: int) -> Flops | None:
    """Operations of one step, counted and by the rule of thumb."""
    effort = program.effort()
    if effort is None or effort.flops is None:
        return None
    return Flops(per_step=float(effort.flops), formula=FORMULA, analytic=6.0 * count * effort.in_step)


def curve(program: TrainProgram) -> Curve | None:
    """The learning rate over the job, as points; None for an optimizer without one."""
    rate = learning_rates(program.spec["optimizer"]).get("learning_rate")
    if rate is None:
        return None
    steps = np.unique(np.linspace(0, program.total, CURVE_POINTS).astype(np.int64))
    values = (float(np.asarray(rate(int(step)))) for step in steps)
    return Curve(steps=[int(step) for step in steps], values=[value if math.isfinite(value) else None for value in values])


def data_facts(program: TrainProgram) -> DataFacts:
    """What is read, and how often."""
    size, samples = program.spec["data"]["batch_size"], len(program.objective.source)
    name, units = program.objective.rate
    by_token = name.startswith("tokens")
    # Windows of a text overlap: each begins at another token. A pass is over when every token has been seen once on average.
    whole = samples + units // size if by_token else samples
    a_pass = whole / units
    return DataFacts(
        unit="window" if by_token else "row",
        samples=samples,
        batch_size=size,
        batches_per_pass=round(a_pass, 3),
        passes=round(program.total / a_pass, 3),
        arrays={name: list(array.shape) for name, array in program.example().items()},
    )
