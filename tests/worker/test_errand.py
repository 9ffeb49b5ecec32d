"""An agent's care for a look at a spec: what it tells of a child that finds, fails, dies, hangs, or is wanted no more."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from jobs.errors import AttemptSuperseded
from jobs.protocol import Assignment, HttpStorage, Preflight, PreflightFinish, PreflightKept
from worker.child import Launcher
from worker.errand import Errand
from worker.keeper import Equipment
from worker.orders import Graces
from worker.places import Inputs

CHILD = """
import json, os, sys, time
start = json.loads(os.fdopen(int(sys.argv[-3])).readline())
def say(**message):
    os.write(int(sys.argv[-2]), json.dumps(message).encode() + b"\\n")
"""
FINDS = CHILD + "assert start['type'] == 'preflight' and start['level'] == 'shapes'\nsay(type='found', found={'notices': []})"
FAILS = CHILD + "say(type='end', ending='failed', step=0, error={'code': 'compile_failed', 'message': 'no', 'param': '/model'})"
DIES = CHILD + "print('last words', flush=True)\nos.kill(os.getpid(), 9)"
HANGS = CHILD + "time.sleep(3600)"
BABBLES = CHILD + "say(type='found', found={'parameters': 7})"


class FakeService:
    """Keeps what it is told; `wanted` is whether anybody still waits."""

    def __init__(self, *, wanted: bool = True) -> None:
        self.wanted = wanted
        self.told: list[PreflightFinish] = []

    async def renew_preflight(self, preflight_id: str, fence: int) -> PreflightKept:
        if not self.wanted:
            raise AttemptSuperseded("nobody waits")
        return PreflightKept(lease_seconds=0.05)

    async def finish_preflight(self, preflight_id: str, document: PreflightFinish) -> PreflightKept:
        self.told.append(document)
        return PreflightKept(lease_seconds=0.05)


class Nowhere:
    """A place without data."""

    durable = False

    def __init__(self, folder: Path) -> None:
        self.directory = folder

    async def prepare(self) -> Inputs:
        return Inputs()


def look(folder: Path, program: str, service: FakeService, seconds: float = 60) -> bool:
    """Run an errand; tells whether its child is gone."""
    given = Assignment(
        job_id="pre_1", attempt_id="pre_1", number=1, fence=1, lease_seconds=0.05, spec={}, mesh_axes={"data": 1}, devices=1,
        prefix="preflights/pre_1", storage=HttpStorage(), dataset=None, resume=None,
    )  # fmt: skip
    preflight = Preflight(preflight_id="pre_1", seconds=seconds, level="shapes", assignment=given)
    equipment = Equipment(
        cpu_devices=1, device_ids=None, compile_cache=folder, encoded=folder, backlog=folder / "reports", graces=Graces(), cell=None
    )

    async def run() -> bool:
        child = await Launcher((sys.executable, "-c", program), {}).start()
        await Errand(service, preflight, child, Nowhere(folder), equipment).run()  # type: ignore[arg-type]
        return not child.alive

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("program", "code"), [(FINDS, None), (FAILS, "compile_failed"), (DIES, "child_killed"), (BABBLES, "internal")]
)
def test_what_the_child_came_to_is_told(tmp_path: Path, program: str, code: str | None):
    service = FakeService()
    assert look(tmp_path, program, service)
    (told,) = service.told
    assert (told.error.code if told.error else None) == code
    assert (told.found is not None) == (code is None)
    if program == DIES:
        assert "last words" in told.error.message


def test_a_child_that_hangs_is_killed_in_time(tmp_path: Path):
    service = FakeService()
    assert look(tmp_path, HANGS, service, seconds=0.5)
    assert service.told[0].error.code == "deadline_exceeded"


def test_a_child_that_nobody_waits_for_is_killed(tmp_path: Path):
    service = FakeService(wanted=False)
    assert look(tmp_path, HANGS, service)
    assert service.told == []
