"""The jobs that these tests run."""

from __future__ import annotations

from typing import Any

from tests import specs

LONG = {"steps": 400, "eval_every": 100, "checkpoint": {"every_steps": 50, "keep_latest": 100}}

ALONE = {"resources": {"labels": {"alone": "yes"}}}
"""What keeps a job for the worker that a test starts itself."""


def on_text(document: dict[str, Any], dataset: str) -> dict[str, Any]:
    """The document over an uploaded text."""
    return document | {"data": document["data"] | {"dataset": dataset}}


def long_training(dataset: str, **changes: Any) -> dict[str, Any]:
    """A transformer on four by two."""
    return on_text(specs.on_mesh(specs.transformer(**LONG | changes), "fsdp_tp", data=4, model=2), dataset)


def long_sampling(**changes: Any) -> dict[str, Any]:
    """Eight schools, a chain on each of four devices."""
    kept = {"every_draws": 100, "keep_latest": 100}
    return specs.on_mesh(specs.schools(**{"num_warmup": 300, "num_samples": 600, "checkpoint": kept} | changes), chains=4)
