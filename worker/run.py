"""THE loop: one for training, sampling and whatever comes, because all are programs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jobs.errors import InfraFault
from jobs.programs.ensemble import TRIAL
from jobs.programs.outputs import Outputs
from jobs.programs.program import Block, Concluding, Measurement, Program, State
from worker import checkpoint
from worker.checkpoint import Saver
from worker.compilations import Compilations
from worker.ledger import DATA_WAIT
from worker.pace import Pace
from worker.performance import performance
from worker.profiling import Profiler
from worker.talk import ENDING_OF, Abandoned, Talk

BLOCKS_IN_FLIGHT = 2
"""Blocks dispatched and not yet waited for: enough to keep the devices busy, few enough that batches do not fill their memory."""

PROGRESS_SECONDS = 0.2


@dataclass(frozen=True)
class End:
    """How the loop ended: the attempt's ending and, if it succeeded, the result and its artifacts."""

    ending: str
    step: int
    result: dict[str, Any] | None = None
    artifacts: tuple[str, ...] = ()


class Run:
    """One attempt's way through a program.

    Args:
        program: what to compute.
        outputs: what it has put out so far.
        saver: where states are kept.
        talk: to whom it reports.
        compilations: counts those that should not be.
        profiler: traces windows of it.
        every_seconds: save also when so much time has passed since the last save.
    """

    def __init__(
        self,
        program: Program,
        outputs: Outputs,
        saver: Saver,
        talk: Talk,
        compilations: Compilations,
        profiler: Profiler,
        every_seconds: float | None,
    ) -> None:
        self._program, self._outputs, self._saver, self._talk = program, outputs, saver, talk
        self._compilations, self._profiler = compilations, profiler
        self._pace = Pace(talk.event)
        self._every_seconds = every_seconds
        self._flight: deque[Block] = deque()
        self._drawn: list[Mapping[str, np.ndarray]] = []
        self._saved = self._began = 0
        self._saved_again: int | None = None
        self._told = 0.0

    def go(self, state: State) -> End:
        """Advance from a state to the end of the job, or to where a command ends the attempt."""
        program, talk = self._program, self._talk
        self._saved = self._began = state.step
        while True:
            whole = self._evaluate(state)
            done = "completed" if state.step >= program.total else program.stops(state.step, self._outputs)
            if done and isinstance(program, Concluding):
                self._settle(0)
                talk.enter("finalizing", state.step)
                program.conclude(state, self._outputs)
            if self._should_save(state.step, done=bool(done)):
                self._save(state, must=bool(done) or talk.command is not None)
            self._mind_failures(state)
            if done and whole:
                return self._finish(state, done)
            if talk.command in ENDING_OF:
                self._settle(0)
                self._profiler.close(state.step)
                self._secure(state)
                return End(ENDING_OF[talk.command], state.step)
            talk.handled()
            talk.enter(program.phase(state), state.step)
            self._profiler.look(state.step, lambda: self._settle(0))
            if self._fetch(state):
                before = state.step
                state, block = program.advance(state)
                self._put_out(block)
                self._pace.done(block.step - before, block.step)

    def _fetch(self, state: State) -> bool:
        """Wait for the next block's data. False: a command that ends the attempt came before it."""
        self._pace.begin()
        try:
            with self._talk.abandonable():
                self._program.fetch(state)
        except Abandoned:
            return False
        self._talk.ledger.book(DATA_WAIT, self._pace.fetched())
        return True

    def _put_out(self, block: Block) -> None:
        for measurement in self._with_figures(block.metrics):
            self._talk.measure(measurement)
        self._flight.append(block)
        self._settle(0 if block.draws is not None else BLOCKS_IN_FLIGHT)
        if block.draws is not None:
            self._drawn.append(block.draws)
            if self._program.saves_at(block.step):
                self._keep_draws(block.step)

    def _keep_draws(self, step: int) -> None:
        """Write the draws since the last file: one file from one fixed step to the next, however many blocks lie between."""
        if self._drawn:
            names = self._drawn[0]
            self._outputs.keep_draws(step, {name: np.concatenate([block[name] for block in self._drawn], axis=1) for name in names})
            self._drawn.clear()

    def _with_figures(self, metrics: list[Measurement]) -> Iterator[Measurement]:
        """What a block measured, with what only the loop knows of it."""
        for measurement in metrics:
            figures = {"recompilations": float(self._compilations.repeated)}
            if self._program.unit == "step":
                figures["data_wait_seconds"] = self._pace.wait_since_logged()
            if measurement.label is None:
                yield Measurement(measurement.step, {**measurement.values, **figures})
            else:
                yield from (measurement, Measurement(measurement.step, figures))

    def _settle(self, left: int) -> None:
        """Wait until at most `left` blocks are in flight."""
        while len(self._flight) > left:
            block = self._flight.popleft()
            self._program.settle(block)
            self._compilations.settle()
            self._talk.reached(block.step)
            self._record(block)
            self._tell_progress(block.step)

    def _record(self, block: Block) -> None:
        """Keep what a block measured where the step is one that is saved or evaluated."""
        if self._program.saves_at(block.step) or self._program.evaluates_at(block.step):
            for measurement in (each for each in block.metrics if each.label in (None, TRIAL)):
                exact = {name: value for name, value in measurement.values.items() if isinstance(value, jax.Array)}
                self._outputs.measure(block.step, exact)

    def _tell_progress(self, step: int) -> None:
        if time.monotonic() - self._told > PROGRESS_SECONDS:
            self._told = time.monotonic()
            self._talk.send({"type": "progress", "step": step, "seconds": self._talk.ledger.seconds()})

    def _evaluate(self, state: State) -> bool:
        """Evaluate where it is due and has not been done. Tells whether this step has all that belongs to it."""
        if not self._program.evaluates_at(state.step) or self._outputs.evaluated(state.step):
            return True
        self._settle(0)
        self._talk.enter("evaluating", state.step)
        measured = self._program.evaluate(state, self._outputs, self._talk.leaving)
        if measured is None:
            return False
        self._compilations.settle()
        self._outputs.measure(state.step, measured.values, evaluated=True)
        self._talk.measure(measured)
        self._talk.note(
            f"step {state.step}: " + ", ".join(f"{name} {np.mean(value):.6g}" for name, value in sorted(measured.values.items()))
        )
        # A run resumed at a step whose evaluation had been cut short lists the checkpoint anew, with what it now knows.
        self._saved = min(self._saved, state.step - 1) if self._program.saves_at(state.step) else self._saved
        return True

    def _should_save(self, step: int, *, done: bool) -> bool:
        if step <= max(self._saved, 0):
            return False
        overdue = self._every_seconds is not None and self._saver.seconds_since_last > self._every_seconds
        asked = self._talk.command == "checkpoint" or (self._talk.leaving() and self._talk.saves)
        return done or overdue or asked or self._program.saves_at(step)

    def _save(self, state: State, *, must: bool) -> None:
        self._settle(0)
        self._keep_draws(state.step)
        self._talk.enter("checkpointing", state.step)
        if self._saver.save(state, self._outputs.at(state.step), must=must):
            self._saved = state.step
            self._compilations.settle()
        else:
            self._talk.event("checkpoint.skipped", step=state.step, reason="the checkpoint before it is still being written")

    def _mind_failures(self, state: State) -> None:
        """Tell of saves that failed in the background, and save this state in their place, once.

        Raises:
            InfraFault: `checkpoint_failed`, where that failed too.
        """
        failures = self._saver.failures()
        for failure in failures:
            final = self._saved_again is not None and self._saver.durable < self._saved_again <= failure.step
            self._talk.event("checkpoint.failed", step=failure.step, reason=failure.reason, final=final)
            if final:
                message = f"the checkpoint of step {failure.step} could not be written, nor the one before it ({failure.reason})"
                raise InfraFault("checkpoint_failed", f"{message}: {checkpoint.remedy(failure.reason)}")
        if failures:
            self._saved_again = state.step
            self._save(state, must=True)

    def _secure(self, state: State) -> None:
        """Wait until all that was saved is durable, this state in the place of what failed."""
        self._saver.wait()
        self._mind_failures(state)
        self._saver.wait()
        self._mind_failures(state)

    def _finish(self, state: State, stopped_by: str) -> End:
        self._settle(0)
        self._keep_draws(state.step)
        self._profiler.close(state.step)
        self._talk.enter("finalizing", state.step)
        self._talk.send({"type": "progress", "step": state.step})
        result, artifacts = self._program.result(state, self._outputs, stopped_by)
        result |= {"performance": performance(self._program, self._pace, self._talk.ledger, state.step - self._began)}
        self._secure(state)
        return End("succeeded", state.step, result, tuple(artifacts))
