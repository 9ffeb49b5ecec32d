"""How this machine contains code of users: found out once, told to the service, and turned into a policy for each attempt.

`worker.confine` is the program that takes the measures. What must be there: Landlock (no file of anybody else), seccomp (no socket,
no look into other processes) and, for a worker that runs as root, another user id or a user namespace.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.child import OF_PYTHON
from worker.confine import MEASURES
from worker.settings import Settings

NEEDED = frozenset({"files", "calls"})
FIRST_USER = 61_184
"""The range that systemd keeps for users without a name; a slot takes one."""

GIB = 2**30
LARGEST_FILE = 64 * GIB
MOST_FILES = 8192
PROBE_SECONDS = 60.0
LAUNCHER: tuple[str, ...] = (sys.executable, "-m", "worker.confine")

_SYSTEM = (
    *("/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt/rocm", "/sys"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/passwd", "/etc/group"),
    *("/etc/nsswitch.conf", "/etc/alternatives", "/etc/OpenCL"),
)
_PROC = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version", "/proc/filesystems", "/proc/sys", "/proc/self",
         "/proc/driver", "/proc/devices", "/proc/modules")  # fmt: skip
_DEVICES = ("null", "zero", "full", "random", "urandom", "nvidia*", "dri", "kfd", "accel*", "vfio")
_KEPT = ("LANG", "LC_", "TZ", "PATH", "PYTHON", "LD_LIBRARY_PATH", "JAX_", "XLA_", "CUDA_", "NVIDIA_", "NCCL_", "ROCR_", "HIP_",
         "TPU_", "OMP_", "TF_", "GRPC_", "VIRTUAL_ENV")  # fmt: skip


@dataclass(frozen=True)
class Containment:
    """What this machine can do, and what its operator wants.

    Attributes:
        mode: `off`, `on` or `uncontained`.
        measures: those that can be taken here.
        other_user: whether `user` means another user id; else a user namespace.
        memory_bytes: what one job's processes may have together.
        start_seconds: how long one may take from its start to its first step, all imports, tracing and compilation included.
        wall_seconds: how long one attempt may take in all.
        sockets: whether sockets are allowed within a network of its own, as collectives of several accelerators need them.
    """

    mode: str
    measures: tuple[str, ...]
    other_user: bool
    memory_bytes: int
    start_seconds: float
    wall_seconds: float
    sockets: bool

    @property
    def is_enough(self) -> bool:
        """Whether code of users is contained here."""
        return set(self.measures) >= (NEEDED | ({"user"} if os.geteuid() == 0 else set[str]()))

    @property
    def is_willing(self) -> bool:
        """Whether this worker runs code of users."""
        return self.mode == "uncontained" or (self.mode == "on" and self.is_enough)

    def told(self) -> dict[str, Any]:
        """What the service is told."""
        missing = [measure for measure in MEASURES if measure not in self.measures]
        return {"mode": self.mode, "willing": self.is_willing, "measures": list(self.measures), "missing": missing}

    def user(self, slot: int, room: str) -> int | None:
        """The user id that a slot's jobs run as; None for the agent's own."""
        number = (int(room) if room.isdecimal() else 0) * 64 + slot
        return FIRST_USER + number % 4000 if self.other_user else None

    def policy(self, user: int | None, readable: Sequence[Path], writable: Sequence[Path]) -> dict[str, Any]:
        """What `worker.confine` is told of an attempt.

        Args:
            user: the id to become; None for the agent's own.
            readable: files and folders to read, besides the libraries.
            writable: folders to write in.
        """
        seen = [] if "processes" in self.measures else [*_PROC]
        return {
            "measures": list(self.measures),
            "user": user,
            "groups": _groups(),
            "readable": [*_SYSTEM, *_libraries(), *seen, *map(str, readable)],
            "listable": [str(_tree())],
            "writable": [str(path) for path in writable],
            "devices": [str(path) for pattern in _DEVICES for path in sorted(Path("/dev").glob(pattern))],
            "limits": self._limits(),
            "loopback": self.sockets,
            "forks": self.sockets,
            "named": ["/proc/self/task"] if self.sockets else [],  # drivers of accelerators name their threads there
        }

    def _limits(self) -> dict[str, int]:
        threads = 1024 + 64 * (os.cpu_count() or 1)
        memory = self.memory_bytes + GIB  # the watch comes first: it can say what happened
        return {"RLIMIT_DATA": memory, "RLIMIT_NPROC": threads, "RLIMIT_NOFILE": MOST_FILES, "RLIMIT_FSIZE": LARGEST_FILE,
                "RLIMIT_CORE": 0}  # fmt: skip


async def explore(settings: Settings, platform: str, memory_bytes: int) -> Containment:
    """Find out what can be done here. With `code` off nothing is tried.

    Args:
        settings: the operator's.
        platform: of the devices.
        memory_bytes: of the host.
    """
    share = int(memory_bytes * 0.8 / settings.slots)
    memory = int(settings.code_memory_gib * GIB) if settings.code_memory_gib is not None else share
    sockets = platform != "cpu"
    times = (settings.code_start_seconds, settings.code_wall_seconds)
    everything = Containment(settings.code, MEASURES, os.geteuid() == 0, memory, *times, sockets=sockets)
    if settings.code == "off":
        return Containment("off", (), other_user=False, memory_bytes=memory, start_seconds=0, wall_seconds=0, sockets=sockets)
    measures = await _probe(everything)
    other_user = os.geteuid() == 0 and "user" in measures
    if "user" not in measures:  # the new user may not even be allowed to reach Python
        measures = await _probe(Containment(settings.code, MEASURES, False, memory, *times, sockets=sockets))  # noqa: FBT003
    return Containment(settings.code, measures, other_user, memory, *times, sockets=sockets)


async def _probe(wanted: Containment) -> tuple[str, ...]:
    policy = wanted.policy(FIRST_USER if wanted.other_user else None, [], [])
    process = await asyncio.create_subprocess_exec(
        *LAUNCHER,
        "--probe",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment(os.environ, Path("/")),
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            output, _ = await process.communicate(json.dumps(policy).encode())
        return tuple(json.loads(output))
    except (TimeoutError, ValueError):
        return ()


def environment(agents: Mapping[str, str], home: Path) -> dict[str, str]:
    """All that contained code finds in its environment: what libraries need, and nothing that could be a secret.

    Args:
        agents: the agent's.
        home: a folder of its own.
    """
    kept = {name: text for name, text in agents.items() if name.startswith(_KEPT)}
    own = {"HOME": str(home), "TMPDIR": str(home), "XDG_CACHE_HOME": str(home)}
    return kept | own | OF_PYTHON | {"PYTHONDONTWRITEBYTECODE": "1"}


def _tree() -> Path:
    """The folder that holds this project's packages."""
    return Path(__file__).resolve().parents[1]


def _libraries() -> list[str]:
    tree = _tree()
    places = [Path(entry).resolve() for entry in (sys.prefix, sys.base_prefix, *sys.path) if entry]
    return [str(path) for path in dict.fromkeys([*places, tree / "jobs", tree / "worker"]) if path not in (tree, Path.cwd())]


def _groups() -> list[int]:
    """Groups that may open the accelerators."""
    nodes = [
        *Path("/dev/dri").glob("render*"),
        *Path("/dev").glob("kfd"),
        *Path("/dev").glob("nvidia*"),
        *Path("/dev").glob("accel*"),
        *Path("/dev").glob("vfio/*"),
    ]
    return sorted({node.stat().st_gid for node in nodes} - {0})
