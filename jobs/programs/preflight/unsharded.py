"""Parameters that every device holds whole though the mesh could spread them."""

from __future__ import annotations

from collections.abc import Iterable

from jobs.preflight import Array

LARGE_SHARE = 0.02


def unsharded(arrays: Iterable[Array], total_bytes: int, free_axes: set[str]) -> list[Array]:
    """Parameters of more than 2 % of all bytes that lie along no axis, where there is an axis that could take them."""
    large = (array for array in arrays if array.bytes > total_bytes * LARGE_SHARE)
    return [array for array in large if free_axes and not any(array.partition)]
