"""From an upload to the files in it: bounded in number, size and depth, plain files below one folder and nothing else.

The service reads an upload to check it; a worker's agent reads the same bytes again before it writes them to disk. Nothing is
trusted but what is read here: sizes that an archive claims are never believed, its links and devices are refused.
"""

from __future__ import annotations

import gzip
import io
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath

from jobs.spec.bundle.facts import refused
from jobs.spec.pointers import quoted

MOST_FILES = 1000
DEEPEST = 16
LONGEST_PATH = 200
MOST_FILE_BYTES = 4 * 1024 * 1024
MOST_BYTES = 32 * 1024 * 1024
"""Of all files, unpacked."""

DEFAULT_MODULE = "main"
"""What a single Python file is called where nothing else is said."""

_PER_ENTRY_BYTES = 4096
_FORBIDDEN = (".so", ".pyd", ".dll", ".dylib", ".pkl", ".pickle", ".pth", ".egg", ".whl")
_LEFT_OUT_FOLDERS = frozenset({"__pycache__", "__MACOSX", ".git"})
_LEFT_OUT = (".pyc", ".pyo", ".DS_Store")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\:]")

Files = dict[str, bytes]


def read_files(content: bytes, module: str = DEFAULT_MODULE) -> Files:
    """The files of an upload by relative path, in order.

    Args:
        content: a zip, a tar.gz, or one Python file.
        module: what a single file is called.

    Raises:
        BundleInvalid: it is broken, over a limit, or holds what no bundle may.
    """
    if not content:
        raise refused("empty", "the body is empty: send a zip, a tar.gz or a Python file")
    if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        found = _collect(_from_zip(content))
    elif content.startswith(b"\x1f\x8b"):
        found = _collect(_from_tar(content))
    else:
        found = _collect(iter([(f"{module}.py", content)]))
    if not any(path.endswith(".py") for path in found):
        raise refused("empty", "the bundle holds no Python file")
    return dict(sorted(found.items()))


def _collect(entries: Iterator[tuple[str, bytes]]) -> Files:
    found: Files = {}
    folders: set[str] = set()
    total = 0
    for path, content in entries:
        total += len(content)
        if total > MOST_BYTES:
            raise refused("too_large", f"the bundle unpacks to more than {MOST_BYTES} bytes")
        if path in found or path in folders:
            raise refused("repeated", f"{quoted(path)} stands twice in the bundle")
        above = {str(parent) for parent in PurePosixPath(path).parents} - {"."}
        if not above.isdisjoint(found):
            raise refused("repeated", f"{quoted(path)} lies below a file of the bundle")
        folders |= above
        found[path] = content
        if len(found) > MOST_FILES:
            raise refused("too_many", f"the bundle holds more than {MOST_FILES} files")
    return found


def _from_zip(content: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > 4 * MOST_FILES:
                raise refused("too_many", f"the bundle holds more than {MOST_FILES} files")
            for member in members:
                path = _path(member.filename, is_folder=member.is_dir())
                if path is None:
                    continue
                _refuse_special_zip(member, path)
                with archive.open(member) as stream:
                    yield path, _bounded(stream.read(MOST_FILE_BYTES + 1), path)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError, OverflowError):
        # ValueError: the standard library's answer to some headers that contradict themselves. RuntimeError: a password.
        raise refused("broken", "the zip archive is broken: pack it anew") from None


def _refuse_special_zip(member: zipfile.ZipInfo, path: str) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise refused("special_file", f"{quoted(path)} is a link or another special file; a bundle holds plain files alone")
    if member.flag_bits & 0x1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise refused("broken", f"{quoted(path)} is encrypted or packed in an unusual way; use plain zip")


def _from_tar(content: bytes) -> Iterator[tuple[str, bytes]]:
    # Unpacked in one bounded piece first: skipping over a huge member would cost the time of unpacking it.
    most = MOST_BYTES + MOST_FILES * _PER_ENTRY_BYTES
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            plain = stream.read(most + 1)
        if len(plain) > most:
            raise refused("too_large", f"the bundle unpacks to more than {MOST_BYTES} bytes")
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            for member in archive:
                path = _path(member.name, is_folder=member.isdir())
                if path is None:
                    continue
                if not member.isreg() or member.issparse():
                    raise refused("special_file", f"{quoted(path)} is a link or another special file; a bundle holds plain files")
                file = archive.extractfile(member)
                yield path, _bounded(file.read(MOST_FILE_BYTES + 1) if file is not None else b"", path)
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, OverflowError):
        raise refused("broken", "the archive is no sound tar.gz: pack it anew") from None


def _bounded(content: bytes, path: str) -> bytes:
    if len(content) > MOST_FILE_BYTES:
        raise refused("too_large", f"{quoted(path)} has more than {MOST_FILE_BYTES} bytes")
    return content


def _path(name: str, *, is_folder: bool) -> str | None:
    """A member's path if it belongs to the bundle; None for folders and for what tools leave lying about."""
    parts = [part for part in name.removeprefix("./").split("/") if not (is_folder and not part)]
    if is_folder and all(part == "." for part in parts):
        return None
    if name.startswith("/") or _CONTROL.search(name) or not all(part not in ("", ".", "..") for part in parts):
        raise refused("bad_path", f"{quoted(name)} is no path of plain names below the bundle")
    if len(parts) > DEEPEST or len(name.encode("utf-8", "replace")) > LONGEST_PATH:
        raise refused("bad_path", f"a path of the bundle is more than {DEEPEST} folders deep or {LONGEST_PATH} bytes long")
    if not name.isprintable():
        raise refused("bad_path", f"{quoted(name)} holds characters that cannot be shown")
    if is_folder or not _LEFT_OUT_FOLDERS.isdisjoint(parts) or name.endswith(_LEFT_OUT):
        return None
    if name.lower().endswith(_FORBIDDEN):
        raise refused(
            "forbidden_file", f"{quoted(name)}: a bundle holds no compiled code and no pickles, only source and small data"
        )
    return "/".join(parts)
