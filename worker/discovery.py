"""What devices this machine has. A process of its own looks, and ends: the agent never opens one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.errors import MeshyardError

DISCOVERY_SECONDS = 300.0
"""A large accelerator machine may take minutes to open all its devices for the first time."""


VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS")


class NoDevices(MeshyardError):
    """The devices cannot be listed."""


class Found(BaseModel):
    """The line that `python -m worker.devices` prints. `memory_bytes`: of one device."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    platform: str
    device_kind: str
    count: int = Field(ge=1)
    memory_bytes: int = Field(ge=0)
    versions: dict[str, str]


@dataclass(frozen=True)
class Explorer:
    """How to look for devices.

    Attributes:
        command: the program that prints what it finds as a line of JSON.
        environment: its whole environment.
    """

    command: Sequence[str]
    environment: Mapping[str, str]

    async def look(self, cpu_devices: int | None) -> Found:
        """Run the program.

        Raises:
            NoDevices: it cannot be started, fails, hangs, or says something else.
        """
        options = [] if cpu_devices is None else ["--cpu-devices", str(cpu_devices)]
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command,
                *options,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                env=dict(self.environment),
                start_new_session=True,
            )
        except OSError as error:
            raise NoDevices(f"the program that lists the devices cannot be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(DISCOVERY_SECONDS):
                output, _ = await process.communicate()
        except TimeoutError:
            raise NoDevices("the devices cannot be listed: opening them takes for ever") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if process.returncode:
            raise NoDevices(f"the devices cannot be listed (exit status {process.returncode}; the reason is above)")
        return _parsed(output)


def _parsed(output: bytes) -> Found:
    lines = output.decode(errors="replace").split("\n")
    try:
        facts: Any = json.loads(next(line for line in reversed(lines) if line.strip()))
        return Found.model_validate(facts)
    except (StopIteration, ValueError, ValidationError) as error:
        raise NoDevices("the program that lists the devices did not print what was expected") from error


def expect(found: Found, platform: str | None) -> None:
    """See that the devices are of the platform that the operator has named.

    Raises:
        NoDevices: an accelerator was named, and JAX has come up on the CPU.
    """
    if platform not in (None, "cpu") and found.platform == "cpu":
        message = f"platform {platform} is asked for, and JAX finds CPUs alone: are its driver and the extra for it installed?"
        raise NoDevices(message)


def numbers(found: Found, environment: Mapping[str, str], slots: int) -> list[int] | None:
    """What the system calls each device found; None where children need not be told which they may open.

    Args:
        found: the devices.
        environment: of the process that found them; an operator may have hidden some (`CUDA_VISIBLE_DEVICES`).
        slots: how many share them.

    Raises:
        NoDevices: several slots would share devices that are known by no number.
    """
    if found.platform == "cpu":
        return None
    names = next((environment[name].split(",") for name in VISIBLE if environment.get(name)), None)
    if names is None:
        return list(range(found.count))
    if len(names) >= found.count and all(name.strip().isdecimal() for name in names):
        return [int(name) for name in names[: found.count]]
    if slots > 1:
        raise NoDevices(f"to share devices among slots, name them by number in {' or '.join(VISIBLE)}")
    return None
