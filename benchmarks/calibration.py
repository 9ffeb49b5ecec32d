"""Simulation-based calibration: are posteriors as wide as they should be? `python -m benchmarks calibration`.

Parameters are drawn from the prior and data from the model, many times; the posterior of each data set is sampled, and the rank of
the true value among its draws must be uniform. The data sets of a model are independent, so they are sampled side by side as one
program with an axis for them: one posterior, whose parts know nothing of one another. `MESHYARD_SBC` sets how many (100).

Source: Talts, Betancourt, Simpson, Vehtari and Gelman (2018), arXiv:1804.06788.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.table import show
from jobs.programs.outputs import Outputs
from jobs.programs.registry import build_program
from jobs.spec.job import read_spec

SETS = int(os.environ.get("MESHYARD_SBC", "100"))
RANKED, BINS = 99, 10
CHAINS, DRAWS = 2, 500
Body = list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """A model: true parameters and data of every set, and the same as a program. `sets` is the first axis of both."""

    name: str
    truth: dict[str, np.ndarray]
    data: dict[str, Any]
    body: Body


def normal(draw: np.random.Generator) -> Case:
    """Ten observations with unknown mean and deviation."""
    mu, sigma = draw.normal(size=SETS), np.abs(draw.normal(size=SETS))
    y = mu[:, None] + sigma[:, None] * draw.normal(size=(SETS, 10))
    body: Body = [
        {"sample": "mu", "distribution": {"type": "Normal", "loc": 0, "scale": 1}, "shape": [SETS]},
        {"sample": "sigma", "distribution": {"type": "HalfNormal", "scale": 1}, "shape": [SETS]},
        {"sample": "y", "distribution": {"type": "Normal", "loc": "mu[:, None]", "scale": "sigma[:, None]"}, "observed": "y"},
    ]
    return Case("normal, mean and deviation unknown", {"mu": mu, "sigma": sigma}, {"y": y.tolist()}, body)


def hierarchy(draw: np.random.Generator) -> Case:
    """Five groups with a common mean, non-centred, one observation each."""
    mu, tau = draw.normal(size=SETS), np.abs(draw.normal(size=SETS))
    theta = mu[:, None] + tau[:, None] * draw.normal(size=(SETS, 5))
    y = theta + draw.normal(size=(SETS, 5))
    body: Body = [
        {"sample": "mu", "distribution": {"type": "Normal", "loc": 0, "scale": 1}, "shape": [SETS]},
        {"sample": "tau", "distribution": {"type": "HalfNormal", "scale": 1}, "shape": [SETS]},
        {"sample": "_z", "distribution": {"type": "Normal", "loc": 0, "scale": 1}, "shape": [SETS, 5]},
        {"deterministic": "theta", "value": "mu[:, None] + tau[:, None] * _z"},
        {"sample": "y", "distribution": {"type": "Normal", "loc": "theta", "scale": 1}, "observed": "y"},
    ]
    return Case("hierarchy, non-centred", {"mu": mu, "tau": tau, "theta": theta[:, 0]}, {"y": y.tolist()}, body)


def logistic(draw: np.random.Generator) -> Case:
    """Twenty trials with one covariate."""
    alpha, beta = draw.normal(size=SETS), draw.normal(size=SETS)
    x = draw.normal(size=(SETS, 20))
    y = draw.random((SETS, 20)) < 1 / (1 + np.exp(-alpha[:, None] - beta[:, None] * x))
    body: Body = [
        {"sample": "alpha", "distribution": {"type": "Normal", "loc": 0, "scale": 1}, "shape": [SETS]},
        {"sample": "beta", "distribution": {"type": "Normal", "loc": 0, "scale": 1}, "shape": [SETS]},
        {"sample": "y", "distribution": {"type": "Bernoulli", "logits": "alpha[:, None] + beta[:, None] * x"}, "observed": "y"},
    ]
    return Case("logistic regression", {"alpha": alpha, "beta": beta}, {"x": x.tolist(), "y": y.astype(int).tolist()}, body)


def draws_of(case: Case, folder: Path) -> dict[str, np.ndarray]:
    """All draws of a case, (chains, draws, sets, …) by site."""
    document = {
        "kind": "mcmc",
        "model": {"type": "program", "body": case.body},
        "data": {"inline": case.data},
        "num_warmup": 300,
        "num_samples": DRAWS,
        "num_chains": CHAINS,
        "checkpoint": {"every_draws": 500},
    }
    spec = read_spec(document, lambda _: None, lambda *_: None).resolved
    program, outputs = build_program(spec, spec["mesh"]["axes"], None, None), Outputs(folder)
    state = program.init()
    program.compile(state)
    while state.step < program.total:
        state, block = program.advance(state)
        if block.draws is not None:
            outputs.keep_draws(block.step, block.draws)
    return outputs.draws()


def ranks(truth: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """How many of `RANKED` draws, far apart, lie below the truth of each set."""
    flat = drawn.reshape(-1, *drawn.shape[2:])
    far = flat[np.linspace(0, len(flat) - 1, RANKED).astype(int)]
    return (far < truth).sum(axis=0)


def main() -> None:
    """Sample the three models; print the test of uniform ranks and the histogram of each parameter."""
    rows: list[list[str]] = []
    for make in (normal, hierarchy, logistic):
        case = make(np.random.default_rng(20261123))
        with tempfile.TemporaryDirectory() as folder:
            drawn = draws_of(case, Path(folder))
        for name, truth in case.truth.items():
            own = drawn[name][..., 0] if drawn[name].ndim == 4 else drawn[name]
            counts = np.histogram(ranks(truth, own), bins=BINS, range=(-0.5, RANKED + 0.5))[0]
            square, p = stats.chisquare(counts)
            rows.append([case.name, name, f"{square:.1f}", f"{p:.2f}", " ".join(map(str, counts))])
    title = f"Ranks of {SETS} true values among {RANKED} draws; chi-square of {BINS} bins ({BINS - 1} degrees of freedom)"
    show(title, ["model", "parameter", "chi-square", "p", "counts"], rows)


if __name__ == "__main__":
    main()
