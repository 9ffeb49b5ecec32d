"""Where logical axes lie on a mesh: the one mechanism that the service checks with and the worker places arrays with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from jobs.errors import Issue
from jobs.spec.pointers import join

LOGICAL_AXES = ("batch", "embed", "heads", "kv_heads", "mlp", "vocab")
_FSDP = {"batch": "data", "embed": "data"}
_TP = {"batch": "data", "heads": "model", "kv_heads": "model", "mlp": "model", "vocab": "model"}
PRESETS: dict[str, dict[str, str]] = {
    "replicated": {},
    "dp": {"batch": "data"},
    "fsdp": _FSDP,
    "tp": _TP,
    "fsdp_tp": _TP | _FSDP,
}
NEEDS: dict[str, tuple[str, ...]] = {
    "replicated": (),
    "dp": ("data",),
    "fsdp": ("data",),
    "tp": ("model",),
    "fsdp_tp": ("data", "model"),
}
"""Mesh axes that a preset makes no sense without."""

Sizes = Sequence[tuple[str, int, str]]


def rules(preset: str, overrides: Mapping[str, str | None], axes: Mapping[str, int]) -> dict[str, str | None]:
    """The mesh axis of each logical axis; None replicates.

    Args:
        preset: one of `PRESETS`.
        overrides: by logical axis, what goes before the preset.
        axes: the mesh's axes; the preset's rule for one that it lacks does not apply.
    """
    wanted = {**PRESETS[preset], **overrides}
    return {logical: axis if (axis := wanted.get(logical)) in axes else None for logical in LOGICAL_AXES}


def check_conflicts(placed: Mapping[str, str | None], together: Sequence[tuple[str, ...]]) -> Iterator[Issue]:
    """Logical axes of one array on the same mesh axis.

    Args:
        placed: the mesh axis of each logical axis.
        together: logical axes that some array of the model bears at once.
    """
    seen: set[tuple[str, str]] = set()
    for names in together:
        for first, second in ((a, b) for i, a in enumerate(names) for b in names[i + 1 :]):
            if placed[first] is None or placed[first] != placed[second] or (first, second) in seen:
                continue
            seen.add((first, second))
            detail = f'"{first}" and "{second}" both lie on mesh axis "{placed[first]}", and some array has both'
            yield Issue("/mesh/rules", "conflict", f"{detail}: set one of them to null")


def check_sizes(placed: Mapping[str, str | None], sizes: Sizes, axes: Mapping[str, int]) -> Iterator[Issue]:
    """Sizes that do not divide by the mesh axis they lie on. An open axis is settled later, to fit."""
    for logical, size, pointer in sizes:
        axis = placed[logical]
        if axis is None or axes[axis] < 1 or size % axes[axis] == 0:
            continue
        detail = (
            f'{size} does not divide by mesh axis "{axis}" of size {axes[axis]}, on which "{logical}" lies: '
            f"change one of the two, or set mesh.rules.{logical} to null"
        )
        yield Issue(pointer, "not_divisible", detail)


def check_use(placed: Mapping[str, str | None], logical: set[str], axes: Mapping[str, int]) -> Iterator[Issue]:
    """Mesh axes of more than one device on which nothing lies: each such device would repeat the work of another."""
    used = {placed[name] for name in logical}
    for axis, size in axes.items():
        if size != 1 and axis not in used:
            detail = f'nothing lies on mesh axis "{axis}": choose a sharding that uses it, add a rule, or leave the axis out'
            yield Issue(join("/mesh/axes", axis), "unused_axis", detail)
