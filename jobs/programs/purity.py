"""Impure programs, found by tracing the same thing twice.

A step that draws from global random state, or reads a clock or a global that it writes, comes out different the second time; one
that lets a tracer out has left it behind. `jax.checking_leaks` finds the same leaks, but then searches for who holds
them: for minutes.

What only reading can find (`jobs.spec.bundle.purity`) is told when a bundle is uploaded, and told again here.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.core

from jobs.spec.bundle.archive import Files
from jobs.spec.bundle.facts import BundleInvalid
from jobs.spec.bundle.purity import CODE
from jobs.spec.bundle.source import read_bundle

Warned = dict[str, Any]
_ADDRESS = re.compile(r"0x[0-9a-f]+")
_TWICE = (
    "tracing the step twice gave two different programs: it depends on global random state, the clock, or a global that it changes."
    " Whatever it drew is fixed for the whole run. Take random numbers from self.rngs, and keep state in an nnx.Variable"
)
_LEAK = "a value computed while tracing outlives it, in a global, a list or an attribute: return it, or keep it in an nnx.Variable"


def impurities(step: Callable[..., Any], arguments: Sequence[Any], folders: Sequence[Path]) -> list[Warned]:
    """Warnings of a step that does not depend on its arguments alone, each with `code`, `file`, `line` (where known) and `detail`.

    Args:
        step: the function to be traced; nothing is computed.
        arguments: abstract or real.
        folders: where the bundles are unpacked.
    """
    return [*_read(folders), *_traced(step, arguments)]


def program_warnings(program: Any, folders: Sequence[Path]) -> list[Warned]:
    """What is impure in the code that a program runs: nothing where it runs none of a user's own.

    Args:
        program: a training or a sampling program.
        folders: where the bundles are unpacked.
    """
    if not folders:
        return []
    if not hasattr(program, "objective"):
        with jax.set_mesh(program.layout.mesh):
            return impurities(program.log_density, [jax.random.key(0)], folders)
    batch = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in program.objective.example().items()}

    def step(sections: Any, batch: Any) -> Any:
        return program.objective.loss(program.form.give(sections), batch)[0]

    with jax.set_mesh(program.layout.mesh):
        return impurities(step, [program.abstract(), batch], folders)


def _read(folders: Sequence[Path]) -> Iterator[Warned]:
    for folder in folders:
        for remark in _remarks(folder):
            yield {"code": remark.code, "file": remark.file, "line": remark.line, "detail": remark.detail}


def _remarks(folder: Path) -> list[Any]:
    files: Files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.py"))}
    try:
        return read_bundle(files).remarks
    except BundleInvalid:
        return []


def _traced(step: Callable[..., Any], arguments: Sequence[Any]) -> Iterator[Warned]:
    before = _tracers()
    first, second = (_program(step, arguments) for _ in range(2))
    if first != second:
        yield {"code": CODE, "file": None, "line": None, "detail": _TWICE}
    if _tracers() > before:
        yield {"code": CODE, "file": None, "line": None, "detail": _LEAK}


def _program(step: Callable[..., Any], arguments: Sequence[Any]) -> tuple[str, list[bytes]]:
    """A traced program as text, with the constants in it."""
    closed = jax.make_jaxpr(partial(step))(*arguments)  # a new function each time: traces are remembered by function
    constants = [jax.device_get(value).tobytes() for value in closed.consts if hasattr(value, "dtype") and not _is_key(value)]
    return _ADDRESS.sub("0x", str(closed.jaxpr)), constants


def _is_key(value: Any) -> bool:
    return jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)


def _tracers() -> int:
    """How many tracers are alive. None should be, where nothing is being traced."""
    gc.collect()
    return sum(issubclass(type(found), jax.core.Tracer) for found in gc.get_objects())
