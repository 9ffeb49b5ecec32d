"""The card that lies beside every checkpoint: what this model is, where it comes from, how good it was.

A function of the job and the step alone: no clock, so that a run that was killed and resumed writes the same one. `card.json` is
for programs (`meshyard.load` reads it), `MODEL_CARD.md` for people; the manifest digests both with the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax

from jobs.ids import made_at
from jobs.programs.program import Sections
from jobs.programs.stored import PARAMETERS

CARD, FOR_PEOPLE = "card.json", "MODEL_CARD.md"
FORMAT = 1

Card = dict[str, Any]


def describe(job_id: str, spec: dict[str, Any], axes: Mapping[str, int], sections: Sections, versions: Mapping[str, str]) -> Card:
    """What is the same at every step of a job.

    Args:
        job_id: the job.
        spec: its resolved spec.
        axes: the mesh it runs on.
        sections: of its state, abstract ones too.
        versions: of the libraries.
    """
    leaves = [leaf for name in PARAMETERS for leaf in jax.tree.leaves(sections.get(name, {}))]
    return {
        "format": FORMAT,
        "kind": spec["kind"],
        "job": job_id,
        "name": spec["name"],
        "submitted_at": made_at(job_id),
        "model": spec["model"],
        "parameters": {
            "count": sum(leaf.size for leaf in leaves),
            "bytes": sum(leaf.size * leaf.dtype.itemsize for leaf in leaves),
            "dtypes": sorted({str(leaf.dtype) for leaf in leaves}),
        },
        "seed": spec["seed"],
        "mesh": {"axes": dict(axes), "sharding": spec["mesh"]["sharding"]},
        "versions": dict(versions),
        "resolved_spec": spec,
    }


def with_data(card: Card, dataset: Mapping[str, Any] | None) -> Card:
    """The card with what the job learns from: an uploaded file's digest, or that of the data in the spec.

    Args:
        card: of the job.
        dataset: `id`, `sha256`, `bytes` and `format` of the uploaded file.
    """
    data = card["resolved_spec"]["data"]
    if dataset is not None:
        return card | {"data": {name: dataset[name] for name in ("id", "sha256", "bytes", "format")}}
    if data.get("builtin") is not None:
        return card | {"data": {"builtin": data["builtin"]}}
    text = json.dumps(data.get("inline"), sort_keys=True, separators=(",", ":"))
    return card | {"data": {"inline": True, "sha256": hashlib.sha256(text.encode()).hexdigest(), "bytes": len(text)}}


def files(card: Card, step: int, metrics: Mapping[str, float]) -> dict[str, bytes]:
    """The two files that lie beside the checkpoint of a step, by name."""
    whole = card | {"step": step, "metrics": dict(sorted(metrics.items()))}
    text = json.dumps(whole, indent=2, sort_keys=True, allow_nan=False)
    return {CARD: f"{text}\n".encode(), FOR_PEOPLE: _for_people(whole).encode()}


def _for_people(card: Card) -> str:
    spec = {name: value for name, value in card["resolved_spec"].items() if name != "model"}
    if card["data"].get("inline"):
        spec["data"] = spec["data"] | {"inline": "left out"}
    facts = {
        "job": card["job"],
        "submitted": card["submitted_at"],
        "kind": card["kind"],
        "model": card["model"]["type"],
        "parameters": f"{card['parameters']['count']:,} ({', '.join(card['parameters']['dtypes'])})",
        "data": ", ".join(f"{name} {value}" for name, value in card["data"].items()),
        "seed": card["seed"],
        "mesh": ", ".join(f"{axis} {size}" for axis, size in card["mesh"]["axes"].items()) + f" ({card['mesh']['sharding']})",
    }
    parts = [
        f"# {_plain(card['name'] or card['job'])}, step {card['step']}",
        _table(facts),
        "## Measured at this step",
        _table(card["metrics"]) if card["metrics"] else "Nothing was measured at this step.",
        "## Use it",
        _usage(card),
        "## Model",
        _block(card["model"]),
        "## Trained with" if card["kind"] == "train" else "## Drawn with",
        _block(spec),
        "## Versions",
        _table(card["versions"]),
    ]
    return "\n\n".join(parts) + "\n"


def _usage(card: Card) -> str:
    if card["kind"] != "train":
        return "A sampler's state, to go on from. Its draws are the job's artifact `posterior.nc`."
    code = f'import meshyard\n\nmodel = meshyard.load("{card["job"]}", step={card["step"]})  # or the path of this folder'
    return f"```python\n{code}\n```"


def _table(rows: Mapping[str, Any]) -> str:
    lines = [f"| {_plain(str(name))} | {_plain(str(value))} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _block(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=2, sort_keys=True)}\n```"


def _plain(text: str) -> str:
    """A user's text as one cell of a table."""
    return " ".join(text.replace("|", "\\|").split())
