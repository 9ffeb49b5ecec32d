"""Kernels of NumPyro."""

from __future__ import annotations

import inspect

from numpyro import infer
from numpyro.infer.mcmc import MCMCKernel

from jobs.programs.catalog.arguments import BOOLEAN, COUNT, NUMBER, Rules, nullable
from jobs.programs.catalog.entries import Section, public

KERNELS = ("HMC", "NUTS")
_OTHER_KERNEL = "is not built into this version's sampler"
_LENGTH = NUMBER | {"exclusiveMinimum": 0}
KERNEL_RULES = Rules(
    schemas={
        "model": None,
        "potential_fn": None,
        "kinetic_fn": None,
        "inverse_mass_matrix": None,
        "init_strategy": None,
        "step_size": _LENGTH,
        "adapt_step_size": BOOLEAN,
        "adapt_mass_matrix": BOOLEAN,
        "dense_mass": BOOLEAN,
        "target_accept_prob": NUMBER | {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "num_steps": nullable(COUNT),
        "trajectory_length": nullable(_LENGTH),
        "max_tree_depth": COUNT | {"maximum": 20},
        "find_heuristic_step_size": BOOLEAN,
        "forward_mode_differentiation": BOOLEAN,
        "regularize_mass_matrix": BOOLEAN,
    },
    # NUTS takes no trajectory length, though its constructor does.
    own={"NUTS.trajectory_length": None},
)


def kernels() -> Section:
    """The kernels whose state and adaptation the sampler knows."""
    section = Section()
    for name, found in public(infer).items():
        if name in KERNELS:
            section.add(f"numpyro.infer.{name}", found, KERNEL_RULES, kinds=["mcmc"])
        elif inspect.isclass(found) and issubclass(found, MCMCKernel):
            section.excluded[name] = _OTHER_KERNEL
    return section.sorted()
