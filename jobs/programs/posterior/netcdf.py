"""A NetCDF 4 file with the groups that ArviZ knows, written and read a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5netcdf
import numpy as np

from jobs.programs.posterior.blocks import STATISTIC, Blocks, Form

PIECE_NUMBERS = 2**20
"""Numbers that are read or written at once."""

CHUNK_DRAWS, CHUNK_NUMBERS = 512, 2**16
ARVIZ_NAMES = {"num_steps": "n_steps", "accept_prob": "acceptance_rate", "potential_energy": "lp"}
"""Statistics that ArviZ calls by another name. The potential energy is the negative log density."""

Box = tuple[slice, ...]


class Group:
    """A group of variables with common leading dimensions, such as chain and draw."""

    def __init__(self, group: Any, leading: Mapping[str, int]) -> None:
        self._group, self._leading = group, dict(leading)
        for name, size in self._leading.items():
            _dimension(group, name, size)

    def add(self, name: str, form: Form, attributes: Mapping[str, Any] | None = None) -> None:
        """Make room for a variable: the leading dimensions, then its own, called `{name}_dim_0` and so on."""
        own = {f"{plain(name)}_dim_{axis}": size for axis, size in enumerate(form.shape)}
        for dimension, size in own.items():
            _dimension(self._group, dimension, size)
        shape = (*self._leading.values(), *form.shape)
        # NetCDF has no booleans; xarray makes them of bytes that say so.
        stored = np.dtype(np.int8) if form.dtype == np.bool_ else form.dtype
        chunks = _chunks(shape, len(self._leading)) if np.prod(shape, dtype=np.int64) > CHUNK_NUMBERS else None
        variable = self._group.create_variable(plain(name), (*self._leading, *own), stored, chunks=chunks)
        variable.attrs.update({"dtype": "bool"} if form.dtype == np.bool_ else {})
        variable.attrs.update(attributes or {})

    def put(self, name: str, array: np.ndarray, at: Box = ()) -> None:
        """Write a piece of a variable."""
        variable = self._group.variables[plain(name)]
        where = at + (slice(None),) * (len(variable.dimensions) - len(at))
        variable[where or ...] = np.asarray(array, variable.dtype)

    def keep(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write whole variables."""
        for name, array in sorted(arrays.items()):
            self.add(name, Form(array.shape[len(self._leading) :], array.dtype))
            self.put(name, array)

    def variable(self, name: str) -> Any:
        """What is stored by a name: it has a shape and gives pieces."""
        return self._group.variables[plain(name)]

    def names(self) -> list[str]:
        """The variables that are no coordinates."""
        return [name for name in self._group.variables if name not in self._group.dimensions]


class NetCdf:
    """The file.

    Args:
        path: where it lies.
        mode: `w` to write it anew, `a` to add groups, `r` to read.
    """

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        self._file = h5netcdf.File(path, mode)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._file.close()

    def group(self, name: str, leading: Mapping[str, int] | None = None) -> Group:
        """A group: a new one with these leading dimensions, or one that is there."""
        if name in self._file.groups:
            return Group(self._file.groups[name], {})
        made = self._file.create_group(name)
        made.attrs.update({"creation_library": "meshyard", "inference_library": "numpyro"})
        return Group(made, leading or {})

    def groups(self) -> list[str]:
        """The groups, as they were made."""
        return list(self._file.groups)

    def raw(self, name: str) -> Any:
        """A group as the library has it, for one who copies it."""
        return self._file.groups[name]


def plain(name: str) -> str:
    """A site's name as a variable's: a slash would make a group of it."""
    return name.replace("/", ".")


def write_draws(file: NetCdf, blocks: Blocks) -> None:
    """Posterior and sample statistics, block by block."""
    write_groups(file, blocks, {"posterior": "", "sample_stats": STATISTIC})


def write_groups(file: NetCdf, blocks: Blocks, prefixes: Mapping[str, str]) -> None:
    """Groups of draws, block by block: by name, the prefix that its arrays have in the blocks."""
    leading = {"chain": blocks.chains, "draw": blocks.draws}
    for group_name, prefix in prefixes.items():
        forms = blocks.statistics() if prefix else blocks.sites()
        if not forms:
            continue
        group = file.group(group_name, leading)
        for name, form in forms.items():
            group.add(ARVIZ_NAMES.get(name, name) if prefix else name, form)
        for start, _, block in blocks:
            for name in forms:
                _put_draws(group, name, block[prefix + name], start, statistic=bool(prefix))


def _put_draws(group: Group, name: str, array: np.ndarray, start: int, *, statistic: bool) -> None:
    at = (slice(None), slice(start, start + array.shape[1]))
    if statistic:
        group.put(ARVIZ_NAMES.get(name, name), -array if name == "potential_energy" else array, at)
    else:
        group.put(name, array, at)


def boxes(shape: tuple[int, ...], most: int) -> Iterator[Box]:
    """Pieces of at most so many numbers (but of one at least) that cover an array of this shape, in its order."""
    if not shape:
        yield ()
        return
    inner = int(np.prod(shape[1:], dtype=np.int64))
    if inner > most:
        for at in range(shape[0]):
            yield from ((slice(at, at + 1), *rest) for rest in boxes(shape[1:], most))
        return
    step = max(1, most // max(1, inner))
    for at in range(0, shape[0], step):
        yield (slice(at, min(at + step, shape[0])), *(slice(0, size) for size in shape[1:]))


def _dimension(group: Any, name: str, size: int) -> None:
    if name not in group.dimensions:
        group.dimensions[name] = size
        group.create_variable(name, (name,), np.int64, data=np.arange(size))


def _chunks(shape: tuple[int, ...], leading: int) -> tuple[int, ...]:
    """Pieces on disk: of one chain, some draws, and as many elements as then go in, the last dimensions first."""
    chunks = [1] * len(shape)
    left = CHUNK_NUMBERS
    if leading == 2:
        chunks[1] = min(shape[1], CHUNK_DRAWS)
        left //= chunks[1]
    for axis in range(len(shape) - 1, leading - 1, -1):
        chunks[axis] = max(1, min(shape[axis], left))
        left //= chunks[axis]
    return tuple(chunks)
