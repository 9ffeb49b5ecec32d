"""Asking for work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from jobs.protocol import Assignment, Claim, Preflight, Take
from worker.api import Refused, Service, Unreachable
from worker.backoff import Backoff
from worker.membership import Member, Membership

log = logging.getLogger(__name__)

WAIT_SECONDS = 10.0
"""A worker that is drained while it is idle learns of it after so long at the latest."""

EVERYTHING: tuple[Take, ...] = ("attempt", "compile", "shapes")


class Claims:
    """Claims for one slot.

    Args:
        service: who gives work.
        membership: how it knows this worker; renewed when it does not.
        devices: tells how many devices it may have just now.
        on_drain: called when the service wants no more claims of this worker.
        may_claim: whether to ask just now.
        takes: what the slot can do.
    """

    def __init__(
        self,
        service: Service,
        membership: Membership,
        devices: Callable[[], int],
        on_drain: Callable[[], None],
        may_claim: Callable[[], bool],
        takes: tuple[Take, ...] = EVERYTHING,
    ) -> None:
        self._service = service
        self._membership = membership
        self._devices = devices
        self._on_drain = on_drain
        self._may_claim = may_claim
        self._takes = takes

    async def claim(self) -> Assignment | Preflight:
        """Ask until there is something to do."""
        backoff = Backoff()
        while True:
            try:
                assignment = await self._ask()
            except (Unreachable, Refused) as error:
                if not backoff.waiting:
                    log.warning("claim: %s; trying again", error)
                await asyncio.sleep(backoff.next_seconds())
                continue
            backoff.reset()
            if assignment is not None:
                return assignment

    async def _ask(self) -> Assignment | Preflight | None:
        member = await self._membership.current()
        devices = self._devices()
        if not devices or not self._may_claim():
            await asyncio.sleep(1.0)
            return None
        try:
            claim = Claim(devices=devices, wait_seconds=WAIT_SECONDS, probe_token=member.probe_token, takes=list(self._takes))
            assignment = await self._service.claim(member.id, claim)
            if assignment is None and await self._service.is_draining(member.id):
                self._on_drain()
        except Refused as error:
            self._understand(error, member)
            raise
        return assignment

    def _understand(self, error: Refused, member: Member) -> None:
        if error.status == 404:
            self._membership.forget(member)
        elif error.status == 409:
            self._on_drain()
