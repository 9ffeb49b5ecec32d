"""Do regressions written as formulas come to the published posteriors? Three of posteriordb, in Monte Carlo standard errors.

`POSTERIORDB=/path/to/folder python -m benchmarks regressions`. The folder holds one JSON file for each posterior with `data` and
`reference` (mean and sd of each parameter, of 10 000 draws). Priors are those of the posteriors: flat but for kidiq's sigma.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.table import show
from meshyard import Client
from meshyard.local import LocalStack

FLAT = {"Intercept": "flat", "coefficients": "flat", "sigma": "flat"}
REGRESSIONS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "earnings-logearn_height": ("log(earn) ~ height", FLAT, ["Intercept", "height", "sigma"]),
    "kidiq-kidscore_momiq": (
        "kid_score ~ mom_iq",
        FLAT | {"sigma": {"type": "HalfCauchy", "scale": 2.5}},
        ["Intercept", "mom_iq", "sigma"],
    ),
    "nes1980-nes": (
        "partyid7 ~ real_ideo + race_adj + C(age_discrete) + educ1 + gender + income",
        FLAT,
        [
            "Intercept",
            "real_ideo",
            "race_adj",
            *(f"C(age_discrete)[T.{k}]" for k in (2, 3, 4)),
            "educ1",
            "gender",
            "income",
            "sigma",
        ],
    ),
}
"""By posterior: the formula, the priors, and what the reference's parameters are called here, in its order."""


def document(posterior: dict[str, Any], formula: str, priors: dict[str, Any]) -> dict[str, Any]:
    """The job that samples a posterior."""
    rows = posterior["data"]["N"]
    columns = {name: values for name, values in posterior["data"].items() if isinstance(values, list) and len(values) == rows}
    return {
        "kind": "mcmc",
        "model": {"type": "glm", "formula": formula, "priors": priors},
        "data": {"inline": columns},
        "num_warmup": 1000,
        "num_samples": 2500,
        "num_chains": 4,
        "mesh": {"axes": {"chains": 1}},
        "checkpoint": {"every_draws": 500},
    }


def sample(client: Client, folder: Path) -> None:
    """Every parameter's mean and sd beside the reference's."""
    rows: list[list[str]] = []
    for name, (formula, priors, names) in REGRESSIONS.items():
        posterior = json.loads((folder / f"{name}.json").read_text())
        job = client.jobs.wait(client.jobs.submit(document(posterior, formula, priors)))
        result = client.jobs.result(job)
        away = _distances(result.summary, posterior, names)
        r_hat = max(result.summary[parameter]["r_hat"] for parameter in names)
        divergences = (result.diagnostics or {})["divergences"]
        worst_mean, worst_sd = max(mean for mean, _ in away), max(sd for _, sd in away)
        rows.append(
            [name, f"`{formula}`", str(len(names)), f"{worst_mean:.2f}", f"{worst_sd:.2f}", f"{r_hat:.4f}", str(divergences)]
        )
    header = ["posterior", "formula", "parameters", "worst mean", "worst sd", "largest R-hat", "divergences"]
    show("Regressions, 4 x 2 500 draws, in combined Monte Carlo standard errors", header, rows)


def _distances(summary: dict[str, dict[str, Any]], posterior: dict[str, Any], names: list[str]) -> list[tuple[float, float]]:
    draws = int(posterior["reference_draws"])
    found: list[tuple[float, float]] = []
    for name, reference in zip(names, posterior["reference"].values(), strict=True):
        row, mean, sd = summary[name], reference["mean"], reference["sd"]
        of_mean = abs(row["mean"] - mean) / math.hypot(row["mcse_mean"], sd / math.sqrt(draws))
        of_sd = abs(row["sd"] - sd) / math.hypot(row["mcse_sd"], sd / math.sqrt(2 * draws))
        found.append((of_mean, of_sd))
    return found


def main() -> None:
    """Run the three jobs."""
    folder = os.environ.get("POSTERIORDB")
    if folder is None:
        print("\nThe regressions are left out: set POSTERIORDB to a folder with their data and references.")
        return
    with tempfile.TemporaryDirectory() as name, LocalStack(Path(name)) as stack, Client(stack.server) as client:
        stack.start_worker(cpu_devices=1)
        sample(client, Path(folder))


if __name__ == "__main__":
    main()
