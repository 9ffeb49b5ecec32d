"""The same groups as a Zarr store of format 2, which every reader of Zarr knows: a folder of small files, each compressed.

Written here and not by the zarr package: what is written is plain (C order, zlib, no filters), and copying piece by piece from the
NetCDF file keeps memory bounded.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from jobs.programs.posterior.netcdf import NetCdf

CHUNK_NUMBERS = 2**19
LEVEL = 1
"""Of compression: draws are noise in most of their bits, and more effort gains next to nothing."""

Metadata = dict[str, Any]


def write_zarr(source: NetCdf, folder: Path, most: int = CHUNK_NUMBERS) -> list[str]:
    """Copy every group of a file into a store.

    Args:
        source: the file, open.
        folder: the store, which is made.
        most: numbers in a chunk.

    Returns: the paths of its files, relative to the folder, sorted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metadata: Metadata = {".zgroup": {"zarr_format": 2}, ".zattrs": {}}
    written: list[str] = []
    for name in source.groups():
        group = source.raw(name)
        metadata |= {f"{name}/.zgroup": {"zarr_format": 2}, f"{name}/.zattrs": _attributes(group)}
        for variable_name, variable in group.variables.items():
            metadata |= _described(f"{name}/{variable_name}", variable, _chunks(variable.shape, most))
            written += _copy(variable, folder, f"{name}/{variable_name}", _chunks(variable.shape, most))
    for path, content in metadata.items():
        _write(folder / path, json.dumps(content).encode())
    # Readers of a store behind HTTP cannot list folders: they find everything here.
    _write(folder / ".zmetadata", json.dumps({"zarr_consolidated_format": 1, "metadata": metadata}).encode())
    return sorted([*metadata, ".zmetadata", *written])


def _described(path: str, variable: Any, chunks: tuple[int, ...]) -> Metadata:
    kind = np.dtype(variable.dtype)
    array = {
        "zarr_format": 2,
        "shape": [int(size) for size in variable.shape],
        "chunks": list(chunks),
        "dtype": kind.str,
        "compressor": {"id": "zlib", "level": LEVEL},
        "fill_value": None,
        "order": "C",
        "filters": None,
    }
    return {f"{path}/.zarray": array, f"{path}/.zattrs": _attributes(variable) | {"_ARRAY_DIMENSIONS": list(variable.dimensions)}}


def _attributes(holder: Any) -> Metadata:
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in holder.attrs.items()}


def _copy(variable: Any, folder: Path, path: str, chunks: tuple[int, ...]) -> Iterator[str]:
    for at in product(*(range(math.ceil(size / chunk)) for size, chunk in zip(variable.shape, chunks, strict=True))):
        where = tuple(
            slice(i * chunk, min((i + 1) * chunk, size)) for i, chunk, size in zip(at, chunks, variable.shape, strict=True)
        )
        piece = np.asarray(variable[where or ...])
        # Chunks at the edge are as large as the others; what lies beyond the array is not read.
        whole = np.zeros(chunks, variable.dtype)
        whole[tuple(slice(0, size) for size in piece.shape)] = piece
        name = f"{path}/{'.'.join(map(str, at)) or '0'}"
        _write(folder / name, zlib.compress(whole.tobytes(), LEVEL))
        yield name


def _chunks(shape: tuple[int, ...], most: int) -> tuple[int, ...]:
    """All of an array if it is small; else whole last dimensions and parts of the first ones."""
    chunks = [1] * len(shape)
    left = most
    for axis in range(len(shape) - 1, -1, -1):
        chunks[axis] = max(1, min(shape[axis], left))
        left //= chunks[axis]
    return tuple(chunks)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
