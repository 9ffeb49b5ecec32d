"""The rules between the parts of a sampling job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jobs.errors import Issue
from jobs.spec import origin
from jobs.spec.catalog import named
from jobs.spec.classics import check_columns
from jobs.spec.data import Data
from jobs.spec.dataset import DatasetFacts
from jobs.spec.draft import Check
from jobs.spec.imports import check_own_posterior
from jobs.spec.mesh import Placement
from jobs.spec.numerics import Debug, warn_of_debug
from jobs.spec.origin import InitFrom
from jobs.spec.pointers import join, quoted
from jobs.spec.program.document import Program, discrete_sites
from jobs.spec.stop import McmcStop

Named = Mapping[str, Any]
ENSEMBLES = ("AIES", "ESS")
"""Kernels whose chains look at one another."""
FEW_WALKERS = 10
FROM_ORIGIN = "init_from"
"""An inverse mass matrix that is taken from the guide to start from."""


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


MOVES_DISCRETE = ("MixedHMC", "DiscreteHMCGibbs", "DiscreteGibbs")
"""Kernels that move discrete sites too."""


def check_program(program: Program, kernel: Named) -> Iterator[Issue]:
    """Sites that the kernel cannot move, and priors that leave a posterior without a finite mass."""
    if kernel["type"] not in MOVES_DISCRETE:
        for name, pointer in discrete_sites(program.model):
            detail = f'"{name}" is discrete, and {kernel["type"]} moves real numbers only: sum it out, as MixtureSameFamily does'
            yield Issue(pointer, "discrete_latent", f"{detail}, or use a kernel such as DiscreteHMCGibbs")
    for name, pointer in program.unseen.items():
        detail = f'"{name}" has a flat prior and no observation depends on it, so the posterior has no finite mass: give it a prior'
        yield Issue(pointer, "improper_posterior", detail)


def _warn_of_program(program: Program) -> Iterator[Issue]:
    for name in program.unused:
        yield Issue(join("/model/data", name), "unused", f"no statement speaks of {quoted(name)}")


def _check_kernel(kernel: Named) -> Iterator[Issue]:
    for _, inner, pointer in named("kernels", dict(kernel), "/kernel"):
        if inner["type"] == "HMC" and inner["num_steps"] is None and inner["trajectory_length"] is None:
            yield Issue(f"{pointer}/trajectory_length", "requires", "HMC needs num_steps or trajectory_length: set one of them")
    if kernel["type"] == "MixedHMC" and kernel["inner_kernel"]["type"] != "HMC":
        yield Issue("/kernel/inner_kernel/type", "conflict", 'MixedHMC cuts a trajectory of fixed length into parts: use "HMC"')
    elif kernel["type"] == "MixedHMC" and kernel["inner_kernel"]["trajectory_length"] is None:
        detail = "MixedHMC cuts a trajectory of fixed length into parts: set it"
        yield Issue("/kernel/inner_kernel/trajectory_length", "requires", detail)


def _check_ensemble(kernel: Named, chains: int, method: str, placement: Placement) -> Iterator[Issue]:
    if kernel["type"] not in ENSEMBLES:
        return
    if chains % 2:
        yield Issue("/num_chains", "not_divisible", f"{kernel['type']} moves one half of its chains by the other: make it even")
    if placement.axes.get("chains", 1) != 1:
        detail = f"the chains of {kernel['type']} look at one another at every step: leave them on one device"
        yield Issue("/mesh/axes", "conflict", detail)
    if method == "sequential":
        yield Issue("/chain_method", "conflict", f'the chains of {kernel["type"]} move together: use "auto" or "vectorized"')


def _check_start(kernel: Named, origin: InitFrom | None) -> Iterator[Issue]:
    for _, inner, pointer in named("kernels", dict(kernel), "/kernel"):
        if inner.get("inverse_mass_matrix") == FROM_ORIGIN and origin is None:
            detail = "takes the spread of a guide that init_from names: name an svi job there, or give numbers"
            yield Issue(f"{pointer}/inverse_mass_matrix", "requires", detail)


def _warn_of_ensemble(kernel: Named, chains: int) -> Iterator[Issue]:
    if kernel["type"] in ENSEMBLES and chains < FEW_WALKERS:
        detail = f"{kernel['type']} wants at least twice as many chains as the model has numbers, and {chains} are few: use more"
        yield Issue("/num_chains", "few_chains", detail)


def _warn_of_method(method: str, chains: int, placement: Placement) -> Iterator[Issue]:
    if method == "parallel" and chains > 1 and placement.axes.get("chains", 1) == 1:
        detail = 'all chains share one device, where they run together; set mesh.axes to {"chains": n} to spread them over devices'
        yield Issue("/chain_method", "one_device", detail)


def _warn_of_min_draws(stop: McmcStop, samples: int, thinning: int) -> Iterator[Issue]:
    rules = (stop.min_ess_bulk, stop.min_ess_tail, stop.max_r_hat, stop.max_mcse, stop.max_seconds)
    if stop.min_draws > samples // thinning and any(rule is not None for rule in rules):
        detail = (
            f"is more than the {samples // thinning} draws of each chain that there will be: no rule ends the job; make it less"
        )
        yield Issue("/stop/min_draws", "out_of_range", detail)


def _warn_of_kernel(kernel: Named) -> Iterator[Issue]:
    for _, inner, pointer in named("kernels", dict(kernel), "/kernel"):
        if inner["type"] == "HMC" and inner["adapt_step_size"] and None not in (inner["num_steps"], inner["trajectory_length"]):
            detail = "with both num_steps and trajectory_length the step size is fixed; set trajectory_length to null to adapt it"
            yield Issue(f"{pointer}/num_steps", "step_size_fixed", detail)


def _warn_of_debug(debug: Debug, warmup: int, samples: int) -> Iterator[Issue]:
    yield from warn_of_debug(debug, warmup + samples)


def _warn_of_saves(checkpoint: Any, warmup: int, samples: int) -> Iterator[Issue]:
    if "every_draws" in checkpoint.model_fields_set and checkpoint.every_draws > warmup + samples:
        yield Issue("/checkpoint/every_draws", "never_reached", "is more than all draws, so the job is saved at its end alone")


DATA_CHECKS: tuple[Check, ...] = (
    Check(("data", "facts"), _check_kind_of_data),
    Check(("model",), check_own_posterior),
    Check(("model", "binding"), check_columns),
)
CHECKS: tuple[Check, ...] = (
    *DATA_CHECKS,
    Check(("num_chains", "placement"), _check_chains),
    Check(("thinning", "num_samples"), _check_thinning),
    Check(("kernel",), _check_kernel),
    Check(("program", "kernel"), check_program),
    Check(("kernel", "num_chains", "chain_method", "placement"), _check_ensemble),
    Check(("kernel", "init_from"), _check_start),
)
WARNINGS: tuple[Check, ...] = (
    Check(("debug", "num_warmup", "num_samples"), _warn_of_debug),
    Check(("kernel",), _warn_of_kernel),
    Check(("program",), _warn_of_program),
    Check(("kernel", "num_chains"), _warn_of_ensemble),
    Check(("chain_method", "num_chains", "placement"), _warn_of_method),
    Check(("stop", "num_samples", "thinning"), _warn_of_min_draws),
    Check(("checkpoint", "num_warmup", "num_samples"), _warn_of_saves),
)
WARM_ORIGIN_CHECKS: tuple[Check, ...] = (Check(("model", "origin"), origin.check_same_model),)
WHOLE_ORIGIN_CHECKS: tuple[Check, ...] = (
    Check(("model", "origin"), origin.check_same_model),
    Check(("num_chains", "num_warmup", "thinning", "origin"), origin.check_same_chains),
    Check(("kernel", "origin"), origin.check_same_kernel),
    Check(("num_warmup", "num_samples", "origin"), origin.check_draws_left),
)
