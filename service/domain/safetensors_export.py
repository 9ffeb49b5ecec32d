"""A checkpoint's parameters as one safetensors file, read without JAX.

The checkpoint is Orbax's: `state/_METADATA` names the leaves of the tree, and each array lies in a folder of its own as zarr.
Arrays are decoded one at a time, from bytes that have been checked against the manifest; the header needs their metadata alone.

Source: https://github.com/huggingface/safetensors (format); zarr v2 and v3 as tensorstore reads them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorstore

from service.domain.errors import CheckpointCorrupt, Conflict
from service.domain.verification import Stored, verified
from service.storage.store import CHUNK_BYTES, Store

STATE = "state"
TREE = f"{STATE}/_METADATA"
NOT_PARAMETERS = frozenset({"opt_state", "rngs", "counters"})
"""Sections of the state that a model is not made of; all others are parameters or statistics gathered beside them."""

AVERAGED = "averaged"
"""An average of the parameters over the steps, under their own paths."""

DRIVER_OF = {".zarray": "zarr", "zarr.json": "zarr3"}
ALIGNMENT = 8
CODE_OF = {
    "bool": "BOOL",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
}


@dataclass(frozen=True)
class Tensor:
    """An array to export: its dotted path, its description, and the files it is stored in (its metadata first)."""

    name: str
    dtype: str
    itemsize: int
    shape: tuple[int, ...]
    driver: str
    files: tuple[Stored, ...]

    @property
    def bytes(self) -> int:
        """Its size in the exported file."""
        return math.prod(self.shape) * self.itemsize


def tensors(store: Store, files: Sequence[Stored]) -> list[Tensor]:
    """The parameters and statistics of a checkpoint, in the order of the exported file.

    Wide types come first, so that every array lies aligned; then they go by name.

    Args:
        store: where the checkpoint lies.
        files: its manifest.

    Raises:
        Conflict: it holds none, or of a type that the format does not have.
        CheckpointCorrupt: its description cannot be read.
    """
    trees = [file for file in files if file.name == TREE]
    folders = _folders(files)
    found = [_tensor(store, path, folders) for path in (_paths(_content(store, trees[0])) if trees else ())]
    kept = sorted((one for one in found if one is not None), key=lambda one: (-one.itemsize, one.name))
    if not kept:
        raise Conflict("This checkpoint holds no parameters; download it as a tar.")
    if len({one.name for one in kept}) < len(kept):
        raise Conflict("Two arrays of this checkpoint have the same path; download it as a tar.")
    return kept


def _folders(files: Sequence[Stored]) -> dict[str, dict[str, Stored]]:
    """Files by the folder of their array and their name in it."""
    folders: dict[str, dict[str, Stored]] = {}
    for file in files:
        section, _, rest = file.name.partition("/")
        folder, _, name = rest.partition("/")
        if section == STATE and name:
            folders.setdefault(folder, {})[name] = file
    return folders


def _content(store: Store, file: Stored) -> bytes:
    return b"".join(verified(store, file))


def _paths(tree: bytes) -> list[tuple[str, ...]]:
    try:
        leaves: dict[str, Any] = json.loads(tree)["tree_metadata"]
        paths = [tuple(str(part["key"]) for part in leaf["key_metadata"]) for leaf in leaves.values()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointCorrupt("The checkpoint's description of its arrays cannot be read.") from error
    # Where there is an average of the parameters, it is what was evaluated, and what is handed out.
    hidden = NOT_PARAMETERS | ({"params"} if any(path[0] == AVERAGED for path in paths) else set[str]())
    return [path for path in paths if len(path) > 1 and path[0] not in hidden]


def _tensor(store: Store, path: tuple[str, ...], folders: Mapping[str, Mapping[str, Stored]]) -> Tensor | None:
    folder = folders.get(".".join(path), {})
    drivers = [(name, driver) for name, driver in DRIVER_OF.items() if name in folder]
    if not drivers:  # not an array: an empty branch of the tree
        return None
    [(description, driver)] = drivers
    array = _opened(store, driver, [folder[description]])
    dtype = array.dtype.name
    if dtype not in CODE_OF:
        raise Conflict(f"safetensors has no type for {dtype}; download the checkpoint as a tar.")
    files = (folder[description], *(file for name, file in folder.items() if name != description))
    return Tensor(".".join(path[1:]), dtype, array.dtype.numpy_dtype.itemsize, tuple(array.shape), driver, files)


def _opened(store: Store, driver: str, files: Sequence[Stored]) -> tensorstore.TensorStore:
    """An array over a copy in memory of its files, so that what is decoded is what was checked. The first is its description."""
    context = tensorstore.Context()
    memory = tensorstore.KvStore.open({"driver": "memory"}, context=context).result()
    for file in files:
        memory.write(file.name, _content(store, file)).result()
    folder = files[0].name.rpartition("/")[0]
    spec = {"driver": driver, "kvstore": {"driver": "memory", "path": f"{folder}/"}}
    try:
        opening = tensorstore.open(spec, context=context, open=True, read=True)  # pyright: ignore[reportUnknownMemberType]
        return opening.result()
    except (ValueError, OSError) as error:
        raise CheckpointCorrupt(f"The array in {folder!r} of the checkpoint cannot be read.") from error


def header(step: int, arrays: Sequence[Tensor]) -> bytes:
    """The beginning of the exported file: the length of its description, and the description."""
    described: dict[str, Any] = {"__metadata__": {"format": "flax", "step": str(step)}}
    offset = 0
    for one in arrays:
        described[one.name] = {"dtype": CODE_OF[one.dtype], "shape": one.shape, "data_offsets": [offset, offset + one.bytes]}
        offset += one.bytes
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def whole(store: Store, head: bytes, arrays: Sequence[Tensor]) -> Iterator[bytes]:
    """The exported file, one array at a time.

    Raises:
        CheckpointCorrupt: a file is not what its manifest says; the export then lacks its end.
    """
    yield head
    for one in arrays:
        array = np.ascontiguousarray(_opened(store, one.driver, one.files).read().result())
        raw = array.reshape(-1).view(np.uint8)
        for start in range(0, len(raw), CHUNK_BYTES):
            yield raw[start : start + CHUNK_BYTES].tobytes()
