"""Saves that fail: told within a step, tried once more, and the end of the attempt when that fails too."""

from __future__ import annotations

import contextlib
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jobs.errors import InfraFault
from jobs.programs.outputs import Outputs
from jobs.programs.program import Block, State
from tests.worker.looping import Steps
from worker.checkpoint import Failure, Saver, remedy
from worker.compilations import Compilations
from worker.ledger import Ledger
from worker.profiling import Profiler
from worker.run import End, Run

TOTAL, EVERY = 12, 4


class Counting(Steps):
    """Carries a mebibyte that does not compress. Each block waits until what was saved is settled."""

    total = TOTAL

    def __init__(self, saver: Saver, on_step: Callable[[int], None]) -> None:
        self._saver, self._on_step = saver, on_step
        self._weights = jnp.asarray(np.random.default_rng(0).integers(0, 2**31, 1 << 18, np.int32))

    def init(self) -> State:
        return State(0, {"params": {"w": self._weights}}, {"next_index": 0})

    def advance(self, state: State) -> tuple[State, Block]:
        self._saver.wait()
        self._on_step(state.step + 1)
        return super().advance(state)

    def saves_at(self, step: int) -> bool:
        return step % EVERY == 0


class Listener:
    """What the loop says, in order; the agent never commands anything."""

    command, saves, abandonable = None, True, staticmethod(contextlib.nullcontext)

    def __init__(self, on_event: Callable[[], None]) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._on_event = on_event
        self.ledger = Ledger("training")

    def event(self, event: str, **data: Any) -> None:
        self.events.append((event, data))
        self._on_event()

    def leaving(self) -> bool:
        return False

    def ignore(self, *_: Any) -> None: ...

    enter = send = measure = handled = reached = asked_profile = ignore


def loop(program: Any, outputs: Outputs, saver: Saver, talk: Any) -> Run:
    """The loop, which nobody wants traced."""
    return Run(
        program, outputs, saver, talk, Compilations(lambda: "training", talk.event), Profiler(None, outputs.folder, talk), None
    )


class Bench:
    """A run in a folder of its own, with something that breaks it and something that mends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkpoints"
        self.folder.mkdir()
        self.durable: list[int] = []
        self.outputs = Outputs(folder / "outputs")

    def go(self, breaks_at: int, damage: Callable[[], None], mend: Callable[[], None]) -> tuple[End | None, Listener, str]:
        saver = Saver(self.folder, lambda step, _: self.durable.append(step), {"kind": "test"})
        talk: Any = Listener(mend)
        program: Any = Counting(saver, lambda step: damage() if step == breaks_at else None)
        try:
            return (
                loop(program, self.outputs, saver, talk).go(program.init()),
                talk,
                "",
            )
        except InfraFault as error:
            return None, talk, f"{error.code}: {error.message}"
        finally:
            saver.close()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def full_disk() -> Iterator[SimpleNamespace]:
    """Files can grow no longer than to 64 KiB, as if the disk were full, until it is mended."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def mend() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    yield SimpleNamespace(damage=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard)), mend=mend)
    mend()


def test_a_run_without_failures_tells_of_none(bench: Bench):
    end, talk, _ = bench.go(0, lambda: None, lambda: None)
    assert (end and end.ending, bench.durable, talk.events) == ("succeeded", [4, 8, 12], [])


def test_a_full_disk_is_told_at_the_next_block_and_what_failed_is_saved_again(bench: Bench, full_disk: SimpleNamespace):
    end, talk, _ = bench.go(2, full_disk.damage, full_disk.mend)
    assert end is not None
    assert bench.durable == [5, 8, 12]
    [(event, data)] = talk.events
    assert (event, data["step"], data["final"]) == ("checkpoint.failed", 4, False)
    assert "EFBIG" in data["reason"] or "too large" in data["reason"]
    assert sorted(path.name for path in bench.folder.iterdir()) == ["12", "5", "8"]


@pytest.mark.parametrize(("breaks_at", "told"), [(2, [4, 5]), (6, [8, 9]), (12, [12, 12])])
def test_a_disk_that_stays_full_ends_the_attempt(bench: Bench, full_disk: SimpleNamespace, breaks_at: int, told: list[int]):
    end, talk, error = bench.go(breaks_at, full_disk.damage, lambda: None)
    assert end is None
    assert [(data["step"], data["final"]) for _, data in talk.events] == [(told[0], False), (told[1], True)]
    assert error.startswith("checkpoint_failed: ")
    assert "make room" in error
    assert bench.durable == [step for step in (4, 8) if step < told[0]]


def test_a_save_that_fails_long_after_another_is_tried_again_too(bench: Bench, full_disk: SimpleNamespace):
    class Twice:
        def __init__(self) -> None:
            self.mended = 0

        def mend(self) -> None:
            full_disk.mend()
            self.mended += 1

    twice = Twice()
    saver = Saver(bench.folder, lambda step, _: bench.durable.append(step), {"kind": "test"})
    talk: Any = Listener(twice.mend)
    program: Any = Counting(saver, lambda step: full_disk.damage() if step in (2, 7) else None)
    assert loop(program, bench.outputs, saver, talk).go(program.init()).ending == "succeeded"
    saver.close()
    assert (twice.mended, bench.durable) == (2, [5, 9, 12])


def test_a_folder_that_cannot_be_written_is_told_in_the_same_way(bench: Bench):
    def damage() -> None:
        # The tests may run as root, who may write anywhere: a file in the folder's place stops root too.
        shutil.rmtree(bench.folder)
        bench.folder.touch()

    end, talk, error = bench.go(2, damage, lambda: None)
    assert end is None
    assert [data["step"] for _, data in talk.events] == [4, 4]
    assert error.startswith("checkpoint_failed: ")

    def mend() -> None:
        bench.folder.unlink()
        bench.folder.mkdir()

    mend()
    bench.durable.clear()
    end, talk, _ = bench.go(6, damage, mend)
    assert end is not None
    assert ([data["step"] for _, data in talk.events], bench.durable) == ([8], [4, 8, 12])


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("OSError: [Errno 28] No space left on device", "make room"),
        ("PermissionError: [Errno 13] Permission denied: '/artifacts'", "let the worker write"),
        ("OSError: [Errno 30] Read-only file system", "let the worker write"),
        ("ValueError: something else", "see that the folder"),
    ],
)
def test_the_advice_fits_the_reason(reason: str, advice: str):
    assert advice in remedy(Failure(1, reason).reason)
