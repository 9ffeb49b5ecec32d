"""A seccomp filter in the kernel's own small language, and the one network interface that code on accelerators may need."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ARCH_AT, NUMBER_AT, FIRST_ARGUMENT_AT = 4, 0, 16
X32_BIT = 0x40000000
FAMILIES = (2, 10, 16)
"""AF_INET, AF_INET6, AF_NETLINK: what a collective library on one machine asks for."""

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SOCKET = {"x86_64": 41, "aarch64": 198}
_DENIED: dict[str, tuple[int, int]] = {
    # call: (x86_64, aarch64); -1 where there is none
    # memory that belongs to no process, and that no limit of one would count
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "swapon": (167, 224),
    "reboot": (169, 142),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "perf_event_open": (298, 241),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "personality": (135, 92),
}
_CLONE3, _CLONE_THREAD = 435, 0x10000
_CLONE = {"x86_64": 56, "aarch64": 220}
_FORKS = {"x86_64": (57, 58), "aarch64": ()}
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def install(*, sockets: bool, forks: bool) -> None:
    """Refuse the calls above to this process and all that it starts, for good.

    Args:
        sockets: allow sockets of the internet families, where the process has a network of its own.
        forks: allow other processes to be started, and memory that belongs to none, as drivers of accelerators and their compilers
            ask for; threads may be started in any case.

    Raises:
        OSError: the kernel has no such filters, or this kind of processor is not known here.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"seccomp: no filter for {machine}")
    program = b"".join(_program(machine, sockets=sockets, forks=forks))
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")


def _program(machine: str, *, sockets: bool, forks: bool) -> list[bytes]:
    refused = ERRNO | errno.EPERM
    at = 0 if machine == "x86_64" else 1
    steps = [_step(LOAD, ARCH_AT), _step(JUMP_EQUAL, _ARCHITECTURES[machine], 1, 0), _step(RETURN, KILL), _step(LOAD, NUMBER_AT)]
    if machine == "x86_64":
        steps += [_step(JUMP_AT_LEAST, X32_BIT, 0, 1), _step(RETURN, refused)]
    for call, numbers in _DENIED.items():
        if forks and call == "memfd_create":
            continue
        steps += [_step(JUMP_EQUAL, numbers[at], 0, 1), _step(RETURN, refused)]
    # Its flags lie in memory, where no filter can look. Libraries fall back to clone, whose flags for namespaces need rights.
    steps += [_step(JUMP_EQUAL, _CLONE3, 0, 1), _step(RETURN, ERRNO | errno.ENOSYS)]
    if not forks:
        for number in _FORKS[machine]:
            steps += [_step(JUMP_EQUAL, number, 0, 1), _step(RETURN, refused)]
        thread = [
            _step(LOAD, FIRST_ARGUMENT_AT),
            _step(JUMP_SET, _CLONE_THREAD, 1, 0),
            _step(RETURN, refused),
            _step(RETURN, ALLOW),
        ]
        steps += [_step(JUMP_EQUAL, _CLONE[machine], 0, len(thread)), *thread]
    if not sockets:
        return [*steps, _step(JUMP_EQUAL, _SOCKET[machine], 0, 1), _step(RETURN, refused), _step(RETURN, ALLOW)]
    steps += [_step(JUMP_EQUAL, _SOCKET[machine], 1, 0), _step(RETURN, ALLOW), _step(LOAD, FIRST_ARGUMENT_AT)]
    for family in FAMILIES:
        steps += [_step(JUMP_EQUAL, family, 0, 1), _step(RETURN, ALLOW)]
    return [*steps, _step(RETURN, refused)]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def raise_loopback() -> None:
    """Bring up the loopback interface of this network namespace. Raises OSError."""
    import fcntl  # noqa: PLC0415  (needed on accelerators alone)
    import socket  # noqa: PLC0415

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        request = bytearray(struct.pack("16sH22x", b"lo", 0))
        fcntl.ioctl(found, _SIOCGIFFLAGS, request)
        (flags,) = struct.unpack_from("H", request, 16)
        struct.pack_into("H", request, 16, flags | _IFF_UP)
        fcntl.ioctl(found, _SIOCSIFFLAGS, request)
