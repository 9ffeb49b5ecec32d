"""The worker's devices, and who has which. Several jobs run side by side on disjoint ones."""

from __future__ import annotations

import asyncio

from worker.discovery import NoDevices


class Pool:
    """Devices that slots take for one job and give back when nothing of it is left.

    Args:
        count: how many there are, numbered from 0.
        slots: how many jobs may run at once.

    Raises:
        NoDevices: there are fewer devices than slots.
    """

    def __init__(self, count: int, slots: int) -> None:
        if slots > count:
            raise NoDevices(f"{slots} slots cannot share {count} device(s): lower --slots, or raise --cpu-devices")
        self.count = count
        self._free = list(range(count))
        self._some = asyncio.Event()
        self._some.set()

    @property
    def free(self) -> int:
        """How many nobody has."""
        return len(self._free)

    def take(self, count: int) -> list[int] | None:
        """So many devices, those of the lowest numbers; None if not as many are free."""
        if count > len(self._free):
            return None
        taken, self._free = self._free[:count], self._free[count:]
        self._mark()
        return taken

    def give_back(self, devices: list[int]) -> None:
        """Nobody uses these any more."""
        self._free = sorted([*self._free, *devices])
        self._mark()

    async def some_free(self) -> None:
        """Wait until there is a free one."""
        await self._some.wait()

    def _mark(self) -> None:
        if self._free:
            self._some.set()
        else:
            self._some.clear()
