"""Rows that no model should learn from, found before the first step and told as a person would count them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jobs.errors import UserFault
from jobs.spec.catalog import load

ARGS = "/data/args"


def check_rows(columns: Mapping[str, np.ndarray], spec: Mapping[str, Any], pointer: str = ARGS) -> None:
    """Look through the bound columns of a training job.

    Args:
        columns: (rows, …) by argument.
        spec: the resolved spec.
        pointer: where the job names this data.

    Raises:
        UserFault: `dataset_invalid`, with the argument, the row (from 1) and what to do.
    """
    for name, column in columns.items():
        where = f"{pointer}/{name}" if pointer == ARGS else pointer
        bad = (
            np.flatnonzero(~np.isfinite(column).reshape(len(column), -1).all(axis=1))
            if column.dtype.kind == "f"
            else np.zeros(0, np.int64)
        )
        if len(bad):
            held = column[bad[0]].ravel()
            value = held[~np.isfinite(held)][0]
            detail = f"{_named(spec, name)} holds {value} in row {bad[0] + 1}: drop the row, or fill it in ({len(bad)} such rows)"
            raise UserFault("dataset_invalid", detail, where)
    if "y" in columns and load().entry("losses", spec["loss"]["type"]).get("targets", {}).get("kind") == "integer":
        _check_labels(columns["y"], spec, f"{pointer}/y" if pointer == ARGS else pointer)


def _check_labels(labels: np.ndarray, spec: Mapping[str, Any], where: str) -> None:
    classes = spec["model"].get("out_features")
    if classes is None or labels.dtype.kind == "f" or not labels.size:
        return
    bad = np.flatnonzero(
        (labels.reshape(len(labels), -1) < 0).any(axis=1) | (labels.reshape(len(labels), -1) >= classes).any(axis=1)
    )
    if len(bad):
        name = _named(spec, "y")
        detail = (
            f"{name} holds label {labels[bad[0]]} in row {bad[0] + 1}, and the model has {classes} outputs: labels go from 0 to"
        )
        raise UserFault("dataset_invalid", f"{detail} {classes - 1}; mend the row, or set out_features", where)


def _named(spec: Mapping[str, Any], argument: str) -> str:
    """The column, or the columns, of an argument, for a message."""
    bound = (spec["data"]["args"] or {}).get(argument, argument)
    return f"column {bound!r}" if isinstance(bound, str) else f"one of the columns {', '.join(map(repr, bound))}"
