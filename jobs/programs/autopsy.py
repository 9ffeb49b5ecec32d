"""Where a number that is not finite came from: the batch, the parameters before the step, or an operation of the step."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jobs.programs.program import Finding, State

BACKWARD = frozenset({"_gradients", "one"})
"""Functions of the step whose own line is seen where JAX goes backwards."""

MOST_NAMED = 5
MOST_SAMPLES = 32
LIBRARIES = Path(sysconfig.get_path("purelib"))
WHOLE = frozenset(
    {"scan", "while", "cond", "jit", "pjit", "custom_vjp_call", "custom_jvp_call", "checkpoint", "remat2", "shard_map"}
)
"""What runs as one piece: the operation that is looked for is inside."""


def examine(
    update: Callable[..., Any], state: State, batch: Mapping[str, np.ndarray], placed: Mapping[str, Any], samples: list[int]
) -> Finding | None:
    """Do a step once more, operation by operation, and say what was not finite first.

    Args:
        update: the step, of sections and batch.
        state: before it.
        batch: the step's batch on the host.
        placed: the same on the devices.
        samples: where the batch's samples lie in the training part.

    Returns: None if all that it gives is finite.
    """
    where = f"The batch held the samples {_listed(samples)}."
    bad = [name for name, array in batch.items() if not _finite(array)]
    if bad:
        rows = [samples[row] for row in np.flatnonzero(~np.isfinite(batch[bad[0]].reshape(len(samples), -1)).all(axis=1))]
        told = f"Its data is not finite: {bad[0]} of the samples {_listed(rows)}. Mend or leave out those rows."
        return Finding(told, f"/data/args/{bad[0]}")
    broken = [path for path, array in state.sections["params"].items() if not _finite(array)]
    if broken:
        told = f"Parameters were not finite before it: {_listed(broken)}. The update of step {state.step} made them so. {where}"
        return Finding(told, "/optimizer")
    found = _operation(update, state.sections, placed)
    return None if found is None else Finding(f"{found} {where}", "/optimizer")


def _operation(update: Callable[..., Any], sections: Any, batch: Any) -> str | None:
    """A sentence that names the first operation whose result is not finite."""
    for config in ("jax_debug_nans", "jax_debug_infs"):
        with _switched(config):
            caught = _caught(update, sections, batch)
        if caught is not None:
            return f"The first operation that gave it was {caught[0]}{caught[1]}."
    return None


def _caught(update: Callable[..., Any], sections: Any, batch: Any) -> tuple[str, str] | None:
    try:
        # A function of its own: no donation, and nothing that was compiled without the checks.
        jax.block_until_ready(jax.jit(partial(update))(sections, batch))
    except FloatingPointError as error:
        primitive, place = _primitive(error), place_of(error)
        if primitive not in WHOLE:
            return f"`{primitive}`", place
    else:
        return None
    with jax.disable_jit():
        try:
            jax.block_until_ready(update(sections, batch))
        except FloatingPointError as error:
            return f"`{_primitive(error)}`", place_of(error)
    return f"inside `{primitive}`", place


def _primitive(error: Exception) -> str:
    found = re.search(r"encountered in (\S+)", str(error))
    return found[1].rstrip(".") if found else "?"


def place_of(error: Exception) -> str:
    """The innermost line that is no library's."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not Path(frame.filename).is_relative_to(LIBRARIES)]
    own = [frame for frame in frames if not frame.filename.startswith("<") and Path(frame.filename) != Path(__file__)]
    if not own:
        return ""
    frame = own[-1]
    backward = ", in the backward pass" if frame.name in BACKWARD else ""
    return f" at {'/'.join(Path(frame.filename).parts[-3:])}, line {frame.lineno} (`{(frame.line or '').strip()[:120]}`){backward}"


@contextmanager
def _switched(config: str) -> Iterator[None]:
    before = getattr(jax.config, config)
    jax.config.update(config, True)  # noqa: FBT003  (the library's signature)
    try:
        yield
    finally:
        jax.config.update(config, before)


def _finite(array: Any) -> bool:
    return not jnp.issubdtype(array.dtype, jnp.inexact) or bool(jnp.all(jnp.isfinite(array)))


def _listed(items: list[Any]) -> str:
    most = MOST_SAMPLES if items and isinstance(items[0], int) else MOST_NAMED
    return ", ".join(str(item) for item in items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
