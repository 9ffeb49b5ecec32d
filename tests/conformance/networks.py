"""One small job for every model that trains, each on data of one batch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from jobs.programs.program import Program
from jobs.programs.registry import build_program
from jobs.spec.catalog import load
from tests import specs

BATCH = 8
STEPS = 40
TEXT: dict[str, Any] = {"vocab_size": 128, "context": 16}
PICTURE: dict[str, Any] = {"in_shape": [8, 8, 1], "out_features": 4}
LAYERS = [
    {"type": "Conv", "in_features": 1, "out_features": 8, "kernel_size": [3, 3], "strides": 2},
    {"type": "BatchNorm", "num_features": 8},
    {"type": "relu"},
    {"type": "flatten"},
    {"type": "Linear", "in_features": 128, "out_features": 16},
    {"type": "tanh"},
    {"type": "Linear", "in_features": 16, "out_features": 4},
]
MODELS: dict[str, dict[str, Any]] = {
    "transformer": TEXT | {"dim": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "activation": "swiglu", "scan_layers": True},
    "lstm_lm": TEXT | {"dim": 16, "hidden": 32},
    "mlp": {"in_features": 64, "hidden": [16, 16], "out_features": 4},
    "cnn": PICTURE | {"channels": [8], "hidden": 16},
    "resnet": PICTURE | {"stages": [1, 1], "widths": [8, 16]},
    "vit": PICTURE | {"dim": 16, "n_layers": 1, "n_heads": 2},
    "lstm": {"in_shape": [8, 8], "hidden": 16, "out_features": 4},
    "sequential": {"in_shape": [8, 8, 1], "layers": LAYERS},
}
MESHES: dict[str, tuple[dict[str, int], str]] = {
    "1": ({"data": 1}, "dp"),
    "8": ({"data": 8}, "dp"),
    "4x2": ({"data": 4, "model": 2}, "fsdp_tp"),
}
WHOLE = os.environ.get("MESHYARD_CONFORMANCE") == "full"
"""Every mesh in both formats; otherwise one device and (4, 2) in float32."""

CASES = [
    (model, mesh, compute)
    for model in MODELS
    for mesh in (MESHES if WHOLE else ("1", "4x2"))
    for compute in (("float32", "bfloat16") if WHOLE else ("float32",))
]


def trained_models() -> set[str]:
    """The models of the catalog that a training job may name and that need nothing from outside it."""
    return {name for name, entry in load().sections["models"].items() if "train" in entry["kinds"]}


def document_of(model: str, mesh: str, compute: str) -> dict[str, Any]:
    """A job that meets the same batch at every step."""
    axes, sharding = MESHES[mesh]
    from_text = "vocab_size" in MODELS[model]
    data = {"dataset": "ds_text"} if from_text else {"inline": _pictures()}
    return {
        "kind": "train",
        "model": {"type": model, **MODELS[model]},
        "data": data | {"batch_size": BATCH},
        "loss": {"type": "next_token" if from_text else "softmax_cross_entropy_with_integer_labels"},
        "optimizer": {"type": "adam", "learning_rate": 2e-2},
        "precision": {"compute": compute},
        "mesh": {"axes": axes, "sharding": sharding},
        "steps": STEPS,
    }


def program_of(model: str, mesh: str, compute: str, text: Path) -> Program:
    """The program of such a job.

    Args:
        model: its type.
        mesh: one of `MESHES`.
        compute: the format of its arithmetic.
        text: where a text of one batch may be written.
    """
    spec = specs.resolve(document_of(model, mesh, compute))
    if "vocab_size" not in MODELS[model]:
        return build_program(spec, spec["mesh"]["axes"], None, None)
    if not text.exists():  # another program may have it mapped into memory
        text.write_text("the quick brown fox jumps"[: TEXT["context"] + BATCH])
    return build_program(spec, spec["mesh"]["axes"], text, "text")


def _pictures() -> dict[str, Any]:
    """As many pictures as there are in a batch: noise, with labels that can only be learned by heart."""
    generator = np.random.default_rng(0)
    return {"x": generator.normal(size=(BATCH, 64)).round(3).tolist(), "y": [at % 4 for at in range(BATCH)]}
