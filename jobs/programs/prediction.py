"""Predictions of a trained model for rows of a file, in batches of one size, so that it is compiled once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jobs.programs import data as datasets
from jobs.programs.trained import CannotLoad, Trained
from jobs.spec.catalog import load as load_catalog

FORM_OF = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".npz": "npz"}


def predict_file(trained: Trained, path: Path) -> dict[str, np.ndarray]:
    """Predictions for every row of a file.

    Args:
        trained: a model of rows.
        path: CSV, Parquet, JSON Lines or npz with the columns of the job's `x`; others are left alone.

    Returns: `output` of (rows, …); of a classifier also `probability` of (rows, classes) and `prediction` of (rows,) integers.

    Raises:
        CannotLoad: the model speaks text, or the file does not hold what it needs.
    """
    if trained.spec["data"].get("tokenizer") is not None:
        raise CannotLoad(f"{trained.card['job']} is a language model: use `meshyard generate` with a prompt")
    form = FORM_OF.get(path.suffix.lower())
    if form is None:
        raise CannotLoad(f"{path.name}: what it is cannot be told; name it {', '.join(sorted(FORM_OF))}")
    return predict(trained, _inputs(trained, datasets.read_columns(path, form)))


def predict(trained: Trained, x: np.ndarray) -> dict[str, np.ndarray]:
    """Predictions for rows of `x`; what comes back is as in `predict_file`."""
    size = min(trained.spec["data"]["batch_size"], max(1, len(x)))
    call = jax.jit(trained.module)  # pyright: ignore[reportArgumentType]
    batches = math.ceil(len(x) / size)
    outputs: list[np.ndarray] = []
    for i in range(batches):
        rows = x[i * size : (i + 1) * size]
        filled = np.concatenate([rows, np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)])
        outputs.append(np.asarray(call(jnp.asarray(filled)), np.float32)[: len(rows)])
    if not outputs:
        raise CannotLoad("the file holds no rows")
    output = np.concatenate(outputs)
    return {"output": output, **(_classes(output) if _classifies(trained.spec) else {})}


def _classes(output: np.ndarray) -> dict[str, np.ndarray]:
    shifted = np.exp(output - output.max(axis=-1, keepdims=True))
    return {"probability": shifted / shifted.sum(axis=-1, keepdims=True), "prediction": output.argmax(axis=-1).astype(np.int32)}


def _classifies(spec: Mapping[str, Any]) -> bool:
    entry = load_catalog().entry("losses", spec["loss"]["type"])
    return (entry.get("targets") or {}).get("kind") == "integer"


def _inputs(trained: Trained, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    names = (trained.spec["data"]["args"] or {"x": "x"})["x"]
    missing = [name for name in ([names] if isinstance(names, str) else names) if name not in columns]
    if missing:
        raise CannotLoad(
            f"the file has no numeric column {missing[0]!r}, which the model learned from; it has {', '.join(columns)}"
        )
    x = datasets.bind(columns, {"x": names})["x"]
    return x.astype(np.float32 if np.issubdtype(x.dtype, np.floating) else np.int32)
