"""Programs that are right, for tests of the job language to make wrong."""

from __future__ import annotations

from typing import Any

from jobs.errors import Issue
from tests.jobs.spec.documents import faults, read

NORMAL: dict[str, Any] = {"type": "Normal", "loc": 0, "scale": 1}
FLAT: dict[str, Any] = {"type": "ImproperUniform", "support": "real"}
DATA: dict[str, Any] = {"x": {"shape": ["N", "K"]}, "y": {"shape": ["N"]}, "g": {"type": "int", "shape": ["N"]}}
NUMBERS: dict[str, Any] = {"x": [[1, 2], [2, 1], [3, 5]], "y": [1.5, 2.5, 2.9], "g": [0, 1, 2]}


def regression() -> list[dict[str, Any]]:
    return [
        {"sample": "alpha", "distribution": NORMAL},
        {"sample": "beta", "shape": ["K"], "distribution": NORMAL},
        {"sample": "sigma", "distribution": {"type": "HalfNormal", "scale": 1}},
        {"let": "mu", "value": "alpha + x @ beta"},
        {"sample": "y", "distribution": {"type": "Normal", "loc": "mu", "scale": "sigma"}, "observed": "y"},
    ]


def job(body: Any, data: Any = None, numbers: Any = None, **changes: Any) -> dict[str, Any]:
    """A job that samples a program."""
    model = {"type": "program", "data": data, "body": body}
    return {"kind": "mcmc", "model": model, "data": {"inline": NUMBERS if numbers is None else numbers}, **changes}


def issues(*body: Any, data: Any = DATA, numbers: Any = None, **changes: Any) -> list[Issue]:
    """What is wrong with a program of these statements behind those of a regression."""
    return faults(job([*regression(), *body], data, numbers, **changes))


def resolved(body: Any, data: Any = None, numbers: Any = None, **changes: Any) -> dict[str, Any]:
    """The resolved spec of a program."""
    return read(job(body, data, numbers, **changes)).resolved
