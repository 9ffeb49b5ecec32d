"""Kernels of NumPyro from the fitted objects of a spec."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpyro.infer.mcmc import MCMCKernel

from jobs.programs.library import arguments, found


def build(kernel: dict[str, Any], model: Callable[..., Any]) -> MCMCKernel:
    """The kernel that a resolved `kernel` names, over a NumPyro model."""
    return found("kernels", kernel["type"])(model, **arguments(kernel))
