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
from jobs.programs.imported import inputs
from jobs.programs.mesh import Layout, build_mesh
from jobs.programs.module import ModuleForm
from jobs.programs.program import Sections
from jobs.programs.trained import AVERAGED, builder, still
from jobs.spec.imports import is_own

MODEL, DESCRIPTION = "model.jax_export", "model.jax_export.json"
READABLE_DAYS = 180
LARGEST_BYTES = 2**30
"""Of parameters in one file: they lie in it as constants, and its format ends at two gibibytes."""

POINTER = "/export/jax_export"


def check(spec: dict[str, Any], sections: Sections, example: Batch) -> None:
    """Refuse what could not be exported, before anything is computed.

    Args:
        spec: the resolved spec.
        sections: of a state, in shapes.
        example: a training batch, for shapes.

    Raises:
        UserFault: the parameters are too many for one file, or the model of a loss of the user's own cannot be called with its
            inputs alone.
    """
    check_size(sections["params"])
    if spec["loss"]["type"] != "import":
        return  # training calls the model in the same way
    given = _inputs(spec, example)
    try:
        jax.eval_shape(lambda kept, arrays: _called(spec, kept)(*arrays), _kept(sections), list(given.values()))
    except Exception as error:  # whatever a user's module raises
        message = f"the model cannot be called as model({', '.join(given)}), which is what is exported: {error}"
        raise UserFault("user_code_error", message, POINTER) from error


def check_size(params: Mapping[str, Any]) -> None:
    """Refuse a model whose parameters are too many for one file.

    Raises:
        UserFault: they are.
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
    given = _inputs(spec, example)
    forward = _called(spec, jax.tree.map(_on_host, _kept(sections)))
    exported, batch = _exported(forward, list(given.values()))
    (folder / MODEL).write_bytes(exported.serialize())
    now = datetime.now(UTC)
    described = {
        "format": "jax.export",
        "inputs": [{"name": name, "shape": [batch, *a.shape[1:]], "dtype": str(a.dtype)} for name, a in given.items()],
        "outputs": [{"shape": [str(size) for size in out.shape], "dtype": str(out.dtype)} for out in exported.out_avals],
        "trials": spec["ensemble"],
        "platforms": list(exported.platforms),
        "calling_convention_version": exported.calling_convention_version,
        "jax": jax.__version__,
        "made_at": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "readable_until": f"{now + timedelta(days=READABLE_DAYS):%Y-%m-%dT%H:%M:%SZ}",
    }
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=2) + "\n")
    return [MODEL, DESCRIPTION]


def _inputs(spec: dict[str, Any], example: Batch) -> Batch:
    """What the model is called with, by name and in order."""
    if "tokens" in example:
        return {"tokens": example["tokens"][:, :-1]}
    return {name: example[name] for name in inputs(spec)}


def _kept(sections: Sections) -> Sections:
    """What a trained model consists of: the average of its parameters where one was kept."""
    source = {**sections, "params": sections.get(AVERAGED, sections["params"])}
    return {name: source[name] for name in ("params", "batch_stats") if name in source}


def _called(spec: dict[str, Any], kept: Sections) -> Callable[..., Any]:
    """The model in eval mode on one device, whatever mesh it was trained on; of an ensemble, all members along a first axis."""
    model = spec["model"]
    if "attention" in model:  # what a GPU fuses has no form that is promised to last, and none for other devices
        spec = spec | {"model": model | {"attention": "xla"}}
    form = ModuleForm(builder(spec, Layout(build_mesh({"data": 1}), ())))
    rngs = jax.jit(lambda: form.fresh(spec["seed"])["rngs"])()
    several = is_own(spec["model"]) and len(inputs(spec)) > 1

    def one(kept: Sections, arrays: tuple[jax.Array, ...]) -> Any:
        model = still(form.give({"rngs": rngs, **kept}))
        return model(**dict(zip(inputs(spec), arrays, strict=True))) if several else model(*arrays)

    members = one if spec["ensemble"] is None else jax.vmap(one, in_axes=(0, None))
    return lambda *arrays: members(kept, arrays)


def _on_host(leaf: Any) -> Any:
    return np.asarray(jax.device_get(leaf))


def _exported(forward: Callable[..., Any], samples: list[np.ndarray]) -> tuple[export.Exported, Any]:
    """The forward pass for batches of any size; of this one where the model's shapes cannot be told otherwise."""
    exporter = export.export(jax.jit(forward), platforms=sorted({"cpu", export.default_export_platform()}))
    scope = export.SymbolicScope()
    try:
        return exporter(*(jax.ShapeDtypeStruct(_of_any_size(a.shape, scope), a.dtype) for a in samples)), "batch"
    except Exception:  # noqa: BLE001  (what cannot be expressed of a user's model ends in many ways; a fixed size is the second best)
        return exporter(*(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in samples)), len(samples[0])


def _of_any_size(shape: tuple[int, ...], scope: export.SymbolicScope) -> Any:
    rest = ", ".join(map(str, shape[1:]))
    return export.symbolic_shape(f"batch, {rest}" if rest else "batch,", scope=scope)
