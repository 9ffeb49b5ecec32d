"""The agent's side of a child: starting it, talking with it, and making sure that it is gone.

A child leads a session of its own, so that one signal reaches everything it has started. `wait` gives an `Exit` only when no
process of its group is left: then its devices are free.
"""

from __future__ import annotations

import asyncio
import codecs
import fcntl
import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.channel import MARK_BYTES, encode
from worker.messages import Heard, Misspoken, read

MOST_LINE_BYTES = 64 * 1024 * 1024
MOST_LOG_LINE = 64 * 1024
MOST_STEP = 2**53 - 1
CHUNK_BYTES = 256 * 1024
GONE_SECONDS = 10.0
END_OF_FILE_SECONDS = 5.0


@dataclass(frozen=True)
class Exit:
    """How a child's first process ended: an exit status, or minus the number of a signal."""

    returncode: int

    @property
    def signal_name(self) -> str | None:
        """`SIGKILL` and the like; None if no signal ended it."""
        if self.returncode >= 0:
            return None
        try:
            return signal.Signals(-self.returncode).name
        except ValueError:
            return f"signal {-self.returncode}"


OF_PYTHON = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", "PYTHONHASHSEED": "0"}
"""What Python is told in a child. A library that goes through a set adds up in the set's order: with another seed for hashes a
resumed run would differ in its last bits."""

FRACTIONS = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
"""The names under which JAX is told what part of a GPU's memory it takes; both at once it refuses."""

MEMORY_FRACTION = "0.9"
"""A device belongs to one child: it may have more than the three quarters that JAX takes unasked."""

DETERMINISTIC = "--xla_gpu_deterministic_ops"
"""No sums in an order that differs from run to run, and no kernel chosen by the clock."""


def clean_environment(environment: Mapping[str, str], platform: str | None) -> dict[str, str]:
    """What a child may know of the agent's environment: everything but this project's own settings, the key among them.

    Nor does it hear of OpenTelemetry: a child speaks to its agent alone, and such variables may hold keys, too.

    Args:
        environment: the agent's.
        platform: JAX platform to choose; None leaves the choice to JAX.
    """
    kept = {name: text for name, text in environment.items() if not name.startswith(("MESHYARD_", "OTEL_"))}
    kept |= OF_PYTHON
    if platform is not None:  # callbacks, as `debug.print` makes them, compute on the CPU
        kept["JAX_PLATFORMS"] = platform if "cpu" in platform.split(",") else f"{platform},cpu"
    if not any(name in kept for name in FRACTIONS):
        kept[FRACTIONS[0]] = MEMORY_FRACTION
    return kept


def reproducible(environment: Mapping[str, str], platform: str) -> dict[str, str]:
    """The same environment, in which programs give the same bits every time: XLA's for GPUs do not unless they are told to.

    Args:
        environment: of children; flags of XLA that an operator has set there stay.
        platform: of the devices.
    """
    flags = environment.get("XLA_FLAGS", "")
    if platform != "gpu" or DETERMINISTIC in flags:
        return dict(environment)
    return {**environment, "XLA_FLAGS": f"{flags} {DETERMINISTIC}=true".strip()}


class Launcher:
    """Starts children.

    Args:
        command: program and arguments; the two ends of the channel are appended as file descriptors.
        environment: all that a child finds in its environment.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = tuple(command)
        self._environment = dict(environment)

    def behind(self, program: Sequence[str], environment: Callable[[Mapping[str, str]], dict[str, str]]) -> Launcher:
        """A launcher of the same program by way of another, which starts it when it is ready.

        Args:
            program: the other program; ours and the file descriptors are appended.
            environment: makes its environment of ours.
        """
        return Launcher([*program, *self._command], environment(self._environment))

    async def start(self) -> Child:
        """Start a child, which waits for its `start` message. Call it from the main thread alone.

        The kernel kills a child that asked for it (PR_SET_PDEATHSIG) when the thread that started it ends: no thread of a pool may.

        Raises:
            OSError: the program cannot be started.
        """
        their_reader, our_writer = os.pipe()
        our_reader, their_writer = os.pipe()
        mark = os.memfd_create("mark", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(mark, MARK_BYTES)
        # Memory that no limit of the child counts: it must not grow.
        fcntl.fcntl(mark, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        try:
            process = subprocess.Popen(  # noqa: ASYNC220, S603  see above: another thread must not do it; the command is ours
                [*self._command, str(their_reader), str(their_writer), str(mark)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self._environment,
                pass_fds=(their_reader, their_writer, mark),
                start_new_session=True,
            )
        except OSError:
            for descriptor in (our_writer, our_reader, mark):
                os.close(descriptor)
            raise
        finally:
            os.close(their_reader)
            os.close(their_writer)
        return await Child.adopt(process, our_reader, our_writer, mark)


class Inlet:
    """What comes through a pipe, until its last writer or the agent closes it."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        self._reader = reader
        self._transport = transport
        self._ended = asyncio.Event()

    @classmethod
    async def open(cls, file: Any) -> Inlet:
        """Read from an open file, which becomes the inlet's own."""
        reader = asyncio.StreamReader(limit=CHUNK_BYTES)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
        return cls(reader, transport)

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Give what comes, as it comes."""
        try:
            while chunk := await self._reader.read(CHUNK_BYTES):
                yield chunk
        finally:
            self._ended.set()

    async def end(self, seconds: float) -> None:
        """Stop reading once the end has been reached, or no writer has closed it in that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        self.close()

    def close(self) -> None:
        """Stop reading now."""
        self._ended.set()
        self._transport.close()


class Child:
    """One process below the agent, with all that it starts. Made by `Launcher.start`."""

    def __init__(
        self, process: subprocess.Popen[bytes], messages: Inlet, log: Inlet, commands: asyncio.WriteTransport, mark: int
    ) -> None:
        self._process = process
        self._mark = mark
        self._reached = 0
        self._messages = messages
        self._log = log
        self._commands = commands
        self._reaped = False
        self._exit = asyncio.create_task(self._watch(os.pidfd_open(process.pid)))

    @classmethod
    async def adopt(cls, process: subprocess.Popen[bytes], reader: int, writer: int, mark: int) -> Child:
        """Take charge of a process that has just been started, of our ends of its channel, and of its mark."""
        loop = asyncio.get_running_loop()
        messages = await Inlet.open(os.fdopen(reader, "rb", buffering=0))
        log = await Inlet.open(process.stdout)
        commands, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writer, "wb", buffering=0))
        return cls(process, messages, log, commands, mark)

    @property
    def pid(self) -> int:
        """The first process, and the number of the group."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether its first process still runs."""
        return not self._exit.done() and not self._reaped

    @property
    def reached(self) -> int:
        """The step at which it ended, as its mark says; 0 while it runs, and where it never wrote one."""
        return self._reached

    def send(self, message: dict[str, Any]) -> None:
        """Send one message. It is kept until the child reads it; a child that is gone loses it."""
        if not self._commands.is_closing():
            self._commands.write(encode(message))

    async def messages(self) -> AsyncGenerator[Heard]:
        """Give what the child says, to its last word.

        Raises:
            Misspoken: a line is not a message.
        """
        rest = bytearray()
        async with aclosing(self._messages.chunks()) as chunks:
            async for chunk in chunks:
                rest += chunk
                *lines, last = rest.split(b"\n") if b"\n" in chunk else (rest,)
                for line in lines:
                    yield read(bytes(line))
                rest = last
                if len(rest) > MOST_LINE_BYTES:
                    raise Misspoken("line: longer than any message")

    async def log(self) -> AsyncGenerator[str]:
        """Give what the child has printed, whole and in order. Bytes that are no UTF-8 are replaced, endless lines broken."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        breaker = LineBreaker()
        async for chunk in self._log.chunks():
            yield breaker.feed(decoder.decode(chunk))
        yield breaker.feed(decoder.decode(b"", final=True))

    def dump_stacks(self) -> None:
        """Have the first process write where each of its threads stands into its log, even if it holds its interpreter."""
        if not self._reaped:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGUSR1)

    def kill(self) -> None:
        """End the child and all that it has started, at once."""
        if not self._reaped:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def wait(self) -> Exit:
        """Wait until the child and all of its group are gone."""
        return await asyncio.shield(self._exit)

    async def stop(self) -> Exit:
        """Kill it, and wait until it is gone."""
        self.kill()
        return await self.wait()

    def discard(self) -> None:
        """Read nothing more: whoever wanted to know has gone."""
        self._messages.close()
        self._log.close()

    async def _watch(self, pidfd: int) -> Exit:
        await _readable(pidfd)
        os.close(pidfd)
        # Until it is reaped, the dead leader keeps the group's number from being given to another.
        self.kill()
        self._reaped = True
        returncode = self._process.wait()
        self._reached = _step_in(self._mark)
        os.close(self._mark)
        await _group_gone(self.pid)
        self._commands.close()
        # A process that left the group may hold the pipes open for ever.
        await asyncio.gather(self._messages.end(END_OF_FILE_SECONDS), self._log.end(END_OF_FILE_SECONDS))
        return Exit(returncode)


class LineBreaker:
    """Puts a line break into lines that would grow without bound."""

    def __init__(self, most_characters: int = MOST_LOG_LINE) -> None:
        self._most = most_characters
        self._column = 0

    def feed(self, text: str) -> str:
        """The next piece of text, with breaks where they are needed."""
        if self._column + len(text) <= self._most:
            self._count(text)
            return text
        return "".join([self._broken(line) for line in text.splitlines(keepends=True)])

    def _broken(self, line: str) -> str:
        pieces: list[str] = []
        while self._column + len(line.rstrip("\n")) > self._most:
            room = self._most - self._column
            pieces.append(line[:room] + "\n")
            line = line[room:]
            self._column = 0
        self._count(line)
        return "".join([*pieces, line])

    def _count(self, text: str) -> None:
        _, newline, last = text.rpartition("\n")
        self._column = len(last) if newline else self._column + len(text)


def _step_in(mark: int) -> int:
    """The step in a mark. A child may write anything there, or cut it short: what is no step is none."""
    step = int.from_bytes(os.pread(mark, MARK_BYTES, 0), "little")
    return step if step <= MOST_STEP else 0


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, lambda: ready.done() or ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def _group_gone(group: int) -> None:
    """Wait until no process of the group runs. One that only waits to be reaped by its new parent holds nothing any more."""
    deadline = asyncio.get_running_loop().time() + GONE_SECONDS
    while _has_members(group) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110  the kernel tells nobody
        await asyncio.sleep(0.01)


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return any(_group_of_running(entry) == group for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _group_of_running(entry: Path) -> int | None:
    try:
        stat = (entry / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name, in brackets, may hold anything; behind it: state, parent, group.
    state, _, group = stat.rpartition(")")[2].split()[:3]
    return None if state in "ZX" else int(group)
