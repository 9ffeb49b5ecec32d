"""Compilations beyond the first of each function: a steady run has none, and one that has them loses seconds to each.

The step is compiled ahead of its first call and takes one shape only; evaluation pads its last batch. What is left are functions
that are called with a new shape or dtype later: user code outside the step, or operations run one by one under `disable_jit`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import jax

COMPILED = "/jax/core/compile/backend_compile_duration"
LOGGER = "jax._src.interpreters.pxla"
MOST_EVENTS = 20
LONGEST_SHAPES = 1000
HINT = "Give it arrays of one shape and dtype: pad the last batch, and pass Python numbers as arrays or as static arguments."


class Compilations(logging.Filter):
    """Counts what is compiled in a phase that has been through once and should have all it needs.

    Args:
        phase: tells the phase that runs.
        event: told of each one: (type, data).
    """

    def __init__(self, phase: Callable[[], str], event: Callable[..., None]) -> None:
        super().__init__()
        self.repeated = 0
        """How many there have been."""
        self._phase, self._event = phase, event
        self._shapes: dict[str, str] = {}
        self._latest: dict[str, str] = {}
        self._settled: set[str] = set()

    def watch(self) -> None:
        """Look at every compilation of this process from now on."""
        jax.monitoring.register_event_duration_secs_listener(self._compiled)
        logger = logging.getLogger(LOGGER)  # the only place that tells the shapes
        logger.addFilter(self)
        logger.setLevel(logging.DEBUG)

    def leave(self) -> None:
        """Look no more."""
        logging.getLogger(LOGGER).removeFilter(self)
        self._settled.clear()  # JAX has no public way to take a listener back: it finds nothing to tell any more

    def settle(self) -> None:
        """The phase that runs has compiled whatever it needs."""
        self._settled.add(self._phase())

    def filter(self, record: logging.LogRecord) -> bool:
        """Take the shapes out of a record of JAX's own, and let through what would have been logged without us."""
        if isinstance(record.args, tuple) and len(record.args) >= 2 and str(record.msg).startswith("Compiling"):
            self._latest[str(record.args[0])] = str(record.args[1])[:LONGEST_SHAPES]
        return record.levelno >= logging.WARNING

    def _compiled(self, event: str, duration_secs: float, **about: Any) -> None:
        if event != COMPILED:
            return
        name = str(about.get("fun_name", "?"))
        shapes, before = self._latest.get(name, ""), self._shapes.get(name)
        self._shapes[name] = shapes
        if self._phase() in self._settled:
            self.repeated += 1
            if self.repeated <= MOST_EVENTS:
                told = {"function": name, "phase": self._phase(), "shapes": shapes, "shapes_before": before}
                self._event("compile.repeated", **told, seconds=round(duration_secs, 3), count=self.repeated, hint=HINT)
