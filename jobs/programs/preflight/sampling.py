"""What shapes alone tell of a sampling job: its sites, and what their draws will take."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jobs.preflight import Sampling, Site
from jobs.programs.mcmc import McmcProgram

COPIES = 3
"""What putting the posterior together needs beside the draws: all of them in float64, and two copies sorted for the diagnostics."""


def sampling(program: McmcProgram, host_bytes: int) -> Sampling:
    """The sites of a sampler and the bytes of their draws."""
    sites, statistics = program.drawn()
    draws = program.spec["num_samples"] // program.spec["thinning"]
    chains = program.chains
    told = [
        Site(name=name, shape=list(leaf.shape[1:]), dtype=str(leaf.dtype), draws_bytes=_bytes(leaf, draws))
        for name, leaf in sorted(sites.items())
    ]
    kept = sum(site.draws_bytes for site in told) + sum(_bytes(leaf, draws) for leaf in statistics.values())
    doubled = sum(math.prod(leaf.shape) * draws * 8 for leaf in sites.values())
    block = [*sites.values(), *statistics.values()]
    return Sampling(
        sites=told,
        chains=chains,
        draws=draws,
        draws_bytes=kept,
        block_bytes=sum(_bytes(leaf, program.block) for leaf in block),
        host_bytes=host_bytes,
        fits=kept + COPIES * doubled <= host_bytes,
    )


def _bytes(leaf: Any, draws: int) -> int:
    """Of all chains: a leaf's first dimension is theirs."""
    return math.prod(leaf.shape) * draws * np.dtype(leaf.dtype).itemsize
