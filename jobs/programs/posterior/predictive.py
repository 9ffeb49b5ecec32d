"""Groups that need the model: prior and posterior predictive draws, and the log likelihood of every observation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jobs.programs.posterior.blocks import HIDDEN, Blocks, Form
from jobs.programs.posterior.netcdf import NetCdf
from jobs.programs.posterior.replay import LIKELIHOOD_STREAM, PREDICTIVE_STREAM, PRIOR_STREAM, Batches, Replay

OF_DRAWS = {"posterior_predictive": PREDICTIVE_STREAM, "log_likelihood": LIKELIHOOD_STREAM}


def write_predictive(file: NetCdf, blocks: Blocks, replay: Replay, wanted: Mapping[str, Any], seed: int) -> None:
    """Add the groups that are wanted.

    Args:
        file: open for writing.
        blocks: the draws.
        replay: the model over the data that it was sampled with.
        wanted: the section `outputs` of the spec.
        seed: of all random numbers.
    """
    latent = {name: jax.ShapeDtypeStruct(form.shape, form.dtype) for name, form in blocks.forms.items() if name in replay.latent}
    tells = {"posterior_predictive": replay.predict, "log_likelihood": replay.log_likelihood}
    for name, stream in OF_DRAWS.items():
        if wanted[name]:
            _write_of_draws(file, name, blocks, Batches(tells[name], stream, seed, latent), tuple(latent))
    if wanted["prior_predictive"]:
        _write_prior(file, replay, wanted["prior_predictive"], Batches(replay.from_prior, PRIOR_STREAM, seed, {}))


def bytes_of(replay: Replay, wanted: Mapping[str, Any], transitions: int) -> int:
    """What those groups take on disk. `transitions`: draws of all chains."""
    one = sum(int(np.prod(form.shape, dtype=np.int64)) * np.dtype(form.dtype).itemsize for form in replay.observed.values())
    kept = sum(transitions * one for name in OF_DRAWS if wanted[name])
    if wanted["prior_predictive"]:
        prior = jax.eval_shape(replay.from_prior, jax.random.key(0), {}).values()
        kept += wanted["prior_predictive"] * sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in prior)
    return kept * (2 if wanted["zarr"] else 1)


def _write_of_draws(file: NetCdf, name: str, blocks: Blocks, batches: Batches, latent: tuple[str, ...]) -> None:
    group = file.group(name, {"chain": blocks.chains, "draw": blocks.draws})
    for site, form in sorted(batches.forms.items()):
        group.add(site, _form(form))
    for start, count, block in blocks:
        for at, arrays in batches.run(blocks.chains, start, count, {site: block[site] for site in latent}):
            for site, array in arrays.items():
                group.put(site, array, at)


def _write_prior(file: NetCdf, replay: Replay, draws: int, batches: Batches) -> None:
    leading = {"chain": 1, "draw": draws}
    groups = {True: file.group("prior_predictive", leading), False: file.group("prior", leading)}
    shown = {site: form for site, form in sorted(batches.forms.items()) if not site.startswith(HIDDEN)}
    for site, form in shown.items():
        groups[site in replay.observed].add(site, _form(form))
    for at, arrays in batches.run(1, 0, draws, {}):
        for site in shown:
            groups[site in replay.observed].put(site, arrays[site], at)


def _form(form: jax.ShapeDtypeStruct) -> Form:
    return Form(tuple(form.shape), np.dtype(form.dtype))
