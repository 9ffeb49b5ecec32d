"""The agent's care for one attempt, from the claim to its finish.

    prepare → start → listen → see the child gone → commit what is left → send what is left → finish

Beside these steps run the beats, the outbox, the log and the commits. Should the service hold another attempt for the right one,
all of it is dropped at once; whatever happens, the child and everything it started are gone when `run` returns.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jobs.errors import AttemptSuperseded, JobError, ServiceFault
from jobs.protocol import Assignment, Beat, Ending, Failure, File, Finish, Window
from jobs.tracing import Trail
from worker.api import Refused, Service
from worker.backlog import Backlog
from worker.backoff import persist
from worker.cell import Cell
from worker.child import Child
from worker.commits import Committer
from worker.diagnosis import OutOfMemoryKills, Tail, diagnose
from worker.lease import Lease, Standing
from worker.messages import (
    Checkpointed,
    Devices,
    End,
    Eventful,
    Found,
    Handled,
    Heard,
    Kept,
    Metrics,
    Misspoken,
    Phased,
    Progress,
)
from worker.orders import Graces, Orders
from worker.outbox import Outbox
from worker.places import Inputs, Place
from worker.stall import LAST_WORDS_SECONDS, Watchdog
from worker.watch import Watch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Equipment:
    """What a slot lends to an attempt.

    Attributes:
        cpu_devices: virtual devices to make; None on real ones.
        device_ids: the real devices it may use; None for whatever there is.
        compile_cache: folder of compiled programs.
        encoded: folder of texts as tokens.
        backlog: file for reports that wait.
        graces: how long the child may take over things.
        cell: where code of a user is kept; None for a job that has none.
        trail: to which it is told what becomes of the attempt.
    """

    cpu_devices: int | None
    device_ids: list[int] | None
    compile_cache: Path
    encoded: Path
    backlog: Path
    graces: Graces
    cell: Cell | None = None
    trail: Trail = field(default_factory=Trail)


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended."""

    ending: Ending
    error: JobError | None = None
    corrupt_step: int | None = None
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    result: dict[str, Any] | None = None
    artifacts: list[File] = field(default_factory=list[File])


class Keeper:
    """Looks after one attempt.

    Args:
        service: whom to tell.
        assignment: what was claimed.
        child: a living child that has been told nothing yet.
        place: where the attempt's bytes are.
        equipment: what it may use.
        on_drain: called when the service wants this worker empty.
        on_running: called once, when the child has done its first step.
    """

    def __init__(
        self,
        service: Service,
        assignment: Assignment,
        child: Child,
        place: Place,
        equipment: Equipment,
        on_drain: Callable[[], None],
        on_running: Callable[[], None],
    ) -> None:
        self._service = service
        self._assignment = assignment
        self._child = child
        self._place = place
        self._equipment = equipment
        self._on_drain = on_drain
        self._on_running = on_running
        self._began = self._started = time.monotonic()
        self._standing = Standing()
        attempt_id, fence = assignment.attempt_id, assignment.fence
        hearing = (self._take_command, self._take_profile)
        self.lease = Lease(service, attempt_id, fence, assignment.lease_seconds, self._standing, *hearing)
        self._orders = Orders(child.send, child.kill, equipment.graces)
        self._outbox = Outbox(service, attempt_id, fence, Backlog(equipment.backlog), place.committed)
        self._tail = Tail()
        self._kills = OutOfMemoryKills()
        self._doom: JobError | None = None

    async def run(self) -> None:
        """See the attempt through. Cancelling it kills the child."""
        try:
            async with asyncio.TaskGroup() as group:
                beats = group.create_task(self.lease.keep())
                await self._finish(await self._outcome())
                beats.cancel()
        except* AttemptSuperseded:
            # A beat that crosses the finish on its way is told the same.
            self._equipment.trail.end("superseded", self._standing.step)
            log.info("%s is ours no more", self._assignment.attempt_id)
        finally:
            self._orders.close()
            self._child.discard()
            await self._child.stop()
            self._outbox.close()

    def drain(self, *, hurry: bool) -> None:
        """Have the child save and hand the job back.

        Args:
            hurry: this process itself must end soon.
        """
        if hurry:
            self._orders.hurry()
        self._orders.give("drain", save=True)

    async def _outcome(self) -> Outcome:
        """Carry the attempt out and deliver all it had to say."""
        outcome = Outcome("released")
        try:
            async with asyncio.TaskGroup() as group:
                delivery = group.create_task(self._outbox.deliver())
                outcome = await self._carry_out(group)
                await self._outbox.flush()
                delivery.cancel()
        except* Refused as errors:
            outcome = _failed(ServiceFault("internal", f"The service refused a report: {errors.exceptions[0]}."))
            await self._child.stop()
        return outcome

    async def _carry_out(self, group: asyncio.TaskGroup) -> Outcome:
        try:
            inputs = await self._unless_stopped(asyncio.create_task(self._place.prepare()))
        except JobError as error:
            return _failed(error, self._corrupt_step(error))
        if inputs is None:
            return Outcome(self._orders.ending)
        committer = Committer(self._place, self._outbox, inputs.outputs, self._condemn)
        commits = group.create_task(committer.run())
        printing = group.create_task(self._copy_log())
        try:
            folders = await admit(self._child, self._assignment, self._place.directory, inputs, self._equipment)
        except JobError as error:
            return await self._abandon(error, committer, commits)
        self._start(inputs, folders)
        watching = [group.create_task(self._watch()), group.create_task(self._see_it_move())]
        end = await self._listen(committer)
        for task in watching:
            task.cancel()
        outcome = await self._see_gone(end)
        self._standing.enter("finalizing")
        await printing
        committer.close()
        await commits
        return await self._settled(outcome, end, committer)

    async def _unless_stopped(self, preparing: asyncio.Task[Inputs]) -> Inputs | None:
        """What was prepared; None if there is no use for it any more."""
        stopping = asyncio.create_task(self._orders.stopping.wait())
        try:
            await asyncio.wait({preparing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return None if stopping.done() else await preparing
        finally:
            stopping.cancel()
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)

    async def _abandon(self, error: JobError, committer: Committer, commits: asyncio.Task[None]) -> Outcome:
        await self._child.stop()
        committer.close()
        await commits
        return _failed(error)

    async def _watch(self) -> None:
        """Keep the limits of contained code."""
        cell = self._equipment.cell
        if cell is not None:
            await Watch(self._child.pid, cell.bounds, lambda: self._on_running is _nothing, self._condemn).run()

    async def _see_it_move(self) -> None:
        """Take the job back from a child that stands still."""
        seconds = self._assignment.stall_seconds
        if seconds is not None:
            fault = await Watchdog(self._standing, seconds).stalled()
            self._doom = self._doom or fault
            self._child.dump_stacks()
            await asyncio.sleep(LAST_WORDS_SECONDS)
            self._condemn(fault)

    def _start(self, inputs: Inputs, folders: dict[str, Path]) -> None:
        self._started = time.monotonic()
        self._standing.step = self._first_step
        message = start_message(self._assignment, self._place.directory, inputs, self._equipment, folders)
        self._child.send(message | {"sent_at": self._started})
        self._orders.begin()

    async def _listen(self, committer: Committer) -> End | None:
        """Hear the child out: its last message, or None if it went without one."""
        try:
            async with aclosing(self._child.messages()) as messages:
                async for message in messages:
                    if isinstance(message, End):
                        self._standing.advance(message.step)
                        return message
                    self._hear(message, committer)
        except (Misspoken, ValueError) as error:
            self._condemn(ServiceFault("internal", f"The child said something that its agent does not understand: {error}."))
        return None

    def _hear(self, message: Heard, committer: Committer) -> None:
        match message:
            case Metrics():
                self._outbox.put_metrics(message.steps, message.labels, message.values)
            case Progress():
                self._progress(message.step)
                self._standing.spend(message.seconds)
            case Phased():
                self._standing.enter(message.phase)
                self._equipment.trail.enter(message.phase, message.step)
                self._standing.spend(message.seconds)
                self._orders.hear_phase(message.phase)
            case Checkpointed():
                self._progress(message.step)
                committer.put(message)
            case Kept():
                committer.put(message)
            case Eventful():
                self._outbox.put_event(message.happened())
            case Handled():
                self._standing.handled = max(self._standing.handled, self._orders.handled(message.command))
                self.lease.beat_soon()
            case Devices():
                log.info("%s runs on %d devices (%s)", self._assignment.attempt_id, message.count, message.device_kind)
            case End() | Found():
                pass

    def _progress(self, step: int) -> None:
        self._standing.advance(step)
        self._on_running()
        self._on_running = _nothing

    async def _copy_log(self) -> None:
        async with aclosing(self._child.log()) as pieces:
            async for text in pieces:
                self._tail.feed(text)
                self._outbox.put_log(text)

    async def _see_gone(self, end: End | None) -> Outcome:
        """Wait until the child is gone, and judge how it ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._equipment.graces.exit_seconds):
                await self._child.wait()
        gone = await self._child.stop()
        self._orders.close()
        if self._doom is not None:
            return _failed(self._doom, seconds=self._standing.seconds_until_now())
        if end is not None:
            error = _as_error(end.error) if end.error else None
            return Outcome(end.ending, error, self._corrupt_step(error), end.seconds, end.result)
        seconds = self._standing.seconds_until_now()
        if self._orders.overdue:
            return Outcome(self._orders.ending, seconds=seconds)
        self._standing.advance(self._child.reached)
        # The log's last words are part of the diagnosis.
        return Outcome("failed", _as_error(diagnose(gone, self._tail.text, self._kills)), seconds=seconds)

    async def _settled(self, outcome: Outcome, end: End | None, committer: Committer) -> Outcome:
        """The outcome with its artifacts; a failure to keep bytes, found meanwhile, outweighs it."""
        if self._doom is not None:
            return _failed(self._doom, seconds=outcome.seconds)
        try:
            return replace(outcome, artifacts=await committer.artifacts(end.artifacts if end else []))
        except JobError as error:
            return _failed(error)

    async def _finish(self, outcome: Outcome) -> None:
        try:
            await self._tell(outcome)
        except Refused as error:
            # Most likely a result too large or too odd. The job must not hang on that.
            await self._tell(_failed(ServiceFault("internal", f"The service refused the result: {error}.")))

    async def _tell(self, outcome: Outcome) -> None:
        error = outcome.error
        finish = Finish(
            fence=self._assignment.fence,
            ending=outcome.ending,
            step=self._standing.step,
            error=Failure(code=error.code, message=_plain(error.message), param=error.param, detail=error.detail)
            if error
            else None,
            corrupt_step=outcome.corrupt_step,
            seconds=self._seconds(outcome.seconds),
            result=outcome.result,
            artifacts=outcome.artifacts,
        )
        trail = self._equipment.trail
        await persist(lambda: self._service.finish(self._assignment.attempt_id, finish, trail.traceparent), "finish")
        trail.end(outcome.ending, finish.step, error.code if error else None)

    def _seconds(self, told: dict[str, float]) -> dict[str, float]:
        """Seconds by phase, summing to the attempt's wall time: what the child told, and what went before and after."""
        before = self._started - self._began
        after = time.monotonic() - self._started - sum(told.values())
        seconds = dict(told)
        seconds["assigned"] = seconds.get("assigned", 0.0) + before
        seconds["finalizing"] = seconds.get("finalizing", 0.0) + max(0.0, after)
        return {phase: round(spent, 6) for phase, spent in seconds.items()}

    @property
    def _first_step(self) -> int:
        resume = self._assignment.resume
        return resume.step if resume is not None and resume.what == "all" else 0

    def _corrupt_step(self, error: JobError | None) -> int | None:
        resume = self._assignment.resume
        return resume.step if error is not None and error.code == "checkpoint_corrupt" and resume is not None else None

    def _take_command(self, beat: Beat) -> None:
        if beat.command == "drain":
            self._on_drain()
        self._orders.give(beat.command, save=beat.save, sequence=beat.sequence)

    def _take_profile(self, window: Window) -> None:
        self._orders.profile(window.num_steps, memory=window.memory)

    def _condemn(self, error: JobError) -> None:
        """End the attempt as failed, whatever the child may say later."""
        self._doom = self._doom or error
        self._child.kill()


async def admit(child: Child, assignment: Assignment, directory: Path, inputs: Inputs, equipment: Equipment) -> dict[str, Path]:
    """Unpack the code of a user, and tell the child what it must give up before it imports any. Gives the bundles' folders.

    Raises:
        UserFault: a bundle cannot be unpacked.
    """
    cell = equipment.cell
    if cell is None:
        return {}
    folders = await asyncio.to_thread(cell.unpack, [(code, inputs.code[code.id]) for code in assignment.code])
    files = [inputs.dataset, *inputs.beside.values(), inputs.resume]
    child.send(await asyncio.to_thread(cell.policy, directory, files))
    return folders


def start_message(
    assignment: Assignment, directory: Path, inputs: Inputs, equipment: Equipment, folders: dict[str, Path]
) -> dict[str, Any]:
    """What a child is told first (`worker.channel`)."""
    return {
        "type": "start",
        "assignment": assignment.model_dump(mode="json"),
        "directory": str(directory),
        "resume": str(inputs.resume) if inputs.resume else None,
        "outputs": str(directory / "outputs"),
        "dataset": str(inputs.dataset) if inputs.dataset else None,
        "beside": {role: str(path) for role, path in inputs.beside.items()},
        "code": {ident: str(folder) for ident, folder in folders.items()},
        "encoded": str(equipment.encoded),
        "cpu_devices": equipment.cpu_devices,
        "device_ids": equipment.device_ids,
        "compile_cache": str(equipment.compile_cache),
    }


def _failed(error: JobError, corrupt_step: int | None = None, seconds: dict[str, float] | None = None) -> Outcome:
    return Outcome("failed", error, corrupt_step, seconds or {})


def _as_error(failure: Failure) -> JobError:
    return JobError(failure.code, failure.message, failure.param, failure.detail)


def _plain(text: str) -> str:
    """Text as the wire takes it: no NUL, no bytes smuggled in from a file name, not without end."""
    return text[:10_000].replace("\x00", "\ufffd").encode(errors="replace").decode()


def _nothing() -> None:
    """There is nothing to do any more."""
