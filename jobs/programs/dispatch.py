"""How many transitions go to the devices at once: so many that the way costs nothing, so few that a command is soon heard."""

from __future__ import annotations

import math
import time
from typing import Any

import jax
import numpy as np

SECONDS = 1.0
"""What one dispatch is to take."""
MOST_BYTES = 64 * 2**20
"""Of the buffers that one dispatch fills."""
GROWTH = 8
"""A dispatch may be so much longer than the one before: the first transitions say little of the later ones."""


class Dispatch:
    """The length of dispatches, set from how long they take. No draw depends on it.

    Args:
        block: transitions from one edge to the next; no dispatch is longer.
        seen: shapes of what is kept of a transition.
    """

    def __init__(self, block: int, seen: Any) -> None:
        a_draw = sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(seen))
        self.most = max(1, min(block, MOST_BYTES // max(1, a_draw)))
        self.length = 1
        self._began = 0.0

    def begin(self) -> None:
        """A dispatch goes out."""
        self._began = time.monotonic()

    def end(self, ready: jax.Array, count: int) -> None:
        """Wait for it, and set the length of the next; after a `count` of 0 it stays as it is."""
        jax.block_until_ready(ready)
        if count == 0:
            return
        seconds = max(1e-6, time.monotonic() - self._began)
        wanted = int(SECONDS * count / seconds)
        self.length = max(1, min(wanted, GROWTH * max(count, self.length), self.most))
