"""The agent's care for one preflight: a spec is looked at in a child, and what was found is told to whoever waits.

    prepare → start → listen → see the child gone → finish

Beside it run the beats. Should nobody wait any more, the child is killed at once; whatever happens, it is gone when `run` returns.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress

from jobs.errors import AttemptSuperseded, JobError
from jobs.preflight import Findings
from jobs.protocol import Failure, Preflight, PreflightFinish
from worker.api import Refused, Service, Unreachable
from worker.backoff import persist
from worker.child import Child
from worker.diagnosis import OutOfMemoryKills, Tail, diagnose
from worker.keeper import Equipment, admit, start_message
from worker.messages import End, Found, Misspoken
from worker.places import Place
from worker.watch import Watch

log = logging.getLogger(__name__)

BEATS_IN_A_LEASE = 3
SLOW = "The look at the spec took longer than {seconds:g} seconds and was broken off. Ask for a lower level."


class Errand:
    """Looks after one preflight.

    Args:
        service: whom to tell.
        preflight: what was claimed.
        child: a living child that has been told nothing yet.
        place: where the data is; nothing is written there.
        equipment: what it may use.
    """

    def __init__(self, service: Service, preflight: Preflight, child: Child, place: Place, equipment: Equipment) -> None:
        self._service = service
        self._preflight = preflight
        self._child = child
        self._place = place
        self._equipment = equipment
        self._tail = Tail()
        self._kills = OutOfMemoryKills()
        self._doom: Failure | None = None

    async def run(self) -> None:
        """See it through. Cancelling it kills the child."""
        try:
            async with asyncio.TaskGroup() as group:
                beats = group.create_task(self._beat())
                await self._finish(await self._outcome())
                beats.cancel()
        except* AttemptSuperseded:
            log.info("nobody waits for %s any more", self._preflight.preflight_id)
        finally:
            self._child.discard()
            await self._child.stop()

    def give_up(self) -> None:
        """This process must end soon, or the devices are wanted back: the child is killed, and another worker may try."""
        self._child.kill()

    async def _beat(self) -> None:
        lease_seconds = self._preflight.assignment.lease_seconds
        while True:
            await asyncio.sleep(lease_seconds / BEATS_IN_A_LEASE)
            with suppress(Unreachable, Refused):
                fence = self._preflight.assignment.fence
                lease_seconds = (await self._service.renew_preflight(self._preflight.preflight_id, fence)).lease_seconds

    async def _outcome(self) -> PreflightFinish:
        fence, seconds = self._preflight.assignment.fence, self._preflight.seconds
        try:
            async with asyncio.timeout(seconds):
                said = await self._look()
        except TimeoutError:
            return _failed(fence, Failure(code="deadline_exceeded", message=SLOW.format(seconds=seconds)))
        except JobError as error:
            return _failed(fence, Failure(code=error.code, message=error.message[:10_000], param=error.param))
        if isinstance(said, Findings):
            return PreflightFinish(fence=fence, found=said)
        return _failed(fence, said)

    async def _look(self) -> Findings | Failure:
        assignment, directory = self._preflight.assignment, self._place.directory
        inputs = await self._place.prepare()
        folders = await admit(self._child, assignment, directory, inputs, self._equipment)
        message = start_message(assignment, directory, inputs, self._equipment, folders)
        self._child.send(message | {"type": "preflight", "level": self._preflight.level})
        printing, watching = asyncio.create_task(self._read_log()), asyncio.create_task(self._watch())
        try:
            said = await self._hear()
            watching.cancel()
            gone = await self._child.stop()
            await printing
        finally:
            printing.cancel()
            watching.cancel()
        return self._doom or said or diagnose(gone, self._tail.text, self._kills)

    async def _watch(self) -> None:
        """Keep the limits of contained code."""
        cell = self._equipment.cell
        if cell is not None:
            await Watch(self._child.pid, cell.bounds, lambda: False, self._condemn).run()

    def _condemn(self, error: JobError) -> None:
        self._doom = Failure(code=error.code, message=error.message[:10_000], param=error.param)
        self._child.kill()

    async def _hear(self) -> Findings | Failure | None:
        """The child's one word; None if it went without it."""
        try:
            async with aclosing(self._child.messages()) as messages:
                async for message in messages:
                    if isinstance(message, Found):
                        return message.found
                    if isinstance(message, End) and message.error is not None:
                        return message.error
        except (Misspoken, ValueError) as error:
            return Failure(code="internal", message=f"The child said something that its agent does not understand: {error}.")
        return None

    async def _read_log(self) -> None:
        async with aclosing(self._child.log()) as pieces:
            async for text in pieces:
                self._tail.feed(text)

    async def _finish(self, told: PreflightFinish) -> None:
        try:
            await persist(lambda: self._service.finish_preflight(self._preflight.preflight_id, told), "preflight")
        except Refused as error:
            failure = Failure(code="internal", message=f"The service refused what was found: {error}.")
            await persist(
                lambda: self._service.finish_preflight(self._preflight.preflight_id, _failed(told.fence, failure)), "preflight"
            )


def _failed(fence: int, failure: Failure) -> PreflightFinish:
    return PreflightFinish(fence=fence, error=failure)
