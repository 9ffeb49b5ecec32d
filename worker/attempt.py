"""One attempt inside its child: from the assignment to the last message."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jobs.errors import JobError, UserFault
from jobs.programs import card, user_code
from jobs.programs.autopsy import place_of
from jobs.programs.outputs import DRAWS, PREDICTIONS, Outputs
from jobs.programs.preflight.fit import require_state_fits, require_step_fits
from jobs.programs.preflight.sampling import require_draws_fit
from jobs.programs.printing import shapes
from jobs.programs.program import NotFinite, Program, State
from jobs.programs.purity import program_warnings
from jobs.programs.starting import Origin, WarmStarted
from jobs.programs.user_errors import explain
from jobs.spec.numerics import LONG_STEPS
from worker import checkpoint, devices, memory
from worker.channel import Channel, Message
from worker.checkpoint import Saver
from worker.compilations import Compilations
from worker.handed import folders, predicts, subject
from worker.ledger import Ledger
from worker.nonfinite import explained
from worker.profiling import Profiler
from worker.run import Run
from worker.talk import Talk

MOST_WARNINGS = 20


def run(channel: Channel, start: Message) -> None:
    """Run an assignment and say how it ended, whatever happens on the way.

    Args:
        channel: to and from the agent.
        start: the agent's `start` message (`worker.channel`).
    """
    # A child that was still importing when it was given its work has kept the attempt waiting since then.
    ledger = Ledger("importing", start["sent_at"])
    talk = Talk(channel, ledger)
    talk.listen()
    resume = start["assignment"]["resume"]
    began_at = resume["step"] if resume and resume["what"] == "all" else 0
    try:
        _attempt(talk, start, began_at)
    except JobError as error:
        _fail(talk, began_at, error)
    except Exception as error:  # noqa: BLE001  (an edge: whatever a program raises becomes the job's error)
        own = None if memory.is_shortage(error) else explain(error, folders(start))
        _fail(talk, began_at, own or _as_job_error(error, ledger.phase))


def _attempt(talk: Talk, start: Message, began_at: int) -> None:
    assignment = start["assignment"]
    spec: dict[str, Any] = assignment["spec"]
    directory = Path(start["directory"])
    talk.ledger.enter("device_init")
    devices.configure(start["cpu_devices"], start["device_ids"], start["compile_cache"], spec)
    outputs = Outputs(Path(start["outputs"]), began_at, PREDICTIONS if predicts(start) else DRAWS)
    compilations = Compilations(lambda: talk.ledger.phase, talk.event)
    with talk.interruptible(began_at):
        found = devices.describe()
        devices.require(found, start["device_ids"] if start["cpu_devices"] is None else None)
        talk.send({"type": "devices", **{name: found[name] for name in ("platform", "device_kind", "count")}})
        compilations.watch()
        axes = ", ".join(f"{name}={size}" for name, size in assignment["mesh_axes"].items())
        talk.note(f"{spec['kind']} on {found['count']} {found['platform']} device(s), mesh {axes}, from step {began_at}")
        talk.enter("restoring" if start["resume"] else "compiling", began_at)
        user_code.install(folders(start))
        job = subject(start)
        program = job.build()
        require_state_fits(job, program)
        require_draws_fit(program, job.host_bytes, job.disk_bytes)
        with memory.explained(program, spec, "building and compiling it"):
            state = _first_state(program, start)
            _tell_of_move(talk, start)
            talk.enter("compiling", began_at)
            _compile(talk, program, state)
            _warn(talk, program, start)
            for kind, told in program.notes().items() if isinstance(program, WarmStarted) else ():
                talk.event(kind, **told)
        _heed(spec, program, talk)
        require_step_fits(job, program)
    saver = _saver(talk, outputs, directory, assignment, program)
    try:
        with memory.explained(program, spec, "its steps"):
            profiler = Profiler(spec["profile"], outputs.folder, talk)
            end = Run(program, outputs, saver, talk, compilations, profiler, spec["checkpoint"]["every_seconds"]).go(state)
    except NotFinite as error:
        saver.close()
        del state
        raise explained(program, error, lambda: _last_good(program, start, saver), talk, began_at) from None
    saver.close()
    jax.effects_barrier()  # what is printed from within steps belongs into the log of the attempt
    talk.note(f"{end.ending} at step {end.step}")
    talk.end(end.ending, end.step, None, end.result, list(end.artifacts))


def _warn(talk: Talk, program: Program, start: Message) -> None:
    """Tell what is impure in a user's code."""
    for warning in program_warnings(program, folders(start))[:MOST_WARNINGS]:
        talk.event("code.warning", **warning)


def _first_state(program: Program, start: Message) -> State:
    if not start["resume"]:
        return program.init()
    folder = Path(start["resume"])
    if start["assignment"]["resume"]["what"] == "draws":
        return program.init()
    if start["assignment"]["resume"]["what"] == "params":
        if isinstance(program, WarmStarted):
            return program.warm_start(Origin(*checkpoint.fitted(folder)))
        origin = start["assignment"]["spec"]["init_from"]
        return checkpoint.restore_parameters(folder, program, origin["include"], origin["exclude"])
    return checkpoint.restore(folder, program)


def _tell_of_move(talk: Talk, start: Message) -> None:
    """Tell where a job goes on on another mesh."""
    if start["resume"] and start["assignment"]["resume"]["what"] == "all":
        found = checkpoint.moved(Path(start["resume"]), start["assignment"]["spec"]["kind"], start["assignment"]["mesh_axes"])
        if found is not None:
            talk.event("layout.changed", **found)


def _last_good(program: Program, start: Message, saver: Saver) -> State:
    """The newest state that is whole on disk, else the one that the attempt began with."""
    if saver.durable >= 0:
        return checkpoint.restore(Path(start["directory"]) / "checkpoints" / str(saver.durable), program)
    return _first_state(program, start)


def _compile(talk: Talk, program: Program, state: State) -> None:
    before = talk.ledger.seconds().get("compiling", 0.0)
    program.compile(state)
    seconds = round(talk.ledger.seconds()["compiling"] - before, 3)
    talk.event("compile.finished", seconds=seconds, jax=jax.__version__)
    talk.note(f"compiled in {seconds} s")


def _heed(spec: dict[str, Any], program: Program, talk: Talk) -> None:
    """What is to be said before the first step, as the spec's switches want it."""
    if spec["debug"]["shapes"]:
        sys.stdout.write("".join(f"{line}\n" for line in shapes(program.abstract())))
    if spec["debug"]["disable_jit"] and program.total > LONG_STEPS:
        hint = "Without compiling, each step takes seconds. Set debug.disable_jit to false once the fault is found."
        talk.event("debug.slow", total=program.total, hint=hint)


def _saver(talk: Talk, outputs: Outputs, directory: Path, assignment: dict[str, Any], program: Program) -> Saver:
    def committed(step: int, measured: dict[str, float]) -> None:
        talk.send({"type": "checkpoint", "step": step, "metrics": measured, "outputs": outputs.names(step)})
        talk.note(f"step {step}: checkpoint written")

    folder = directory / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    return Saver(folder, committed, checkpoint.meta_of(assignment["spec"], assignment["mesh_axes"]), _cards(assignment, program))


def _cards(assignment: dict[str, Any], program: Program) -> Callable[[int, dict[str, float]], dict[str, bytes]]:
    """The files that lie beside each state: its card, and what turns its outputs into a user's words."""
    spec, axes = assignment["spec"], assignment["mesh_axes"]
    same = card.describe(assignment["job_id"], spec, axes, program.abstract(), devices.versions())
    same = card.with_data(same, assignment["dataset"])
    with tempfile.TemporaryDirectory() as name:
        companions = {path: (Path(name) / path).read_bytes() for path in program.companions(Path(name))}
    return lambda step, measured: card.files(same, step, measured) | companions


def _fail(talk: Talk, step: int, error: JobError) -> None:
    with contextlib.suppress(OSError):  # a log that cannot be written must not keep the last message back
        traceback.print_exception(error)
    talk.end("failed", step, {"code": error.code, "message": error.message, "param": error.param, "detail": error.detail})


def _as_job_error(error: Exception, phase: str) -> JobError:
    """The job's error for an exception that no one foresaw."""
    text = f"{type(error).__name__}: {error}"[:2000]
    if memory.is_shortage(error):
        return UserFault("oom", f"there is not enough memory to read the data and to build the model: {text}", "/data")
    if isinstance(error, FloatingPointError):
        return UserFault("nan_loss", f"debug.nans found a value that is not finite: {text}{place_of(error)}", "/debug/nans")
    if phase == "compiling":
        return UserFault("compile_failed", f"the step could not be compiled: {text}")
    return JobError("internal", text)
