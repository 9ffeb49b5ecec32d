"""The forward pass of a trained model as one portable file: `jax.export`, its parameters within, the batch of any size.

JAX promises to read such a file for six months; the description beside it says until when.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from jobs.errors import UserFault
from jobs.programs.data import Batch
from jobs.programs.mesh import Layout, build_mesh
from jobs.programs.module import ModuleForm
from jobs.programs.program import Sections
from jobs.programs.trained import AVERAGED, builder, still

MODEL, DESCRIPTION = "model.jax_export", "model.jax_export.json"
READABLE_DAYS = 180
LARGEST_BYTES = 2**30
"""Of parameters in one file: they lie in it as constants, and its format ends at two gibibytes."""

POINTER = "/export/jax_export"


def check_size(params: Mapping[str, Any]) -> None:
    """Refuse a model whose parameters are too many for one file.

    Raises:
        UserFault: before anything is computed.
    """
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    if size > LARGEST_BYTES:
        message = f"the parameters take {size / 2**30:.1f} GiB, and an exported file holds 1: leave it out and use meshyard.load"
        raise UserFault("compile_failed", message, POINTER)


def write(spec: dict[str, Any], sections: Sections, example: Batch, folder: Path) -> list[str]:
    """Write the model of a state, and what is to be known of it.

    Args:
        spec: the resolved spec.
        sections: of the trained state.
        example: a training batch, for shapes.
        folder: where the two files go.

    Returns: their names.
    """
    name, sample = ("x", example["x"]) if "x" in example else ("tokens", example["tokens"][:, :-1])
    exported, batch = _exported(_forward(spec, sections), sample)
    (folder / MODEL).write_bytes(exported.serialize())
    now = datetime.now(UTC)
    described = {
        "format": "jax.export",
        "inputs": [{"name": name, "shape": [batch, *sample.shape[1:]], "dtype": str(sample.dtype)}],
        "outputs": [{"shape": [str(size) for size in out.shape], "dtype": str(out.dtype)} for out in exported.out_avals],
        "platforms": list(exported.platforms),
        "calling_convention_version": exported.calling_convention_version,
        "jax": jax.__version__,
        "made_at": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "readable_until": f"{now + timedelta(days=READABLE_DAYS):%Y-%m-%dT%H:%M:%SZ}",
    }
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=2) + "\n")
    return [MODEL, DESCRIPTION]


def _forward(spec: dict[str, Any], sections: Sections) -> Callable[..., Any]:
    """The model in eval mode on one device, whatever mesh it was trained on."""
    layout = Layout(build_mesh({"data": 1}), ())
    source = {**sections, "params": sections.get(AVERAGED, sections["params"])}
    form = ModuleForm(builder(spec, layout))
    kept = {
        name: {path: _on_host(leaf) for path, leaf in source[name].items()} for name in ("params", "batch_stats") if name in source
    }
    rngs = form.fresh(spec["seed"])["rngs"]

    def forward(inputs: jax.Array) -> Any:
        return still(form.give({"rngs": rngs, **kept}))(inputs)

    return forward


def _on_host(leaf: Any) -> Any:
    return np.asarray(jax.device_get(leaf))


def _exported(forward: Callable[..., Any], sample: np.ndarray) -> tuple[export.Exported, Any]:
    """The forward pass for batches of any size; of this one where the model's shapes cannot be told otherwise."""
    rest = ", ".join(map(str, sample.shape[1:]))
    platforms = sorted({"cpu", export.default_export_platform()})
    exporter = export.export(jax.jit(forward), platforms=platforms)
    symbolic = export.symbolic_shape(f"batch, {rest}" if rest else "batch,")
    try:
        return exporter(jax.ShapeDtypeStruct(symbolic, sample.dtype)), "batch"
    except Exception:  # noqa: BLE001  (what cannot be expressed of a user's model ends in many ways; a fixed size is the second best)
        return exporter(jax.ShapeDtypeStruct(sample.shape, sample.dtype)), int(sample.shape[0])
