"""The agent: one process that claims jobs and has them run in children. It never imports JAX and never opens a device.

Everything below it may die at any time. Each slot claims, runs and finishes for itself; what they share is the registration, the
room on disk and the word to stop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from jobs import logbook, tracing
from jobs.errors import MeshyardError
from jobs.protocol import Preflight
from worker.api import Refused, Service, Unreachable
from worker.caches import Caches
from worker.child import Launcher, clean_environment, reproducible
from worker.claims import Claims
from worker.containment import Containment, explore
from worker.discovery import Explorer, Found, expect, numbers
from worker.membership import Member, Membership, host_memory_bytes, introduce
from worker.orders import Graces
from worker.places import Datasets
from worker.pool import Pool
from worker.room import Room
from worker.settings import Settings
from worker.slot import Slot, Workshop
from worker.transfer import Digests

T = TypeVar("T")
log = logging.getLogger(__name__)

LEAVE_SECONDS = 29.0
"""From the first signal to the end of this process, come what may."""

PARTING_SECONDS = 1.0
"""How long a claim that is under way is waited for when the worker drains."""


class CannotStart(MeshyardError):
    """The worker cannot start; the text says why and what to do."""


@dataclass(frozen=True)
class Programs:
    """The programs an agent starts.

    Attributes:
        child: runs one attempt; the file descriptors of its channel are appended.
        devices: prints the machine's devices as a line of JSON.
        graces: how long a child may take over things.
    """

    child: Sequence[str] = (sys.executable, "-m", "worker.child_main")
    devices: Sequence[str] = (sys.executable, "-m", "worker.devices")
    graces: Graces = field(default_factory=Graces)


def work(settings: Settings, programs: Programs | None = None) -> int:
    """Run a worker until it is told to stop. Call it from the main thread.

    Returns:
        The exit status: 0 after a drain, 1 if it cannot start (the reason is on standard error), 128 + n after a second signal n.
    """
    logbook.configure(os.environ.get("MESHYARD_LOG_FORMAT", logbook.TEXT))
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # A child's core dump holds data and gigabytes; children inherit the limit.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    try:
        return asyncio.run(Agent(settings, programs or Programs()).run())
    except MeshyardError as error:
        sys.stderr.write(f"meshyard worker: {error}\n")
        return 1


class Agent:
    """One worker process.

    Args:
        settings: what the operator wants.
        programs: what to start.
    """

    def __init__(self, settings: Settings, programs: Programs) -> None:
        self._settings = settings
        self._programs = programs
        self._service = Service(settings.server, settings.api_key)
        self._tracing = tracing.from_environment(os.environ, "meshyard-worker")
        self._membership: Membership | None = None
        self._slots: list[Slot] = []
        self._draining = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None
        self._signals = 0
        self._status = 0
        self._living: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Work until drained. Gives the exit status.

        Raises:
            MeshyardError: it cannot start.
        """
        living = self._living = asyncio.create_task(self._live())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        try:
            await living
        except asyncio.CancelledError:
            if not self._signals:
                raise
        finally:
            await self._service.close()
            await asyncio.to_thread(self._tracing.close)
        return self._status

    def drain(self, *, hurry: bool = False) -> None:
        """Take nothing more; hand back what is running, saved."""
        self._draining.set()
        for slot in self._slots:
            slot.drain(hurry=hurry)

    async def _live(self) -> None:
        settings = self._settings
        room = Room.take(settings.work_dir.expanduser().absolute())
        try:
            environment = clean_environment(os.environ, settings.platform)
            found = await Explorer(self._programs.devices, environment).look(settings.cpu_devices)
            expect(found, settings.platform)
            pool = Pool(found.count, settings.slots)
            containment = await explore(settings, found.platform, host_memory_bytes())
            _tell(containment)
            membership = Membership(self._service, introduce(settings, found, containment), settings.artifact_root)
            member = await self._join(membership)
            self._membership = membership
            sys.stdout.write(f"meshyard worker {member.id} ready at {self._service.server}\n")
            sys.stdout.flush()
            launcher = Launcher(self._programs.child, reproducible(environment, found.platform))
            workshop = self._workshop(room, membership, launcher, found, containment)
            slots = [Slot(number, pool, workshop, self.drain) for number in range(settings.slots)]
            await self._serve(membership, pool, slots, Slot(len(slots), pool, workshop, self.drain))
        finally:
            room.close()

    async def _join(self, membership: Membership) -> Member:
        try:
            return await membership.current()
        except Refused as error:
            if error.status in (401, 403):
                raise CannotStart(f"{self._service.server} does not accept the key: check MESHYARD_API_KEY") from error
            raise CannotStart(f"{self._service.server} does not accept this worker: {error}") from error

    def _workshop(self, room: Room, membership: Membership, launcher: Launcher, found: Found, containment: Containment) -> Workshop:
        digests = Digests()
        return Workshop(
            service=self._service,
            membership=membership,
            launcher=launcher,
            room=room,
            containment=containment,
            digests=digests,
            datasets=Datasets(room.datasets, digests),
            caches=Caches(room.kept(self._settings.slots), self._settings.cache_gib * 2**30),
            graces=self._programs.graces,
            virtual=self._settings.cpu_devices is not None,
            is_cpu=found.platform == "cpu",
            tracing=self._tracing,
            numbers=numbers(found, os.environ, self._settings.slots),
        )

    async def _serve(self, membership: Membership, pool: Pool, slots: list[Slot], bystander: Slot) -> None:
        """Work at every slot, and beside them where no device is needed."""
        self._slots = [*slots, bystander]
        try:
            async with asyncio.TaskGroup() as group:
                for slot in slots:
                    claims = Claims(self._service, membership, lambda: pool.free, self.drain, self._may_claim)
                    group.create_task(self._work_at(slot, partial(self._work_once, slot, pool, claims)))
                shapes = Claims(self._service, membership, lambda: pool.count, self.drain, self._may_claim, ("shapes",))
                look = partial(self._look_once, lambda: not pool.free or all(slot.busy for slot in slots), bystander, shapes)
                group.create_task(self._work_at(bystander, look))
        finally:
            await asyncio.gather(*(slot.close() for slot in self._slots))

    async def _work_at(self, slot: Slot, once: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while not self._draining.is_set():
            try:
                await once()
            except Exception:
                # An edge: a fault of ours in one slot must not end the jobs of the others. The service requeues the job lost by it.
                log.exception("slot %d", slot.number)
                await self._unless_draining(asyncio.sleep(1.0))

    async def _work_once(self, slot: Slot, pool: Pool, claims: Claims) -> None:
        await self._unless_draining(slot.warm())
        await self._unless_draining(pool.some_free())
        given = await self._unless_draining(claims.claim(), PARTING_SECONDS)
        if isinstance(given, Preflight):
            await slot.look(given)
        elif given is not None:
            log.info("claimed %s of %s", given.attempt_id, given.job_id)
            await slot.run(given)
            log.info("%s is over", given.attempt_id)

    async def _look_once(self, is_full: Callable[[], bool], bystander: Slot, claims: Claims) -> None:
        """Look at shapes while nothing else can be begun; an idle slot would do it sooner, with the spare it has."""
        if not is_full():
            await self._unless_draining(asyncio.sleep(1.0))
            return
        given = await self._unless_draining(claims.claim(), PARTING_SECONDS)
        if isinstance(given, Preflight):
            await bystander.look(given)

    async def _unless_draining(self, work: Coroutine[Any, Any, T], parting_seconds: float = 0.0) -> T | None:
        """What `work` gives; None if it is broken off because the worker drains.

        Args:
            work: to be awaited.
            parting_seconds: how long it may still go on then. The service may have granted a claim that very moment; if its answer
                were lost, the job would have to wait until the lease runs out.
        """
        task = asyncio.create_task(work)
        draining = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait({task, draining}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                await asyncio.wait({task}, timeout=parting_seconds)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            draining.cancel()
            await asyncio.gather(task, draining, return_exceptions=True)

    def _may_claim(self) -> bool:
        """Whether to ask for work. While an attempt outlives its lease the service has been away for long: nothing is begun."""
        keepers = (slot.keeper for slot in self._slots)
        return not self._draining.is_set() and not any(keeper is not None and keeper.lease.expired for keeper in keepers)

    def _signalled(self, number: int) -> None:
        self._signals += 1
        living = self._living
        if living is None:
            return
        if self._signals > 1:
            self._status = 128 + number
            living.cancel()
        elif self._membership is None:
            living.cancel()
        else:
            log.info("draining: running jobs are saved and handed back")
            self._telling = asyncio.create_task(self._tell_drain(self._membership))
            asyncio.get_running_loop().call_later(LEAVE_SECONDS, living.cancel)
            self.drain(hurry=True)

    async def _tell_drain(self, membership: Membership) -> None:
        """Tell the service, so that it answers waiting claims at once and sends no more jobs this way."""
        with suppress(Unreachable, Refused):
            await self._service.drain((await membership.current()).id)


def _tell(containment: Containment) -> None:
    """Tell the operator how code of users will be run here."""
    if containment.mode == "off":
        return
    measures = ", ".join(containment.measures) or "nothing"
    if containment.is_enough:
        log.info("code of users is contained by %s", measures)
    elif containment.is_willing:
        log.warning("code of users is run although only %s can be done to contain it", measures)
    else:
        log.warning("code of users is refused: only %s can be done to contain it here (docs/code.md)", measures)
