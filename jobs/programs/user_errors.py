"""What went wrong in a user's own code, told in the user's own terms: file, line, what it means, what to do.

JAX traces a step before anything runs, so most mistakes with tracers are found by then; preflight at level `shapes` finds the same.
"""

from __future__ import annotations

import ast
import linecache
import re
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from jobs.errors import UserFault
from jobs.spec.bundle.outdated import CODE as OUTDATED
from jobs.spec.bundle.outdated import find_outdated

LONGEST_MESSAGE = 1500
MOST_FRAMES = 20
_CREATED_ON = re.compile(r"(\S+\.py):(\d+)")
_IMMUTABLE = re.compile(r"does not support item assignment|JAX arrays are immutable|In-place|object does not support item deletion")


@dataclass(frozen=True)
class Kind:
    """A kind of mistake: its code and the way out."""

    code: str
    hint: str


CONTROL_FLOW = Kind(
    "tracer_control_flow",
    "if, while, and, or, bool() and assert need a value, and a traced array has none yet: use jnp.where for values,"
    " jax.lax.cond or jax.lax.while_loop for branches and loops, or decide by what is static (a shape, the config)",
)
IN_PLACE = Kind("in_place_mutation", "arrays are immutable: x = x.at[i].set(v) in place of x[i] = v, .at[i].add(v) in place of +=")
BOOLEAN_INDEX = Kind(
    "value_dependent_shape",
    "the size of x[mask], jnp.nonzero or jnp.unique depends on values: use jnp.where(mask, x, 0), or pass size= and pad",
)
VALUE_NEEDED = Kind(
    "value_needed",
    "a shape, a Python number or an index is needed here, and a traced array has no value yet: take it from a shape or from the"
    " model's config (a static argument), pad to a fixed size, or use jnp where float(), int() or np are used",
)
LEAKED = Kind(
    "leaked_tracer",
    "a value computed while tracing was kept in a global, a list or an attribute and used later: return it instead, or keep state"
    " in an nnx.Variable",
)
FOREIGN_STATE = Kind(
    "state_across_traces",
    "an nnx.Variable made outside of jax.jit, jax.grad or jax.vmap is changed inside: use nnx.jit, nnx.grad or nnx.vmap there",
)
OTHER = Kind("exception", "")

_SIZED = ("jnp.nonzero", "jnp.unique", "size argument", "`size`")
_VALUE_NEEDED = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError, jax.errors.TracerIntegerConversionError)
_KINDS: tuple[tuple[Any, Kind], ...] = (
    (jax.errors.TracerBoolConversionError, CONTROL_FLOW),
    (jax.errors.NonConcreteBooleanIndexError, BOOLEAN_INDEX),
    (jax.errors.UnexpectedTracerError, LEAKED),
    (_VALUE_NEEDED, VALUE_NEEDED),
)
"""The first that fits: some of these are kinds of others."""


@dataclass(frozen=True)
class Frame:
    """A line of the bundle that an exception passed through."""

    file: str
    line: int
    function: str
    text: str


def explain(error: BaseException, folders: Sequence[Path]) -> UserFault | None:
    """The job's error for an exception that came out of, or through, a user's own code; None if it did not.

    Args:
        error: what was raised.
        folders: where the bundles are unpacked.
    """
    frames = list(_frames(error, folders))
    kind = _kind(error)
    if not folders or (not frames and kind is OTHER):
        return None
    last = frames[-1] if frames else None
    hint = kind.hint or (_outdated(last, folders) if last is not None else "")
    detail = {"code": kind.code, "file": last.file if last else None, "line": last.line if last else None, "hint": hint or None}
    return UserFault("user_code_error", _message(error, frames, hint), None, detail)


def _message(error: BaseException, frames: list[Frame], hint: str) -> str:
    where = f"{frames[-1].file}, line {frames[-1].line}, in {frames[-1].function}: " if frames else ""
    what = "".join(traceback.format_exception_only(error)).strip()
    lines = [f'  File "{frame.file}", line {frame.line}, in {frame.function}\n    {frame.text}' for frame in frames[-MOST_FRAMES:]]
    trace = "\n\nTraceback (your code alone):\n" + "\n".join(lines) if lines else ""
    return f"{where}{what[:LONGEST_MESSAGE]}" + (f"\n\nWhat to do: {hint}." if hint else "") + trace


def _frames(error: BaseException, folders: Sequence[Path]) -> Iterator[Frame]:
    """The bundle's own frames, outermost first; where the traceback has none, the line that the error itself names."""
    found = [
        Frame(own, summary.lineno or 1, summary.name, (summary.line or "").strip())
        for summary in traceback.extract_tb(error.__traceback__)
        if (own := _own(summary.filename, folders)) is not None
    ]
    if isinstance(error, SyntaxError) and error.filename is not None:
        own = _own(error.filename, folders)
        found += [Frame(own, error.lineno or 1, "<module>", (error.text or "").strip())] if own is not None else []
    yield from found or _named(str(error), folders)


def _named(text: str, folders: Sequence[Path]) -> Iterator[Frame]:
    for path, line in _CREATED_ON.findall(text):
        own = _own(path, folders)
        if own is not None:
            yield Frame(own, int(line), "<traced>", linecache.getline(path, int(line)).strip())
            return


def _own(filename: str, folders: Sequence[Path]) -> str | None:
    """A file's path inside its bundle; None if it is of none."""
    path = Path(filename)
    return next((path.relative_to(folder).as_posix() for folder in folders if path.is_relative_to(folder)), None)


def _kind(error: BaseException) -> Kind:
    if isinstance(error, TypeError | ValueError) and _IMMUTABLE.search(str(error)):
        return IN_PLACE
    if isinstance(error, TypeError) and "concrete values" in str(error):
        return VALUE_NEEDED
    if isinstance(error, _VALUE_NEEDED) and any(word in str(error) for word in _SIZED):
        return BOOLEAN_INDEX
    named = next((kind for types, kind in _KINDS if isinstance(error, types)), OTHER)
    return FOREIGN_STATE if type(error).__name__ == "TraceContextError" else named


def _outdated(frame: Frame, folders: Sequence[Path]) -> str:
    """Today's form, where the line that failed holds an outdated one."""
    path = next((folder / frame.file for folder in folders if (folder / frame.file).is_file()), None)
    if path is None:
        return ""
    tree = ast.parse(path.read_bytes())
    remarks = (remark for remark in find_outdated(frame.file, tree) if remark.line <= frame.line <= remark.line + 2)
    return next((remark.detail for remark in remarks if remark.code == OUTDATED), "")
