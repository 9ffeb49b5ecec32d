"""The run loop in this process, with a program that a test is in charge of."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from jobs.programs.outputs import Outputs
from jobs.programs.program import Block, Measurement, State
from worker.channel import MARK_BYTES, Channel, Message, decode, encode
from worker.checkpoint import Saver
from worker.compilations import Compilations
from worker.ledger import Ledger
from worker.profiling import Profiler
from worker.run import End, Run
from worker.talk import Talk


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Steps:
    """A program of a few steps that does nothing but count them. Saved at the end alone."""

    total, unit = 12, "step"

    def init(self) -> State:
        return State(0, {"params": {"w": jnp.zeros(4)}}, {"next_index": 0})

    def phase(self, state: State) -> str:
        return "training"

    def fetch(self, state: State) -> None:
        """Nothing to wait for."""

    def advance(self, state: State) -> tuple[State, Block]:
        step = state.step + 1
        return State(step, state.sections, {"next_index": step}), Block(step, [Measurement(step, {})], jnp.float32(0))

    def settle(self, block: Block) -> None: ...

    def effort(self) -> None: ...

    def saves_at(self, step: int) -> bool:
        return step == self.total

    def evaluates_at(self, step: int) -> bool:
        return False

    def stops(self, step: int, outputs: Outputs) -> str | None:
        return None

    def result(self, state: State, outputs: Outputs, stopped_by: str) -> tuple[dict[str, Any], list[str]]:
        return {}, []


class Loop:
    """The real loop with real pipes to an agent that is the test. Made by `loop`."""

    def __init__(self, folder: Path) -> None:
        down, self._down = os.pipe()
        self._up, up = os.pipe()
        mark = os.memfd_create("mark")
        os.ftruncate(mark, MARK_BYTES)
        self.talk = Talk(Channel(os.fdopen(down, "rb"), os.fdopen(up, "wb", buffering=0), mark), Ledger("training"))
        self.talk.listen()
        self.compilations = Compilations(lambda: self.talk.ledger.phase, self.talk.event)
        self.compilations.watch()
        (folder / "checkpoints").mkdir()
        self.saved: list[int] = []
        self._saver = Saver(folder / "checkpoints", lambda step, _: self.saved.append(step), {"kind": "test"})
        self._outputs = Outputs(folder / "outputs")

    def go(self, program: Any) -> End:
        """Run a program to its end, or to where it was told to stop."""
        profiler = Profiler(None, self._outputs.folder, self.talk)
        return Run(program, self._outputs, self._saver, self.talk, self.compilations, profiler, None).go(program.init())

    def tell(self, message: Message) -> None:
        """Say something as the agent."""
        os.write(self._down, encode(message))

    def heard(self) -> list[Message]:
        """All that was said, once the last message has been."""
        self.talk.end("released", 0)
        messages: list[Message] = []
        with open(self._up, "rb", closefd=False) as stream:
            while not messages or messages[-1]["type"] != "end":
                messages.append(decode(stream.readline()))
        return messages

    def close(self) -> None:
        """Stop what runs in the background. The pipes stay open: a child whose agent hangs up ends its process."""
        self.compilations.leave()
        self._saver.close()


@contextlib.contextmanager
def loop(folder: Path) -> Iterator[Loop]:
    """A loop for the length of a test."""
    made = Loop(folder)
    try:
        yield made
    finally:
        made.close()
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # one may still be on its way
