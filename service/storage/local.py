"""The artifact store in a local folder, which workers may share.

A worker's child runs users' code and writes here, so nothing below the root is trusted: every path is walked name by name from the
root's descriptor without following links, and only plain files are opened. Unfinished uploads lie flat under `.parts/`, on the same
file system, so that a finished one takes its place by a rename.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from service.storage.store import CHUNK_BYTES, safe_key

PARTS = ".parts"
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a named pipe must not hang whoever opens it
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


class LocalStore:
    """A folder. See `Store` for what each method gives.

    Args:
        root: made if it is missing; may itself be a link.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.expanduser().absolute()
        (self._root / PARTS).mkdir(parents=True, exist_ok=True)

    def size(self, key: str) -> int | None:
        """Bytes of a plain file, None for anything else."""
        try:
            with self._parent(key) as (folder, name):
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno in ABSENT:
                return None
            raise
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def open(self, key: str, offset: int = 0) -> BinaryIO:
        """A stream from `offset` on. Raises FileNotFoundError."""
        try:
            with self._parent(key) as (folder, name):
                stream = _open_file(name, folder)
        except OSError as error:
            if error.errno in ABSENT:
                raise FileNotFoundError(errno.ENOENT, "no such file in the store", key) from error
            raise
        stream.seek(offset)
        return stream

    def read(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes in chunks. Raises FileNotFoundError at the first."""
        with self.open(key, offset) as stream:
            left = length
            while left is None or left > 0:
                chunk = stream.read(CHUNK_BYTES if left is None else min(left, CHUNK_BYTES))
                if not chunk:
                    return
                left = None if left is None else left - len(chunk)
                yield chunk

    def copy(self, source: str, target: str) -> None:
        """A hard link, or a copy where the file system has none."""
        temporary = f"{secrets.token_hex(16)}.copy"
        with self._parent(source) as (origin, name), self._parts() as parts:
            _open_file(name, origin).close()
            try:
                os.link(name, temporary, src_dir_fd=origin, dst_dir_fd=parts, follow_symlinks=False)
            except OSError:  # a file system without links
                self._copy_bytes(source, temporary, parts)
            try:
                self._place(parts, temporary, target)
            finally:
                # Renaming a name onto another name of the same file does nothing and leaves both.
                _forget(temporary, parts)

    def part(self, key: str) -> int | None:
        """Bytes received so far, None if nothing has begun."""
        with self._parts() as parts, suppress(FileNotFoundError):
            return os.stat(_part_name(key), dir_fd=parts, follow_symlinks=False).st_size
        return None

    def open_part(self, key: str) -> BinaryIO:
        """What has been received so far. Raises FileNotFoundError."""
        with self._parts() as parts:
            return _open_file(_part_name(key), parts)

    def append(self, key: str, offset: int, chunk: bytes) -> int:
        """Add a chunk where the upload stands. Raises ValueError elsewhere."""
        with self._parts() as parts:
            descriptor = os.open(_part_name(key), FILE_FLAGS | os.O_RDWR | os.O_CREAT, 0o644, dir_fd=parts)
        with os.fdopen(descriptor, "r+b", buffering=0) as stream:
            # Two requests may carry the same upload, the client having given one up: only one of them finds its offset.
            fcntl.flock(stream, fcntl.LOCK_EX)
            held = stream.seek(0, os.SEEK_END)
            if held != offset:
                raise ValueError(f"the upload stands at {held}, not at {offset}")
            return held + _write_all(stream, chunk)

    def commit(self, key: str, target: str | None = None) -> None:
        """Flush, rename, flush the folder: after that it survives a power cut."""
        name = _part_name(key)
        with self._parts() as parts:
            with _open_file(name, parts) as stream:
                os.fsync(stream.fileno())
            self._place(parts, name, target or key)

    def discard(self, key: str) -> None:
        """Remove what has been received."""
        with self._parts() as parts:
            _forget(_part_name(key), parts)

    def prune(self, older_than_seconds: float) -> int:
        """Remove what nobody has added to for long."""
        limit = time.time() - older_than_seconds
        # By the change of the inode: a name linked for a copy has its source's time of writing.
        stale = [entry.path for entry in os.scandir(self._root / PARTS) if entry.stat(follow_symlinks=False).st_ctime < limit]
        for path in stale:
            Path(path).unlink(missing_ok=True)
        return len(stale)

    def names(self, prefix: str) -> list[str]:
        """What lies directly below a folder; links are not followed."""
        try:
            with self._parent(prefix) as (folder, name):
                descriptor = os.open(name, FOLDER_FLAGS, dir_fd=folder)
                try:
                    return sorted(os.listdir(descriptor))  # noqa: PTH208  (a path would follow links)
                finally:
                    os.close(descriptor)
        except OSError as error:
            if error.errno not in ABSENT:
                raise
            return []

    def free_bytes(self) -> int | None:
        """What the file system has left for us."""
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize

    def delete(self, prefix: str) -> None:
        """Remove a file or a folder; links inside go, what they point to stays."""
        try:
            with self._parent(prefix) as (folder, name):
                _remove(name, folder)
        except OSError as error:
            if error.errno not in ABSENT:
                raise

    def shared_folder(self) -> Path | None:
        """The root."""
        return self._root

    def check(self) -> None:
        """Write a byte and take it back."""
        probe = f"check-{secrets.token_hex(16)}"
        self.append(probe, 0, b"here")
        self.discard(probe)

    @contextmanager
    def _parts(self) -> Generator[int]:
        descriptor = os.open(self._root / PARTS, FOLDER_FLAGS)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _parent(self, key: str, *, create: bool = False) -> Generator[tuple[int, str]]:
        """The open folder that holds `key`, and the last name of it."""
        *folders, name = safe_key(key).split("/")
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for folder in folders:
                deeper = _enter(folder, descriptor, create=create)
                os.close(descriptor)
                descriptor = deeper
            yield descriptor, name
        finally:
            os.close(descriptor)

    def _place(self, parts: int, name: str, target: str) -> None:
        with self._parent(target, create=True) as (folder, last):
            os.rename(name, last, src_dir_fd=parts, dst_dir_fd=folder)
            os.fsync(folder)

    def _copy_bytes(self, source: str, temporary: str, parts: int) -> None:
        descriptor = os.open(temporary, FILE_FLAGS | os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=parts)
        with os.fdopen(descriptor, "wb") as stream:
            for chunk in self.read(source):
                stream.write(chunk)
            stream.flush()
            os.fsync(descriptor)


def _part_name(key: str) -> str:
    return hashlib.sha256(safe_key(key).encode()).hexdigest()


def _open_file(name: str, folder: int) -> BinaryIO:
    descriptor = os.open(name, FILE_FLAGS | os.O_RDONLY, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "not a plain file", name)
    return os.fdopen(descriptor, "rb")


def _enter(name: str, folder: int, *, create: bool) -> int:
    try:
        return os.open(name, FOLDER_FLAGS, dir_fd=folder)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
        os.fsync(folder)
    return os.open(name, FOLDER_FLAGS, dir_fd=folder)


def _write_all(stream: BinaryIO, chunk: bytes) -> int:
    view = memoryview(chunk)
    while view:
        view = view[stream.write(view) :]
    return len(chunk)


def _forget(name: str, folder: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _remove(name: str, folder: int) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        shutil.rmtree(name, dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)
