"""Checkpoints: a whole state written in the background, and read back onto whatever mesh there is.

One folder a step, written by Orbax, with three parts: `state` (arrays by section and dotted path), `data` (where the data
stands) and `meta`. All are plain arrays and text, so plain Orbax restores them without this project. What Orbax cannot tell,
whether the bytes are those that were written, is the agent's part: it keeps a digest of every file.
"""

from __future__ import annotations

import json
import queue
import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from jobs.errors import InfraFault, UserFault
from jobs.programs import stored
from jobs.programs.masks import matches
from jobs.programs.program import Program, State, flatten, unflatten
from worker import devices

MOST_NAMED = 6
"""Parameters in one message."""

IN_FLIGHT_BYTES = 512 * 1024 * 1024
"""States below this size may be written side by side. Larger ones wait their turn or are skipped."""


@dataclass(frozen=True)
class Failure:
    """A state that could not be written: its step, and why."""

    step: int
    reason: str


class Saver:
    """Writes states below one folder and tells when each is durable.

    A failure in the background is kept until `failures` is asked for it: the loop asks at every block.

    Args:
        folder: where `{step}` folders go.
        committed: called from a background thread with each step that is whole on disk and its measurements.
        meta: what to keep beside each state: texts by name.
        beside: files that lie beside the state of a step and its measurements, by name.
    """

    def __init__(
        self,
        folder: Path,
        committed: Callable[[int, dict[str, float]], None],
        meta: dict[str, str],
        beside: Callable[[int, dict[str, float]], dict[str, bytes]] = lambda _step, _measured: {},
    ) -> None:
        self._folder, self._committed, self._meta, self._beside = folder, committed, meta, beside
        self._pending: queue.Queue[tuple[int, dict[str, float], Any] | None] = queue.Queue()
        self._in_flight = 0
        self.durable = -1
        """The newest step that is whole on disk."""
        self._failures: deque[Failure] = deque()
        self._last = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name="saver", daemon=True)
        self._thread.start()

    @property
    def seconds_since_last(self) -> float:
        """Time since the last save began."""
        return time.monotonic() - self._last

    def save(self, state: State, measured: dict[str, float], *, must: bool) -> bool:
        """Begin to write a state; blocks only while it is copied to the host.

        Args:
            state: what to write. Its arrays may be donated once this returns.
            measured: what to list the checkpoint with.
            must: wait for room rather than skip. A large state that comes while another is being written is skipped otherwise,
            because the devices do not wait for a disk.

        Returns: whether it is being written, or was tried in vain (see `failures`).
        """
        flat = {name: flatten(section) for name, section in state.sections.items()}
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(flat))
        if self._in_flight and size * (self._in_flight + 1) > IN_FLIGHT_BYTES:
            if not must:
                return False
            self.wait()
        parts = {"state": flat, "data": state.position or {"next_index": 0}, "meta": self._meta | {"step": str(state.step)}}
        self._last = time.monotonic()
        try:
            self._probe(state.step)
            with stored.context():
                response = ocp.save_checkpointables_async(str(self._folder / str(state.step)), parts, overwrite=True)
        except Exception as error:  # noqa: BLE001  (the same edge as in the background: a folder may refuse us at once or later)
            self._fail(state.step, error)
            return True
        self._in_flight += 1
        self._pending.put((state.step, measured, response))
        return True

    def failures(self) -> list[Failure]:
        """What has failed since this was last asked, oldest first."""
        return [self._failures.popleft() for _ in range(len(self._failures))]

    def wait(self) -> None:
        """Wait until everything begun is durable or has failed."""
        self._pending.join()

    def close(self) -> None:
        """Wait, and stop the background thread."""
        self._pending.join()
        self._pending.put(None)
        self._thread.join()

    def _watch(self) -> None:
        while (entry := self._pending.get()) is not None:
            step, measured, response = entry
            try:
                response.result()
                for name, content in self._beside(step, measured).items():
                    (self._folder / str(step) / name).write_bytes(content)
                self.durable = step
                self._committed(step, measured)
            except Exception as error:  # noqa: BLE001  (whatever went wrong in the background must reach the loop)
                self._fail(step, error)
            self._in_flight -= 1
            self._pending.task_done()

    def _probe(self, step: int) -> None:
        """Raise OSError where no folder can be made: Orbax would wait five minutes for one."""
        probe = self._folder / f"{step}.probe"
        probe.mkdir(parents=True, exist_ok=True)
        probe.rmdir()

    def _fail(self, step: int, error: Exception) -> None:
        # What was written of it may be what fills the disk.
        for rest in self._folder.glob(f"{step}.*"):
            shutil.rmtree(rest, ignore_errors=True)
        self._failures.append(Failure(step, f"{type(error).__name__}: {error}"[:500]))


def remedy(reason: str) -> str:
    """What to do about a save that failed."""
    if re.search(r"ENOSPC|EDQUOT|EFBIG|No space|quota|File too large|RESOURCE_EXHAUSTED", reason, re.IGNORECASE):
        return "make room where checkpoints are written, or keep fewer of them (checkpoint.keep_latest)"
    if re.search(r"EACCES|EPERM|EROFS|PERMISSION_DENIED|Permission denied|Read-only", reason, re.IGNORECASE):
        return "let the worker write into the folder of checkpoints"
    return "see that the folder of checkpoints is there and can be written"


def restore(folder: Path, program: Program) -> State:
    """The state kept in a checkpoint's folder, on the program's own mesh.

    Raises:
        InfraFault: `checkpoint_corrupt`, if it does not hold what the program needs.
    """
    target = {name: flatten(section) for name, section in program.abstract().items()}
    try:
        with stored.context():
            found = ocp.load_checkpointables(str(folder), {"state": target, "data": None, "meta": None})
    except Exception as error:
        raise InfraFault("checkpoint_corrupt", f"the checkpoint cannot be read: {str(error)[:500]}") from error
    sections = {name: unflatten(tree, found["state"][name]) for name, tree in program.abstract().items()}
    return program.place(int(found["meta"]["step"]), sections, {name: int(value) for name, value in found["data"].items()})


def restore_parameters(folder: Path, program: Program, include: Sequence[str] | None = None, exclude: Sequence[str] = ()) -> State:
    """A fresh state with the parameters (and batch statistics) of a checkpoint, or with a part of them.

    Args:
        folder: the checkpoint.
        program: what goes on with them.
        include: patterns over dotted paths of what is taken; None takes all.
        exclude: patterns of what is not.

    Raises:
        UserFault: `init_from_mismatch`, if the model has no place for what is taken.
    """
    fresh = program.init()
    own = {name: flatten(tree) for name, tree in program.abstract().items() if name in stored.PARAMETERS}
    saved = {name: stored.shapes(folder).get(name, {}) for name in own}
    wanted = {name: _part(own[name], saved[name], include, exclude) for name in own}
    found = stored.read(folder, {name: part for name, part in wanted.items() if part})
    flat = {name: flatten(fresh.sections[name]) | found.get(name, {}) for name in own}
    return program.adopt(fresh, {name: unflatten(fresh.sections[name], flat[name]) for name in own})


def fitted(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a job of another kind takes from a checkpoint: the spec of the job that saved it, and its parameters by path."""
    return json.loads(_meta(folder)["resolved_spec"]), stored.read(folder, {"params": stored.shapes(folder).get("params", {})})[
        "params"
    ]


def moved(folder: Path, kind: str, axes: dict[str, int]) -> dict[str, Any] | None:
    """What is to be said where a job goes on on another mesh than the one that saved it; None where it is the same.

    Args:
        folder: the checkpoint.
        kind: of the job.
        axes: the mesh that it goes on on.
    """
    before: dict[str, int] = json.loads(_meta(folder).get("mesh_axes", "null"))
    if before in (None, axes):
        return None
    draws = "the posterior is the same, and the draws from here on are others than on the first mesh"
    steps = "the order of the data is the same, and numbers agree within rounding"
    return {"before": before, "now": axes, "message": draws if kind == "mcmc" else steps}


def _meta(folder: Path) -> dict[str, str]:
    with stored.context():
        return ocp.load_checkpointables(str(folder), {"meta": None})["meta"]


def _part(
    own: Mapping[str, Any], saved: Mapping[str, Any], include: Sequence[str] | None, exclude: Sequence[str]
) -> dict[str, Any]:
    """What is taken of a section, as it lies on the program's own mesh."""
    partial = include is not None or bool(exclude)
    taken = [path for path in saved if matches(path, include or ["*"]) and not matches(path, exclude)]
    pointer = "/init_from/include" if include is not None else "/init_from/exclude" if exclude else "/init_from"
    strange = [path for path in taken if path not in own]
    if strange:
        raise _mismatch(f"the model has no {_named(strange)}: leave such out with exclude, or include less", pointer)
    differing = [f"{path} {saved[path].shape} (here {own[path].shape})" for path in taken if saved[path].shape != own[path].shape]
    if differing:
        raise _mismatch(f"shapes differ: {_named(differing)}; leave such out with exclude", pointer)
    missing = [] if partial else [path for path in own if path not in saved]
    if missing:
        raise _mismatch(f"the checkpoint has no {_named(missing)}: name with include what it has", pointer)
    return {path: own[path] for path in taken}


def _mismatch(message: str, pointer: str) -> UserFault:
    return UserFault("init_from_mismatch", message, pointer)


def _named(paths: Sequence[str]) -> str:
    return ", ".join(paths[:MOST_NAMED]) + (f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else "")


def meta_of(spec: dict[str, Any], axes: dict[str, int]) -> dict[str, str]:
    """What a checkpoint says of its origin."""
    return {
        "kind": spec["kind"],
        "resolved_spec": json.dumps(spec, sort_keys=True),
        "mesh_axes": json.dumps(axes),
        "versions": json.dumps(devices.versions(), sort_keys=True),
    }
