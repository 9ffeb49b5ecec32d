"""Commands that end an attempt while the loop waits for something, and shapes that change under it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jobs.programs.program import Block, Measurement, State
from tests import specs
from tests.worker.child_process import ChildProcess
from tests.worker.looping import Steps, loop


class Hanging(Steps):
    """A program whose data never comes after some steps."""

    def __init__(self) -> None:
        self.hangs = threading.Event()

    def fetch(self, state: State) -> None:
        if state.step == 5:
            self.hangs.set()
            threading.Event().wait()


@pytest.mark.parametrize(("word", "ending"), [("drain", "released"), ("pause", "paused"), ("cancel", "cancelled")])
def test_data_that_never_comes_hold_no_command_up(tmp_path: Path, word: str, ending: str) -> None:
    program = Hanging()
    with loop(tmp_path) as run:

        def tell() -> None:
            program.hangs.wait()
            run.tell({"type": "command", "command": word, "save": True})

        threading.Thread(target=tell, daemon=True).start()
        end = run.go(program)
        assert (end.ending, end.step) == (ending, 5)
        assert run.saved == [5]


def test_a_command_that_ends_no_attempt_interrupts_nothing(tmp_path: Path) -> None:
    class Slow(Steps):
        def fetch(self, state: State) -> None:
            if state.step == 3:
                run.tell({"type": "command", "command": "checkpoint", "save": True})
                while run.talk.command is None:
                    pass

    with loop(tmp_path) as run:
        assert run.go(Slow()).ending == "succeeded"
        assert run.saved == [4, 12]


class Reshaping(Steps):
    """A program that calls its step with a longer batch each time, as code outside the compiled step may."""

    def __init__(self) -> None:
        self._double = jax.jit(lambda x: (x * 2).sum())

    def advance(self, state: State) -> tuple[State, Block]:
        step = state.step + 1
        ready = self._double(np.zeros(8 if step < 6 else step, np.float32))
        return State(step, state.sections, {"next_index": step}), Block(step, [Measurement(step, {})], ready)


def test_a_recompiling_shape_is_counted_and_told_with_both_shapes(tmp_path: Path) -> None:
    with loop(tmp_path) as run:
        assert run.go(Reshaping()).ending == "succeeded"
        messages = run.heard()
    told = [message["data"] for message in messages if message["type"] == "event" and message["event"] == "compile.repeated"]
    assert [each["count"] for each in told] == [1, 2, 3, 4, 5, 6]  # steps 6, 7, 9, 10, 11 and 12: the 8 is known
    assert "[8]" in told[0]["shapes_before"]
    assert "[6]" in told[0]["shapes"]
    assert "pad the last batch" in told[0]["hint"]
    counts = [value for m in messages if m["type"] == "metrics" for value in m["values"]["recompilations"]]
    assert (counts[0], counts[-1]) == (0.0, 6.0)


def test_a_drain_during_an_evaluation_leaves_it_off_and_saves(tmp_path: Path) -> None:
    text = specs.write_text(tmp_path / "text.txt")
    document: dict[str, Any] = specs.transformer(steps=1000, eval_every=2, checkpoint={"every_steps": 500})
    document["data"] |= {"eval_fraction": 0.95, "eval_batches": None}
    child = ChildProcess(tmp_path / "job", document, dataset=text)
    child.until(lambda m: m["type"] == "phase" and m["phase"] == "evaluating")
    child.command("drain")
    end = child.end()
    assert (end["ending"], end["step"]) == ("released", 2)
    assert child.checkpoints() == [2]
    assert not any(name == "eval/loss" for _, _, name in child.metrics())
