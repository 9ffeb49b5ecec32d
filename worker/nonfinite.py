"""After a step that put out a number that is not finite: back to the last good state, and slowly over the bad step once more."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import jax

from jobs.errors import JobError, UserFault
from jobs.programs.program import NotFinite, Program, State
from worker.talk import Talk

ADVICE = "Lower the learning rate, clip gradients, or warm up longer."
MOST_STEPS = 1000
"""How far is gone once more where the job is not saved by steps."""


def explained(program: Program, error: NotFinite, last_good: Callable[[], State], talk: Talk, began_at: int) -> UserFault:
    """The same error with the operation, the parameters or the samples behind it, as far as they can be found.

    A command that ends the attempt ends the process meanwhile: nothing is left to be saved.

    Args:
        program: has raised it.
        error: its word.
        last_good: gives the newest state that was saved, else the first.
        talk: to the agent.
        began_at: the step that the attempt began at.
    """
    traceback.clear_frames(error.__traceback__)  # the loop's frames hold a state, and there may be no room for another
    talk.enter("diagnosing", error.step)
    with talk.interruptible(began_at):
        try:
            found = _found(program, error.step, last_good)
        except (JobError, ValueError, TypeError, RuntimeError) as failure:
            # It is a courtesy: whatever hinders it must not hide what happened.
            found = None, f"What gave it could not be looked for: {type(failure).__name__}: {str(failure)[:300]}."
    param, told = found
    return UserFault(error.code, f"{error.message}. {told} {ADVICE}", param or error.param)


def _found(program: Program, step: int, last_good: Callable[[], State]) -> tuple[str | None, str]:
    state = last_good()
    every = getattr(program, "spec", {}).get("checkpoint", {}).get("every_steps") or MOST_STEPS
    if step - 1 - state.step > every:
        return None, f"The newest checkpoint is {step - state.step} steps back, too far to look for what gave it: save more often."
    start = state.step
    while state.step < step - 1:
        state, block = program.advance(state)
        jax.block_until_ready(block.ready)
    finding = program.explain(state)
    if finding is None:
        return (
            None,
            f"Run once more from step {start}, the step came out finite: look at the devices.",
        )
    return finding.param, finding.told
