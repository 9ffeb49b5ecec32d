"""Programs of jobs against the reference posteriors of posteriordb, through the API.

`POSTERIORDB=/folder python -m benchmarks posteriors`. The folder has a file for each posterior, with names counting from 1:
`{"data": {…}, "reference": {"beta[1]": {"mean", "sd"}, …}, "reference_draws": 10000}`. A mean is held against the reference in
combined Monte Carlo standard errors, and so is a standard deviation.
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.table import show
from meshyard import Client
from meshyard.local import LocalStack

Statements = list[dict[str, Any]]
FLAT: dict[str, Any] = {"type": "ImproperUniform", "support": "real"}
POSITIVE: dict[str, Any] = {"type": "ImproperUniform", "support": "positive"}
HALF_CAUCHY: dict[str, Any] = {"type": "HalfCauchy", "scale": 2.5}


def normal(loc: Any, scale: Any) -> dict[str, Any]:
    """A normal distribution."""
    return {"type": "Normal", "loc": loc, "scale": scale}


PROGRAMS: dict[str, Statements] = {
    "eight_schools-eight_schools_noncentered": [
        {"sample": "mu", "distribution": normal(0, 5)},
        {"sample": "tau", "distribution": {"type": "HalfCauchy", "scale": 5}},
        {"sample": "theta_trans", "shape": ["J"], "distribution": normal(0, 1)},
        {"deterministic": "theta", "value": "mu + tau * theta_trans"},
        {"sample": "y", "distribution": normal("theta", "sigma"), "observed": "y"},
    ],
    "kidiq-kidscore_momiq": [
        {"sample": "beta", "shape": [2], "distribution": FLAT},
        {"sample": "sigma", "distribution": HALF_CAUCHY},
        {"sample": "kid_score", "distribution": normal("beta[0] + beta[1] * mom_iq", "sigma"), "observed": "kid_score"},
    ],
    "earnings-logearn_height": [
        {"sample": "beta", "shape": [2], "distribution": FLAT},
        {"sample": "sigma", "distribution": POSITIVE},
        {"sample": "log_earn", "distribution": normal("beta[0] + beta[1] * height", "sigma"), "observed": "log(earn)"},
    ],
    "nes1980-nes": [
        {"sample": "beta", "shape": [9], "distribution": FLAT},
        {"sample": "sigma", "distribution": POSITIVE},
        {"let": "age", "value": "[age_discrete == 2, age_discrete == 3, age_discrete == 4]"},
        {"let": "design", "value": "column_stack([ones(N), real_ideo, race_adj, age.T, educ1, gender, income])"},
        {"sample": "partyid7", "distribution": normal("design @ beta", "sigma"), "observed": "partyid7"},
    ],
    "arK-arK": [
        {"sample": "alpha", "distribution": normal(0, 10)},
        {"sample": "beta", "shape": ["K"], "distribution": normal(0, 10)},
        {"sample": "sigma", "distribution": HALF_CAUCHY},
        {"let": "lags", "value": "arange(K, T)[:, None] - 1 - arange(K)[None, :]"},
        {"sample": "y", "distribution": normal("alpha + y[lags] @ beta", "sigma"), "observed": "y[K:]"},
    ],
    "low_dim_gauss_mix-low_dim_gauss_mix": [
        {"sample": "mu", "shape": [2], "constraint": "ordered_vector", "distribution": normal(0, 2)},
        {"sample": "sigma", "shape": [2], "distribution": {"type": "HalfNormal", "scale": 2}},
        {"sample": "theta", "distribution": {"type": "Beta", "concentration1": 5, "concentration0": 5}},
        {
            "sample": "y",
            "distribution": {
                "type": "MixtureSameFamily",
                "mixing_distribution": {"type": "Categorical", "probs": ["theta", "1 - theta"]},
                "component_distribution": normal("mu", "sigma"),
            },
            "observed": "y",
        },
    ],
}
WARMUP, DRAWS, CHAINS = 1000, 2500, 4


def document(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """The job of a posterior."""
    text = json.dumps(PROGRAMS[name])
    return {
        "kind": "mcmc",
        "name": name,
        "model": {"type": "program", "body": PROGRAMS[name]},
        "data": {"inline": {key: value for key, value in data.items() if re.search(rf"\b{key}\b", text)}},
        "num_warmup": WARMUP,
        "num_samples": DRAWS,
        "num_chains": CHAINS,
        "precision": {"x64": True},
        "kernel": {"type": "NUTS", "target_accept_prob": 0.95},  # as the reference was drawn
        "checkpoint": {"every_draws": 1250},
    }


def compare(name: str, stored: dict[str, Any], client: Client) -> list[str]:
    """Sample one posterior. Returns: a row of the table."""
    result = client.jobs.result(client.jobs.wait(client.jobs.submit(document(name, stored["data"]))))
    count, worst_mean, worst_sd = stored["reference_draws"], 0.0, 0.0
    for counted, reference in stored["reference"].items():
        row = result.summary[re.sub(r"\[(\d+)\]", lambda found: f"[{int(found[1]) - 1}]", counted)]
        sd = reference["sd"]
        worst_mean = max(worst_mean, abs(row["mean"] - reference["mean"]) / math.hypot(row["mcse_mean"], sd / math.sqrt(count)))
        worst_sd = max(worst_sd, abs(row["sd"] - sd) / math.hypot(row["mcse_sd"], sd / math.sqrt(2 * count)))
    r_hat = max(row["r_hat"] for row in result.summary.values())
    divergences = result.diagnostics["divergences"]
    return [
        name.split("-")[1],
        str(len(stored["reference"])),
        f"{worst_mean:.2f}",
        f"{worst_sd:.2f}",
        f"{r_hat:.4f}",
        str(divergences),
    ]


def main() -> None:
    """Run all that the folder has."""
    folder = os.environ.get("POSTERIORDB")
    if folder is None:
        print("\nThe posteriors are left out: set POSTERIORDB to their folder.")
        return
    files = {path.stem: path for path in sorted(Path(folder).glob("*.json")) if path.stem in PROGRAMS}
    with tempfile.TemporaryDirectory() as name, LocalStack(Path(name)) as stack, Client(stack.server) as client:
        stack.start_worker()
        rows = [compare(stem, json.loads(path.read_text("utf-8")), client) for stem, path in files.items()]
    header = ["", "quantities", "means: at most … standard errors", "deviations: at most …", "largest R-hat", "divergences"]
    show(f"posteriordb, {CHAINS} chains of {DRAWS} draws", header, rows)


if __name__ == "__main__":
    main()
