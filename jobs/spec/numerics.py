"""Number formats, and switches for finding faults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from jobs.errors import Issue
from jobs.spec.strict import Document, Name

DType = Literal["float32", "bfloat16", "float64"]


class Precision(Document):
    """Number formats of parameters and of arithmetic. A sampler has one format for both: float32, or float64 with `x64`."""

    params: DType | None = Field(default=None, description="Format of the parameters; null: float32 for training.")
    compute: DType | None = Field(default=None, description="Format of the arithmetic; null: that of the parameters.")
    accumulation: DType | None = Field(
        default=None,
        description="Format of the sum of gradients over micro-batches; null: that of the parameters, float32 at least.",
    )
    matmul: Literal["default", "high", "highest"] = Field(
        default="default",
        description="How exact products of float32 are: on a GPU default may round to TF32 and highest does not; a CPU never does.",
    )
    x64: bool = Field(default=False, description="Allow 64-bit numbers.")


class Printing(Document):
    """What is printed into the log while training goes on."""

    paths: Annotated[list[Name], Field(min_length=1, max_length=64)] = Field(
        description="Patterns of parameter paths, such as blocks.0.*; a * stands for any characters."
    )
    every: Annotated[int, Field(ge=1, le=10**9)] = Field(default=100, description="Steps between lines.")


class Debug(Document):
    """Switches for finding faults. Each costs speed."""

    disable_jit: bool = Field(default=False, description="Run step by step without compiling.")
    nans: bool = Field(default=False, description="Stop where the first NaN arises.")
    log_compiles: bool = Field(default=False, description="Log each compilation.")
    shapes: bool = Field(default=False, description="Log shape, format and sharding of every array of the state at the start.")
    print: Printing | None = Field(
        default=None, description="Log mean, deviation, least and greatest of parameters and their gradients."
    )


def resolve_precision(kind: str, precision: Precision) -> dict[str, str | bool]:
    """The number formats of a job, none left open."""
    usual = "float64" if kind != "train" and precision.x64 else "float32"
    params = precision.params or usual
    sums = precision.accumulation or ("float64" if params == "float64" else "float32")
    formats = {"params": params, "compute": precision.compute or params, "accumulation": sums}
    return {**formats, "matmul": precision.matmul, "x64": precision.x64}


LONG_STEPS = 100
"""Without compiling, a step that takes milliseconds takes seconds."""


def check_debug(kind: str, debug: Debug) -> Iterator[Issue]:
    """Faults of the switches."""
    if kind != "train" and debug.print is not None:
        yield Issue("/debug/print", "conflict", "a sampler has no parameters with gradients; leave this field out")


def warn_of_debug(debug: Debug, total: int) -> Iterator[Issue]:
    """Warnings about switches that cost more than their user may know."""
    if debug.disable_jit and total > LONG_STEPS:
        detail = f"without compiling each of {total} steps takes seconds; use it for at most {LONG_STEPS}, to find a fault"
        yield Issue("/debug/disable_jit", "slow", detail)


def check_precision(kind: str, precision: Precision) -> Iterator[Issue]:
    """Faults between the number formats."""
    formats = {"params": precision.params, "compute": precision.compute, "accumulation": precision.accumulation}
    for name, dtype in formats.items():
        pointer = f"/precision/{name}"
        if dtype == "float64" and not precision.x64:
            yield Issue(pointer, "requires", "float64 needs precision.x64: set it to true, or use float32")
        elif kind != "train" and dtype not in (None, "float64" if precision.x64 else "float32"):
            only = "float64 with precision.x64" if precision.x64 else "float32, or in float64 with precision.x64"
            yield Issue(pointer, "conflict", f"a sampler computes in {only}; leave this field out")
