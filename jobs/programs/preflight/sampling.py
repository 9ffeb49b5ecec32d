"""What shapes alone tell of a sampling job: its sites, and what their draws will take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jobs.errors import UserFault
from jobs.preflight import Sampling, Site
from jobs.programs.mcmc import McmcProgram
from jobs.programs.posterior.blocks import is_reported
from jobs.programs.posterior.predictive import bytes_of
from jobs.programs.posterior.replay import require_prior
from jobs.programs.predict import PredictProgram
from jobs.programs.program import Program

BLOCKS_HELD = 3
"""Blocks that lie in memory at once: the device's buffer, its copy on the host, and what is read back."""

WORKING_BYTES = 2**28
"""What diagnostics and files take while they are made, whatever the posterior: a piece of it is in memory at a time."""


def sampling(program: McmcProgram, host_bytes: int, disk_free_bytes: int | None = None) -> Sampling:
    """The sites of a sampler, and the bytes that their draws take."""
    sites, statistics = program.drawn()
    draws = program.spec["num_samples"] // program.spec["thinning"]
    told = [
        Site(name=name, shape=list(leaf.shape[1:]), dtype=str(leaf.dtype), draws_bytes=_bytes(leaf, draws))
        for name, leaf in sorted(sites.items())
        if is_reported(name)
    ]
    leaves = [*sites.values(), *statistics.values()]
    kept, block = (sum(_bytes(leaf, count) for leaf in leaves) for count in (draws, program.block))
    # The files of blocks stay: predictions are made of them. posterior.nc holds the same numbers again, and so may a Zarr store.
    wanted = program.spec["outputs"]
    disk = kept * (3 if wanted["zarr"] else 2) + _of_model(program, wanted, program.chains * draws)
    memory = BLOCKS_HELD * block + WORKING_BYTES
    return Sampling(
        sites=told,
        chains=program.chains,
        draws=draws,
        draws_bytes=kept,
        block_bytes=block,
        disk_bytes=disk,
        disk_free_bytes=disk_free_bytes,
        memory_bytes=memory,
        host_bytes=host_bytes,
        fits=memory <= host_bytes and (disk_free_bytes is None or disk <= disk_free_bytes),
    )


def _of_model(program: McmcProgram, wanted: Mapping[str, Any], transitions: int) -> int:
    """Bytes of what the model is to predict. Raises UserFault where nothing can be drawn from its prior."""
    if not (wanted["prior_predictive"] or wanted["posterior_predictive"] or wanted["log_likelihood"]):
        return 0
    replay = program.replay()
    if wanted["prior_predictive"]:
        require_prior(replay)
    return bytes_of(replay, wanted, transitions)


def too_large(told: Sampling) -> tuple[str, str] | None:
    """Why the draws do not fit: a pointer to what to change, and a sentence with numbers. None if they do."""
    if told.memory_bytes > told.host_bytes:
        held = f"A block of draws is {_gib(told.block_bytes)}, and with what is made of it {_gib(told.memory_bytes)}"
        return "/checkpoint/every_draws", f"{held}: this host has {_gib(told.host_bytes)} for it. Make blocks shorter."
    if told.disk_free_bytes is not None and told.disk_bytes > told.disk_free_bytes:
        held = f"{told.draws} draws of {told.chains} chains are {_gib(told.draws_bytes)}, and with the files made of them"
        free = f"{_gib(told.disk_bytes)}: {_gib(told.disk_free_bytes)} are free where the worker writes"
        return "/num_samples", f"{held} {free}. Raise thinning, draw less, or make room."
    return None


def require_draws_fit(program: Program, host_bytes: int, disk_free_bytes: int | None) -> None:
    """Weigh the draws of a sampler before the first one.

    Raises:
        UserFault: `draws_too_large`.
    """
    if isinstance(program, McmcProgram):
        told = too_large(sampling(program, host_bytes, disk_free_bytes))
        if told is not None:
            raise UserFault("draws_too_large", told[1], told[0])
    if isinstance(program, PredictProgram) and disk_free_bytes is not None and program.disk_bytes() > disk_free_bytes:
        held = f"predictions with {program.total} draws of {program.chains} chains are {_gib(program.disk_bytes())}"
        message = f"{held}: {_gib(disk_free_bytes)} are free where the worker writes. Raise posterior.thinning, or make room."
        raise UserFault("draws_too_large", message, "/posterior/thinning")


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"


def _bytes(leaf: Any, draws: int) -> int:
    """Of all chains: a leaf's first dimension is theirs."""
    return math.prod(leaf.shape) * draws * np.dtype(leaf.dtype).itemsize
