"""NumPy archives (`.npz`), read without pickle and without trusting what the zip says of itself."""

from __future__ import annotations

import lzma
import math
import struct
import zipfile
import zlib
from typing import IO, Any, BinaryIO

import numpy as np

from jobs.spec.dataset import ColumnFacts
from service.domain.inspection.columns import Facts, Span, brief, check_names, check_rows, refuse, shown

MAX_MEMBERS = 1000
DIRECTORY_BYTES = 512 * MAX_MEMBERS
HEADER_BYTES = 4096
BLOCK_ITEMS = 512 * 1024
END_BYTES = 22
LOCATOR_BYTES = 20
RECORD_BYTES = 56
COMMENT_BYTES = 65_535
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    SyntaxError,
    RuntimeError,
    MemoryError,
)
"""What zipfile and NumPy raise for a damaged file."""


def inspect_arrays(stream: BinaryIO, unpacked_bytes: int) -> Facts:
    """Read every array of an archive through, which checks each member's CRC.

    Args:
        stream: the file, seekable.
        unpacked_bytes: the most that all members may hold together.

    Raises:
        DatasetInvalid: damaged, too large, holding objects, or empty.
    """
    try:
        _check_directory(stream)
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            _check_members(members, unpacked_bytes)
            columns = [_read_member(archive, member) for member in members]
    except BROKEN as error:
        raise refuse(f"The file is not a sound .npz archive: {brief(error)}.") from error
    return Facts(rows=_rows(columns), columns=columns)


def _rows(columns: list[ColumnFacts]) -> int | None:
    lengths = {column.shape[0] if column.shape else None for column in columns}
    rows = lengths.pop() if len(lengths) == 1 else None
    if rows is not None:
        check_rows(rows)
    return rows


def _check_directory(stream: BinaryIO) -> None:
    """Refuse a long list of members before `zipfile` makes an object of each."""
    start = max(0, stream.seek(0, 2) - END_BYTES - COMMENT_BYTES)
    stream.seek(start)
    tail = stream.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + END_BYTES:
        raise refuse("The file is not a .npz archive, or its end is missing.")
    (directory,) = struct.unpack_from("<I", tail, end + 12)
    if end >= LOCATOR_BYTES and tail[end - LOCATOR_BYTES :].startswith(b"PK\x06\x07"):
        directory = _large_directory(stream, start + end - LOCATOR_BYTES)
    if directory > DIRECTORY_BYTES:
        raise refuse(f"The archive lists too much; at most {MAX_MEMBERS} arrays are allowed.")
    stream.seek(0)


def _large_directory(stream: BinaryIO, locator: int) -> int:
    """Size of the list of members where the archive is larger than 4 GiB, and the size stands in a record before the locator."""
    record = locator - RECORD_BYTES
    stream.seek(max(0, record))
    content = stream.read(RECORD_BYTES + LOCATOR_BYTES)
    (stated,) = struct.unpack_from("<Q", content, RECORD_BYTES + 8)
    if stated != record or not content.startswith(b"PK\x06\x06"):
        raise refuse("The archive's end does not hold together.")
    (directory,) = struct.unpack_from("<Q", content, 40)
    return int(directory)


def _check_members(members: list[zipfile.ZipInfo], unpacked_bytes: int) -> None:
    if not members:
        raise refuse("The archive holds no arrays.")
    if len(members) > MAX_MEMBERS:
        raise refuse(f"The archive holds {len(members)} arrays; at most {MAX_MEMBERS} are allowed.")
    if sum(member.file_size for member in members) > unpacked_bytes:
        raise refuse(f"The archive unpacks to more than {unpacked_bytes} bytes.")
    check_names([member.filename.removesuffix(".npy") for member in members])
    for member in members:
        if not member.filename.endswith(".npy"):
            raise refuse(f"The member {shown(member.filename)} is not an array; save with numpy.savez.")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> ColumnFacts:
    name = member.filename.removesuffix(".npy")
    with archive.open(member) as stream:
        shape, dtype = _header(stream, name)
        count = math.prod(shape)
        if stream.tell() + count * dtype.itemsize != member.file_size:
            raise refuse(f"The array {shown(name)} does not have the bytes that its header says.")
        if count == 0:
            raise refuse(f"The array {shown(name)} is empty.")
        if dtype.kind in "US":
            _skip(stream)
            return ColumnFacts(name, "string", shape)
        span = _span(stream, dtype, math.prod(shape[1:]))
    rows = (span.minimum_row, span.maximum_row, span.nan_row)
    return ColumnFacts(name, dtype.name, shape, span.minimum, span.maximum, span.nans, *rows)


def _header(stream: IO[bytes], name: str) -> tuple[list[int], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise refuse(f"The array {shown(name)} is of a kind that is not supported; save plain numeric arrays.")
    shape, _, dtype = readers[version](stream, max_header_size=HEADER_BYTES)
    if dtype.hasobject or dtype.kind not in "biufUS" or dtype.itemsize == 0 or (dtype.kind == "f" and dtype.itemsize > 8):
        raise refuse(
            f"The array {shown(name)} has dtype {dtype}; only booleans, integers, floats and fixed-width strings are read."
        )
    if any(length < 0 for length in shape):
        raise refuse(f"The array {shown(name)} has a negative length.")
    return list(shape), dtype


def _span(stream: IO[bytes], dtype: np.dtype[Any], width: int) -> Span:
    """What the values of an array span. `width`: how many a row has."""
    span, before = Span(), 0
    while block := stream.read(BLOCK_ITEMS * dtype.itemsize):
        values = np.frombuffer(block, dtype)
        span.add(values, lambda place, before=before: (before + place) // width + 1)
        before += len(values)
    return span


def _skip(stream: IO[bytes]) -> None:
    while stream.read(BLOCK_ITEMS):
        pass
