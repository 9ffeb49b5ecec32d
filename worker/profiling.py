"""Traces of a window of a run: what the devices and the host did, and what lay in the devices' memory at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from worker.talk import Talk

FOLDER = "profile"
MEMORY = "memory.pb.gz"


class Profiler:
    """Opens and closes windows between blocks.

    A trace opens in TensorBoard or xprof, which want a folder that holds `plugins/profile/…`; the memory profile opens in pprof.

    Args:
        window: `profile` of the resolved spec; None for none.
        outputs: the folder of outputs, below which artifacts lie.
        talk: told of what was written; asked for windows that a user wants of the running job.
    """

    def __init__(self, window: Mapping[str, Any] | None, outputs: Path, talk: Talk) -> None:
        self._outputs, self._talk = outputs, talk
        self._next = None if window is None else (window["start_step"], window["num_steps"], window["memory"])
        self._begun: int | None = None
        self._end, self._memory = 0, False

    def look(self, step: int, settle: Callable[[], None]) -> None:
        """Between two blocks: open or close a window where it is time.

        Args:
            step: steps done.
            settle: waits until all that was dispatched is done, so that a window holds its own blocks alone.
        """
        if self._begun is not None and step >= self._end:
            settle()
            self.close(step)
        if self._begun is None and self._is_due(step):
            settle()
            self._open(step)

    def close(self, step: int) -> None:
        """Close the window that is open, if one is: the run ends, or its steps are done."""
        if self._begun is None:
            return
        begun, self._begun = self._begun, None
        folder = self._outputs / FOLDER / str(begun)
        try:
            jax.profiler.stop_trace()
            if self._memory:
                (folder / MEMORY).write_bytes(jax.profiler.device_memory_profile())
        except (OSError, RuntimeError) as error:  # a trace is a courtesy: without it the job goes on
            self._talk.event("profile.failed", step=begun, reason=f"{type(error).__name__}: {error}"[:300])
            return
        paths = sorted(path.relative_to(self._outputs).as_posix() for path in folder.rglob("*") if path.is_file())
        data = {"step": begun, "num_steps": step - begun, "artifacts": paths}
        self._talk.send({"type": "artifacts", "paths": paths, "event": "profile.finished", "data": data})

    def _is_due(self, step: int) -> bool:
        asked = self._talk.asked_profile()
        if asked is not None:
            self._next = (step, asked["num_steps"], asked["memory"])
        if self._next is None:
            return False
        start, length, _ = self._next
        if step >= start + length:  # the run was resumed behind it
            self._next = None
        return self._next is not None and step >= start

    def _open(self, step: int) -> None:
        if self._next is not None:
            start, length, self._memory = self._next
            self._next, self._end = None, start + length
        folder = self._outputs / FOLDER / str(step)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            jax.profiler.start_trace(str(folder))
        except (OSError, RuntimeError) as error:
            self._talk.event("profile.failed", step=step, reason=f"{type(error).__name__}: {error}"[:300])
            return
        self._begun = step
        self._talk.event("profile.started", step=step, num_steps=self._end - step)
