"""Number formats, and switches for finding faults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from jobs.errors import Issue
from jobs.spec.strict import Document

DType = Literal["float32", "bfloat16", "float64"]


class Precision(Document):
    """Number formats of parameters and of arithmetic. A sampler has one format for both: float32, or float64 with `x64`."""

    params: DType | None = Field(default=None, description="Format of the parameters; null: float32 for training.")
    compute: DType | None = Field(default=None, description="Format of the arithmetic; null: that of the parameters.")
    accumulation: DType | None = Field(
        default=None,
        description="Format of the sum of gradients over micro-batches; null: that of the parameters, float32 at least.",
    )
    x64: bool = Field(default=False, description="Allow 64-bit numbers.")


class Debug(Document):
    """Switches for finding faults. Each costs speed."""

    disable_jit: bool = Field(default=False, description="Run step by step without compiling.")
    nans: bool = Field(default=False, description="Stop where the first NaN arises.")
    log_compiles: bool = Field(default=False, description="Log each compilation.")


def resolve_precision(kind: str, precision: Precision) -> dict[str, str | bool]:
    """The number formats of a job, none left open."""
    usual = "float64" if kind == "mcmc" and precision.x64 else "float32"
    params = precision.params or usual
    sums = precision.accumulation or ("float64" if params == "float64" else "float32")
    return {"params": params, "compute": precision.compute or params, "accumulation": sums, "x64": precision.x64}


def check_precision(kind: str, precision: Precision) -> Iterator[Issue]:
    """Faults between the number formats."""
    formats = {"params": precision.params, "compute": precision.compute, "accumulation": precision.accumulation}
    for name, dtype in formats.items():
        pointer = f"/precision/{name}"
        if dtype == "float64" and not precision.x64:
            yield Issue(pointer, "requires", "float64 needs precision.x64: set it to true, or use float32")
        elif kind == "mcmc" and dtype not in (None, "float64" if precision.x64 else "float32"):
            only = "float64 with precision.x64" if precision.x64 else "float32, or in float64 with precision.x64"
            yield Issue(pointer, "conflict", f"a sampler computes in {only}; leave this field out")
