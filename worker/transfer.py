"""Bytes: their digests, and their way from and to the service. Hashing runs in threads, a file at a time."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import TypeVar

from jobs.errors import MeshyardError
from jobs.protocol import File
from worker.api import Refused, Service, Unreachable
from worker.backoff import persist

Item = TypeVar("Item")
Identity = tuple[int, int, int, int]

AT_ONCE = 8
CHUNK_BYTES = 1024 * 1024
PART = ".part"
MOST_CONFLICTS = 10


class Mismatch(MeshyardError):
    """A file is not what its manifest says."""


class Digests:
    """SHA-256 of files, remembered while a file stays the same one: device, inode, size and time of change."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[Identity, str]] = {}

    async def of(self, path: Path) -> str:
        """The digest of a file, computed when it is not known. Raises OSError."""
        identity = identity_of(path)
        known = self._known.get(path)
        if known is not None and known[0] == identity:
            return known[1]
        _, digest = await asyncio.to_thread(measure, path)
        self._known[path] = (identity, digest)
        return digest


def identity_of(path: Path) -> Identity:
    """What changes when a file is written or replaced. Raises OSError."""
    found = path.stat()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def measure(path: Path, *, durable: bool = False) -> tuple[int, str]:
    """Size and SHA-256 of a file; with `durable`, once the disk has it. Blocks. Raises OSError."""
    with path.open("rb") as file:
        return _measured(file, durable=durable)


def measure_plain(folder: Path, path: str, *, durable: bool) -> tuple[int, str]:
    """The same for a file that a child has written below `folder`, with no link on the way to it.

    A child may run code of a user. Through a link this process would read, and the service then give away, what that code may not
    see. The file, and the folders of a checkpoint, then belong to whom `folder` belongs: the child cannot change any more what has
    been measured, and the service can delete it.

    Raises:
        OSError: it cannot be read; a link is met.
        Mismatch: the path leads out of the folder.
    """
    *above, name = below(Path(), path).parts
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    owner = os.fstat(place)
    try:
        for depth, part in enumerate(above):
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place)
            os.close(place)
            place = inner
            if depth and above[0] == "checkpoints":  # of these nothing more is written; outputs go on being
                _give(place, owner)
        with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Mismatch(f"{path!r} is no plain file")
            _give(file.fileno(), owner)
            return _measured(file, durable=durable)
    finally:
        os.close(place)


def _give(descriptor: int, owner: os.stat_result) -> None:
    """Let a file or folder belong to its owner again, where it was written as another user."""
    found = os.fstat(descriptor)
    if os.geteuid() == 0 and found.st_uid != owner.st_uid:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _measured(file: BufferedReader, *, durable: bool) -> tuple[int, str]:
    with file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
        if durable:
            os.fsync(file.fileno())
    return size, digest


def files_below(folder: Path) -> list[str]:
    """Every plain file below a folder, as relative POSIX paths in order."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def below(folder: Path, path: str) -> Path:
    """A path below a folder.

    Raises:
        Mismatch: it would lead out of it.
    """
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise Mismatch(f"{path!r} is no path below a folder")
    return folder.joinpath(*parts)


async def describe(directory: Path, folder: str, path: str, *, durable: bool) -> File:
    """A file of a manifest: of `folder` below the attempt's `directory`. Raises OSError, and Mismatch for a path that leads out."""
    size, digest = await asyncio.to_thread(measure_plain, directory, f"{folder}/{path}", durable=durable)
    return File(path=path, bytes=size, sha256=digest)


async def verify(source: Path, expected: File) -> None:
    """Read a whole file and compare.

    Raises:
        Mismatch: it is missing, or its size or digest is another.
    """
    try:
        found = await asyncio.to_thread(measure, source)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise Mismatch(f"{expected.path} is missing") from error
    if found != (expected.bytes, expected.sha256):
        raise Mismatch(f"{expected.path} does not match its digest")


async def for_each(items: Iterable[Item], action: Callable[[Item], Awaitable[None]]) -> None:
    """Await `action` on every item, a few at a time. The first error ends it all and is raised."""
    left = iter(items)

    async def work() -> None:
        for item in left:
            await action(item)

    tasks = [asyncio.create_task(work()) for _ in range(AT_ONCE)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def download(service: Service, address: str, target: Path, expected: File) -> None:
    """Fetch a file whole, going on where a broken connection left off, and only then give it its name.

    Args:
        service: where it is.
        address: its path there.
        target: where it goes; folders are made.
        expected: size and digest it must have.

    Raises:
        Mismatch: what came is something else, twice.
        Refused: the service does not give it.
        OSError: the disk would not have it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + PART)
    try:
        await _receive(service, address, part, expected)
    except Mismatch:
        # Once more from the start: the part may have been begun on bytes that a crash has spoilt.
        part.unlink(missing_ok=True)
        await _receive(service, address, part, expected)
    part.replace(target)


async def _receive(service: Service, address: str, part: Path, expected: File) -> None:
    await persist(lambda: _append(service, address, part, expected.bytes), f"download of {expected.path}")
    await verify(part, expected)


async def _append(service: Service, address: str, part: Path, size: int) -> None:
    """Fetch what is missing of a part. Raises Unreachable when the connection breaks, with what has come kept."""
    held = await asyncio.to_thread(_held, part, size)
    if held == size:
        return
    with part.open("ab") as file:
        async with service.content(address, held) as chunks:
            async for chunk in chunks:
                held += len(chunk)
                if held > size:
                    raise Mismatch(f"{address} is longer than it should be")
                await asyncio.to_thread(file.write, chunk)
    if held < size:
        raise Mismatch(f"{address} is shorter than it should be")


def _held(part: Path, size: int) -> int:
    """Bytes of a part, which is there afterwards; one that is too long begins anew."""
    part.touch()
    held = part.stat().st_size
    if held <= size:
        return held
    part.write_bytes(b"")
    return 0


async def upload(service: Service, attempt_id: str, fence: int, file: File, source: Path) -> None:
    """Send a file whole, going on where a broken connection left off.

    Args:
        service: where it goes.
        attempt_id: whose file it is.
        fence: the right to write it.
        file: path relative to the attempt's folder, size and digest.
        source: where it lies.

    Raises:
        AttemptSuperseded: the fence is stale.
        Refused: the service will not have it.
        OSError: it cannot be read.
    """
    sending = Sending(service, attempt_id, fence, file, source)
    await persist(sending.try_once, f"upload of {file.path}")


class Sending:
    """One file on its way to the service.

    Args:
        service: where it goes.
        attempt_id: whose file it is.
        fence: the right to write it.
        file: path relative to the attempt's folder, size and digest.
        source: where it lies.
    """

    def __init__(self, service: Service, attempt_id: str, fence: int, file: File, source: Path) -> None:
        self._service = service
        self._attempt_id = attempt_id
        self._fence = fence
        self._file = file
        self._source = source
        self._broken = False
        self._conflicts = 0

    async def try_once(self) -> None:
        """Send what is missing. Raises Unreachable while the file is not whole."""
        offset = await self._offset() if self._broken else 0
        if offset is None:
            return
        self._broken = True
        try:
            held = await self._service.upload(self._attempt_id, self._fence, self._file, offset, _content(self._source, offset))
        except Refused as error:
            self._bear(error)
            raise Unreachable(f"the upload stands elsewhere: {error}") from error
        if not held.complete:
            raise Unreachable(f"the service has {held.bytes} bytes of {self._file.bytes}")

    async def _offset(self) -> int | None:
        """Where to go on; None if the file is whole."""
        held = await self._service.uploaded(self._attempt_id, self._file)
        if held.complete:
            return None
        return held.bytes if held.bytes < self._file.bytes else 0

    def _bear(self, error: Refused) -> None:
        """Raise the refusal unless it may pass: a request of ours that was given up may still be writing on the other side."""
        self._conflicts += 1
        if error.status != 409 or self._conflicts > MOST_CONFLICTS:
            raise error


async def _content(source: Path, offset: int) -> AsyncGenerator[bytes]:
    with source.open("rb") as file:
        file.seek(offset)
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk


def is_refusal_of_bytes(error: Refused) -> bool:
    """Whether the service says that the bytes themselves are gone or spoilt, rather than that we may not have them."""
    return error.status in (404, 409, 410, 416, 422)
