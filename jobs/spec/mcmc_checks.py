"""The rules between the parts of a sampling job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jobs.errors import Issue
from jobs.spec import origin
from jobs.spec.classics import check_columns
from jobs.spec.data import Data
from jobs.spec.dataset import DatasetFacts
from jobs.spec.draft import Check
from jobs.spec.imports import check_own_posterior
from jobs.spec.mesh import Placement
from jobs.spec.numerics import Debug, warn_of_debug
from jobs.spec.pointers import join, quoted
from jobs.spec.program.document import Program, discrete_sites

Named = Mapping[str, Any]


def _check_kind_of_data(data: Data, facts: DatasetFacts) -> Iterator[Issue]:
    if facts.format == "text":
        yield Issue(
            "/data/dataset" if data.dataset else "/data", "wrong_kind", "is a text, and a sampler needs columns: use a table"
        )


def _check_chains(chains: int, placement: Placement) -> Iterator[Issue]:
    parts = placement.axes["chains"]
    if parts > 0 and chains % parts:
        yield Issue(
            "/num_chains", "not_divisible", f'must divide by mesh axis "chains" of size {parts}: each device takes equally many'
        )


def _check_thinning(thinning: int, samples: int) -> Iterator[Issue]:
    if samples % thinning:
        yield Issue("/num_samples", "not_divisible", f"must divide by thinning, which is {thinning}")


GRADIENT_FREE_OF_DISCRETE = ("MixedHMC", "DiscreteHMCGibbs", "HMCGibbs")
"""Kernels that move discrete sites too."""


def _check_program(program: Program, kernel: Named) -> Iterator[Issue]:
    """Sites that the kernel cannot move, and priors that leave a posterior without a finite mass."""
    if kernel["type"] not in GRADIENT_FREE_OF_DISCRETE:
        for name, pointer in discrete_sites(program.model):
            detail = f'"{name}" is discrete, and {kernel["type"]} moves real numbers only: sum it out, as MixtureSameFamily does'
            yield Issue(pointer, "discrete_latent", f"{detail}, or use a kernel such as DiscreteHMCGibbs")
    for name, pointer in program.unseen.items():
        detail = f'"{name}" has a flat prior and nothing else speaks of it, so the posterior has no finite mass: give it a prior'
        yield Issue(pointer, "improper_posterior", detail)


def _warn_of_program(program: Program) -> Iterator[Issue]:
    for name in program.unused:
        yield Issue(join("/model/data", name), "unused", f"no statement speaks of {quoted(name)}")


def _check_kernel(kernel: Named) -> Iterator[Issue]:
    if kernel["type"] == "HMC" and kernel["num_steps"] is None and kernel["trajectory_length"] is None:
        yield Issue("/kernel/trajectory_length", "requires", "HMC needs num_steps or trajectory_length: set one of them")


def _warn_of_kernel(kernel: Named) -> Iterator[Issue]:
    if kernel["type"] == "HMC" and kernel["adapt_step_size"] and None not in (kernel["num_steps"], kernel["trajectory_length"]):
        detail = "with both num_steps and trajectory_length the step size is fixed; set trajectory_length to null to adapt it"
        yield Issue("/kernel/num_steps", "step_size_fixed", detail)


def _warn_of_debug(debug: Debug, warmup: int, samples: int) -> Iterator[Issue]:
    yield from warn_of_debug(debug, warmup + samples)


def _warn_of_saves(checkpoint: Any, warmup: int, samples: int) -> Iterator[Issue]:
    if "every_draws" in checkpoint.model_fields_set and checkpoint.every_draws > warmup + samples:
        yield Issue("/checkpoint/every_draws", "never_reached", "is more than all draws, so the job is saved at its end alone")


CHECKS: tuple[Check, ...] = (
    Check(("data", "facts"), _check_kind_of_data),
    Check(("model",), check_own_posterior),
    Check(("model", "binding"), check_columns),
    Check(("num_chains", "placement"), _check_chains),
    Check(("thinning", "num_samples"), _check_thinning),
    Check(("kernel",), _check_kernel),
    Check(("program", "kernel"), _check_program),
)
WARNINGS: tuple[Check, ...] = (
    Check(("debug", "num_warmup", "num_samples"), _warn_of_debug),
    Check(("kernel",), _warn_of_kernel),
    Check(("program",), _warn_of_program),
    Check(("checkpoint", "num_warmup", "num_samples"), _warn_of_saves),
)
WHOLE_ORIGIN_CHECKS: tuple[Check, ...] = (
    Check(("model", "origin"), origin.check_same_model),
    Check(("num_chains", "num_warmup", "thinning", "origin"), origin.check_same_chains),
    Check(("kernel", "origin"), origin.check_same_kernel),
    Check(("num_warmup", "num_samples", "origin"), origin.check_draws_left),
)
