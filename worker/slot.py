"""A place where jobs run one after another, each in a child of its own and on devices that it shares with no other.

A spare child is kept ready: it has imported the libraries and waits. The next one is started when a job has done its first step, so
that its imports do not compete with that job's compilation.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.errors import AttemptSuperseded
from jobs.logbook import about
from jobs.protocol import Assignment, FileStorage, Finish, Preflight
from jobs.tracing import Tracing, Trail
from worker.api import Refused, Service
from worker.backoff import Backoff, persist
from worker.caches import Caches
from worker.cell import Cell
from worker.child import Child, Launcher
from worker.containment import Containment
from worker.errand import Errand
from worker.keeper import Equipment, Keeper
from worker.membership import Membership
from worker.orders import Graces
from worker.places import Datasets, Place, SharedFolder, ThroughService
from worker.pool import Pool
from worker.room import Room
from worker.transfer import Digests

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workshop:
    """What all slots of a worker share.

    Attributes:
        service: the service.
        membership: how it knows this worker.
        launcher: starts children.
        room: this process's folder.
        containment: how code of users is contained here.
        digests: of data files seen before.
        datasets: downloaded data.
        caches: what is kept for later jobs.
        graces: how long children may take over things.
        virtual: whether the devices are virtual CPU devices, made by each child for itself.
        is_cpu: whether the devices are CPUs, of which a child can make as many as a preflight asks for.
        tracing: whose spans tell of attempts.
        numbers: what the system calls each device, where a device belongs to one process at a time and a child must be told which
            it may open; None elsewhere.
    """

    service: Service
    membership: Membership
    launcher: Launcher
    room: Room
    containment: Containment
    digests: Digests
    datasets: Datasets
    caches: Caches
    graces: Graces
    virtual: bool
    is_cpu: bool
    tracing: Tracing
    numbers: list[int] | None


class Slot:
    """One share.

    Args:
        number: counted from 0.
        pool: the worker's devices, of which each job takes what it needs.
        workshop: what it shares with the others.
        on_drain: called when the service wants the worker empty.
    """

    def __init__(self, number: int, pool: Pool, workshop: Workshop, on_drain: Callable[[], None]) -> None:
        self.number = number
        self._pool = pool
        self._workshop = workshop
        self._on_drain = on_drain
        self._spare: Child | None = None
        self._starting = asyncio.Lock()
        self._backoff = Backoff(first_seconds=0.5, most_seconds=60.0)
        self._warming: asyncio.Task[Child] | None = None
        self._hurry: bool | None = None
        self.keeper: Keeper | None = None
        """Who looks after the attempt that runs here now."""
        self.errand: Errand | None = None
        """Who looks after the preflight that runs here now."""

    async def warm(self) -> Child:
        """A living spare. One that died before it was used is replaced, ever more slowly.

        Raises:
            OSError: no child can be started.
        """
        async with self._starting:
            if self._spare is not None and not self._spare.alive:
                exit_ = await self._spare.stop()
                seconds = self._backoff.next_seconds()
                log.error("a child that waited for work died (status %d); the next starts in %.1f s", exit_.returncode, seconds)
                self._spare = None
                await asyncio.sleep(seconds)
            if self._spare is None:
                self._spare = await self._workshop.launcher.start()
            return self._spare

    async def run(self, assignment: Assignment) -> None:
        """Run an attempt, from its claim to its finish."""
        devices = self._pool.take(assignment.devices)
        if devices is None:
            await self._hand_back(assignment)
            return
        try:
            with self._workshop.caches.in_use(), self._told(assignment) as trail:
                await self._run(assignment, devices, trail)
        finally:
            self._pool.give_back(devices)
        await asyncio.to_thread(self._workshop.caches.evict)

    @contextmanager
    def _told(self, assignment: Assignment) -> Generator[Trail]:
        """Have log lines and a span bear the ids of an attempt."""
        tracing, member = self._workshop.tracing, self._workshop.membership.member_id
        ids = {"job_id": assignment.job_id, "attempt_id": assignment.attempt_id}
        claim = {"worker_id": member, "request_id": assignment.request_id}
        with tracing.attempt(assignment.traceparent, **ids, **claim) as trail, about(**ids, **tracing.ids()):
            yield trail

    async def _hand_back(self, assignment: Assignment) -> None:
        """Give up an attempt whose devices have been taken since they were asked for: by a preflight, which holds no lease."""
        log.warning("%s needs %d devices, and %d are free: handed back", assignment.attempt_id, assignment.devices, self._pool.free)
        step = assignment.resume.step if assignment.resume is not None and assignment.resume.what == "all" else 0
        released = Finish(fence=assignment.fence, ending="released", step=step)
        with suppress(AttemptSuperseded, Refused):
            await persist(lambda: self._workshop.service.finish(assignment.attempt_id, released), "finish")

    async def _run(self, assignment: Assignment, devices: list[int], trail: Trail) -> None:
        workshop = self._workshop
        scratch = workshop.room.scratch(assignment.attempt_id)
        try:
            cell = self._cell(assignment, scratch)
            child = await self._child(cell)
            place = self._place(assignment, scratch)
            equipment = replace(self._equipment(assignment, scratch, cell, devices), trail=trail)
            self.keeper = Keeper(workshop.service, assignment, child, place, equipment, self._on_drain, self._warm_next)
            if self._hurry is not None:
                self.keeper.drain(hurry=self._hurry)
            await self.keeper.run()
        finally:
            self.keeper = None
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    async def look(self, preflight: Preflight) -> None:
        """Look at a spec for somebody who waits; on a CPU, and at shapes, without taking any device."""
        apart = preflight.level == "shapes" or self._workshop.is_cpu
        devices = [] if apart else self._pool.take(preflight.assignment.devices)
        if devices is None:
            log.warning("%s finds no free devices: its asker will have to ask again", preflight.preflight_id)
            return
        try:
            await self._look(preflight, devices, apart=apart)
        finally:
            self._pool.give_back(devices)

    async def _look(self, preflight: Preflight, devices: list[int], *, apart: bool) -> None:
        workshop, assignment = self._workshop, preflight.assignment
        scratch = workshop.room.scratch(preflight.preflight_id)
        try:
            cell = self._cell(assignment, scratch)
            child = await self._child(cell)
            place = self._place(assignment, scratch)
            place.directory = scratch / "own"  # not in the artifact folder: nothing of this is kept
            equipment = self._equipment(assignment, scratch, cell, devices)
            if apart:
                equipment = replace(equipment, cpu_devices=assignment.devices)
            self.errand = Errand(workshop.service, preflight, child, place, equipment)
            if self._hurry is not None:
                self.errand.give_up()
            await self.errand.run()
        finally:
            self.errand = None
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)

    @property
    def busy(self) -> bool:
        """Whether something runs here now."""
        return self.keeper is not None or self.errand is not None

    def drain(self, *, hurry: bool) -> None:
        """Have whatever runs here, now or from now on, hand its job back.

        Args:
            hurry: the process itself must end soon.
        """
        self._hurry = hurry
        if self.keeper is not None:
            self.keeper.drain(hurry=hurry)
        if self.errand is not None:
            self.errand.give_up()

    async def close(self) -> None:
        """End the spare."""
        if self._warming is not None:
            await asyncio.gather(self._warming, return_exceptions=True)
        if self._spare is not None:
            self._spare.discard()
            await self._spare.stop()

    def _warm_next(self) -> None:
        if self._hurry is None:
            self._warming = asyncio.create_task(self.warm())

    def _numbers(self, devices: list[int]) -> list[int] | None:
        """What the system calls these devices."""
        numbers = self._workshop.numbers
        return None if numbers is None else [numbers[device] for device in devices]

    def _place(self, assignment: Assignment, scratch: Path) -> Place:
        workshop = self._workshop
        if isinstance(assignment.storage, FileStorage):
            return SharedFolder(workshop.membership.root(assignment.storage), assignment, workshop.digests)
        return ThroughService(workshop.service, assignment, scratch, workshop.datasets)

    def _cell(self, assignment: Assignment, scratch: Path) -> Cell | None:
        """Where code of a user is kept, for an attempt that has any."""
        if not assignment.code:
            return None
        workshop = self._workshop
        return Cell(workshop.containment, workshop.containment.user(self.number, workshop.room.folder.name), scratch)

    async def _child(self, cell: Cell | None) -> Child:
        """A child for an attempt: the spare one; for code of a user a new one, which is confined before it imports anything."""
        if cell is not None:
            return await cell.launcher(self._workshop.launcher).start()
        child = await self.warm()
        self._spare = None
        self._backoff.reset()
        return child

    def _equipment(self, assignment: Assignment, scratch: Path, cell: Cell | None, devices: list[int]) -> Equipment:
        workshop = self._workshop
        return Equipment(
            cpu_devices=assignment.devices if workshop.virtual else None,
            device_ids=self._numbers(devices),
            compile_cache=cell.compile_cache if cell else workshop.room.compile_cache(self.number),
            encoded=cell.encoded if cell else workshop.room.encoded,
            backlog=scratch / "reports",
            graces=workshop.graces,
            cell=cell,
        )
