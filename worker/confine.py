"""The last thing that runs before a user's code does: it gives up, one after another, what that code must not have.

    python -m worker.confine PROGRAM … READER WRITER MARK     waits for a policy on READER, confines itself, becomes PROGRAM
    python -m worker.confine --probe                          reads a policy from standard input, tells which measures it could take

What it takes away, as far as the system lets it:

    processes   a process namespace with a /proc of its own: whatever is started inside dies with the first process
    network     a network namespace without a single interface
    files       Landlock: nothing but what the policy names can be opened, and only its folders written
    user        another user id, without groups and capabilities; else a user namespace, in which this process owns nothing more
    calls       a seccomp filter: no sockets, no tracing of others, no namespaces, mounts, modules, io_uring, keys
    limits      memory, processes, open files, file size

The standard library alone is used here, and one thread: most of these calls are for the calling thread only.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from worker import filters

Policy = dict[str, Any]
"""`user`: id to become, or null. `groups`: of the devices. `readable`, `listable`, `writable`, `devices`, `named`: paths. `limits`:
by name of RLIMIT. `loopback`: whether sockets are allowed within a network of its own. `forks`: whether further processes may be
started. `measures`: which to take; each must succeed."""

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
SYS_LANDLOCK_CREATE_RULESET, SYS_LANDLOCK_ADD_RULE, SYS_LANDLOCK_RESTRICT_SELF = 444, 445, 446
O_PATH = 0o10000000
CANNOT = 97
"""Exit status of a launcher that could not take a measure it was told to take."""

NAMESPACED_PID_MAX = (6, 14)
"""From this kernel on the greatest process id is a namespace's own; before, it was the whole machine's."""

MOST_PROCESSES = 8192
MEASURES = ("processes", "network", "files", "user", "calls")

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL = 1, 2, 4, 8, 1 << 14, 1 << 15
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
_FS_OF_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_NEWEST_FS = (1 << 16) - 1
_SPECIAL = 1 << 6 | 1 << 11
"""Character and block devices: what no user's code has to make."""

_SIGNALLED = 128
_TRIAL = """
import ctypes, sys, threading
threading.Thread(target=print).start()
try:
    driver = ctypes.CDLL("libcuda.so.1")
except OSError:
    driver = None
if driver is not None and sys.argv[1:] == ["accelerated"]:
    sys.exit(driver.cuInit(0))
"""
_LIBC = ctypes.CDLL(None, use_errno=True)


class Failed(OSError):
    """A measure that the system does not let us take."""


def main(arguments: list[str]) -> None:
    """Probe, or confine this process and become another program."""
    if arguments[:1] == ["--probe"]:
        sys.stdout.write(json.dumps(probe(json.loads(sys.stdin.read()))) + "\n")
        return
    *program, reader, writer, mark = arguments
    policy = json.loads(_line(int(reader)))
    try:
        confine(policy, [int(reader), int(writer), int(mark)])
    except OSError as error:
        sys.stderr.write(f"this machine cannot contain the code: {error}\n")
        sys.exit(CANNOT)
    os.execv(program[0], [*program, reader, writer, mark])  # noqa: S606  (the program is the agent's)


def probe(policy: Policy) -> list[str]:
    """The measures that can be taken here, each tried together with those before it."""
    able: list[str] = []
    for measure in MEASURES:
        if _works(policy | {"measures": [*able, measure]}):
            able.append(measure)
    return able


def confine(policy: Policy, channel: Iterable[int] = ()) -> None:
    """Take every measure of a policy. Gives back in the process that goes on; those that stay behind end with it.

    Raises:
        OSError: one cannot be taken.
    """
    measures = policy["measures"]
    user: int | None = policy["user"]
    _check("no_new_privs", _LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _limit(policy["limits"])
    if "user" in measures and user is None:
        _enter_user_namespace()
    _unshare(CLONE_NEWIPC | CLONE_NEWNET if "network" in measures else 0)
    if "network" in measures and policy["loopback"]:
        filters.raise_loopback()
    if "processes" in measures:
        _enter_processes(channel)
    if "files" in measures:
        _restrict_files(policy)
    if "user" in measures and user is not None:
        _become(user, policy["groups"])
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of user clears it
    if "calls" in measures:
        filters.install(sockets=policy["loopback"] and "network" in measures, forks=policy["forks"])


def _works(policy: Policy) -> bool:
    """Whether a process can be confined so, and can still start Python."""
    pid = os.fork()
    if pid == 0:
        try:
            _silence()
            confine(policy)
            accelerated = ["accelerated"] if policy["loopback"] else []
            os.execv(sys.executable, [sys.executable, "-c", _TRIAL, *accelerated])  # noqa: S606  (ours)
        except BaseException:  # noqa: BLE001  (an edge: this process must not come back into its parent's code)
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def _silence() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)


def _line(reader: int) -> bytes:
    """One line, and not a byte more: the rest is for the program."""
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = os.read(reader, 1)
        if not piece:
            sys.exit(0)
        line += piece
    return bytes(line)


def _check(what: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise Failed(number, f"{what}: {os.strerror(number)}")
    return result


def _limit(limits: dict[str, int]) -> None:
    for name, most in limits.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (value, value))
    Path("/proc/self/oom_score_adj").write_text("1000")  # should memory run out, the kernel takes this one first


def _unshare(flags: int) -> None:
    if flags:
        _check("unshare", _LIBC.unshare(flags))


def _enter_user_namespace() -> None:
    """Be nobody else's equal: keep the id, lose every right over what is outside."""
    user, group = os.geteuid(), os.getegid()
    _unshare(CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _enter_processes(channel: Iterable[int]) -> None:
    """Go on as the second process of a namespace; the first reaps, and with it everything inside ends."""
    _unshare(CLONE_NEWPID | CLONE_NEWNS)
    _stay_behind(channel)
    _check("private mounts", _LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    _check("mount of /proc", _LIBC.mount(b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None))
    if _kernel() >= NAMESPACED_PID_MAX:
        Path("/proc/sys/kernel/pid_max").write_text(str(MOST_PROCESSES))
    _stay_behind(channel)


def _kernel() -> tuple[int, int]:
    first, second = (int("".join(filter(str.isdigit, part)) or 0) for part in os.uname().release.split(".")[:2])
    return first, second


def _stay_behind(channel: Iterable[int]) -> None:
    """Fork. The parent waits for its child, then ends as it did; it keeps no end of the channel open meanwhile."""
    pid = os.fork()
    if pid == 0:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        return
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    for descriptor in channel:
        os.close(descriptor)
    _end_as(_wait(pid))


def _wait(pid: int) -> int:
    """The status of one child; others that end meanwhile are reaped."""
    while True:
        found, status = os.waitpid(-1, 0)
        if found == pid:
            return status


def _end_as(status: int) -> NoReturn:
    # The first process of a namespace does not die of signals that it sends itself: it tells of one by a status above 128.
    code = os.WTERMSIG(status) + _SIGNALLED if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    if _SIGNALLED < code < _SIGNALLED + signal.NSIG:
        number = code - _SIGNALLED
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(code)


def _become(user: int, groups: list[int]) -> None:
    os.setgroups(groups)
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _restrict_files(policy: Policy) -> None:
    """Landlock, as much of it as this kernel has."""
    abi = _check("landlock", _LIBC.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, 1))
    handled = _FS_OF_ABI.get(abi, _NEWEST_FS)
    net = 3 if abi >= 4 and not policy["loopback"] else 0
    scoped = 3 if abi >= 6 else 0
    attributes = struct.pack("=QQQ", handled, net, scoped)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = _check("landlock", _LIBC.syscall(SYS_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0))
    rights: list[tuple[str, int]] = [
        ("readable", _READ_FILE | _READ_DIR | _EXECUTE),
        ("listable", _READ_DIR),
        ("writable", _NEWEST_FS & ~_EXECUTE & ~_SPECIAL),
        ("devices", _READ_FILE | _WRITE_FILE | _READ_DIR | _IOCTL),
        ("named", _READ_FILE | _WRITE_FILE | _TRUNCATE | _READ_DIR),
    ]
    for name, allowed in rights:
        for path in [*policy[name], *(["/proc"] if name == "readable" and "processes" in policy["measures"] else [])]:
            _allow(ruleset, path, allowed & handled)
    _check("landlock", _LIBC.syscall(SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _allow(ruleset: int, path: str, allowed: int) -> None:
    try:
        descriptor = os.open(path, O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there need not be allowed
    if not Path(path).is_dir():
        allowed &= _ON_FILES
    rule = struct.pack("=Qi", allowed, descriptor)
    _check(f"landlock of {path}", _LIBC.syscall(SYS_LANDLOCK_ADD_RULE, ruleset, 1, rule, 0))
    os.close(descriptor)


if __name__ == "__main__":
    main(sys.argv[1:])
