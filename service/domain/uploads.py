"""Files from workers that do not share the artifact folder: sent in parts, resumed where they stand, kept once whole."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from jobs.protocol import Uploaded
from service.context import Context
from service.db.queries import checkpoints, uploads
from service.db.queries.uploads import Holder, Upload
from service.db.transaction import Read, Write
from service.domain.errors import Conflict, Invalid, NotFound, Superseded
from service.domain.room import require_room
from service.storage.store import CHUNK_BYTES, Store, safe_key

PART = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})", re.ASCII)
PLACE = re.compile(r"(?:checkpoints/(0|[1-9]\d{0,15})|outputs)/.+", re.ASCII | re.DOTALL)
LONGEST_PATH = 1024


@dataclass(frozen=True)
class Part:
    """Where the bytes of a request belong: from `start` up to but not including `stop`, of `total`. None: to be seen."""

    start: int = 0
    stop: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class Sending:
    """One request's worth of an upload: who sends what, under which fence."""

    key_id: str | None
    attempt_id: str
    fence: int
    path: str
    sha256: str
    part: Part


@dataclass(frozen=True)
class Standing:
    """How far an upload has come."""

    bytes: int
    complete: bool


def part_of(content_range: str | None) -> Part:
    """Read a `Content-Range` header; without one the request carries the whole file.

    Raises:
        Invalid: it is not `bytes first-last/total`.
    """
    if content_range is None:
        return Part()
    match = PART.fullmatch(content_range.strip())
    first, last, total = (int(number) for number in match.groups()) if match else (0, 0, 0)
    if not first <= last < total:
        raise Invalid("Content-Range must be `bytes first-last/total`.")
    return Part(first, last + 1, total)


def _holder(connection: Connection, key_id: str | None, attempt_id: str) -> Holder:
    holder = uploads.holder(connection, attempt_id, key_id)
    if holder is None:
        raise NotFound("There is no such attempt.")
    return holder


def _key(holder: Holder, attempt_id: str, path: str) -> str:
    try:
        key = safe_key("jobs", holder.job_id, attempt_id, path)
    except ValueError:
        key = None
    if key is None or len(path) > LONGEST_PATH or not PLACE.fullmatch(path):
        raise Invalid("The path must be one of plain names below checkpoints/{step}/ or outputs/.")
    return key


def standing(context: Context, key_id: str | None, attempt_id: str, path: str) -> Standing:
    """How far an upload has come.

    Raises:
        NotFound: no such attempt.
        Invalid: an impossible path.
    """
    with Read(context.database) as read:
        key = _key(_holder(read.connection, key_id, attempt_id), attempt_id, path)
        whole = uploads.get(read.connection, key)
    part = context.store.part(key)
    if whole is not None and part is None:
        return Standing(whole.bytes, complete=True)
    return Standing(part or 0, complete=False)


def begin(context: Context, sending: Sending) -> Transfer | Uploaded:
    """Make ready to receive; where the same file is there already there is nothing to receive.

    Raises:
        NotFound: no such attempt.
        Superseded: the fence is stale.
        Invalid: an impossible path.
        Conflict: the upload stands elsewhere, or the file is part of a checkpoint that is listed.
        StorageFull: there is too little room; what has come stays.
    """
    with Read(context.database) as read:
        holder = _current(read.connection, sending)
        key = _key(holder, sending.attempt_id, sending.path)
        whole = uploads.get(read.connection, key)
        listed = _is_listed(read.connection, holder, sending)
    if whole is not None and whole.sha256 == sending.sha256:
        return Uploaded(bytes=whole.bytes, complete=True)
    if listed:
        raise Conflict("This file is part of a checkpoint that is listed; it cannot be replaced.")
    require_room(context)
    if sending.part.start == 0:
        context.store.discard(key)
    elif (held := context.store.part(key) or 0) != sending.part.start:
        raise Conflict(f"The upload stands at {held}, not at {sending.part.start}; go on from there.")
    return Transfer(context, sending, key)


def _current(connection: Connection, sending: Sending) -> Holder:
    """The attempt that sends. Raises Superseded unless it holds its job, under this fence."""
    holder = _holder(connection, sending.key_id, sending.attempt_id)
    if not holder.current or holder.fence != sending.fence:
        raise Superseded("This attempt no longer holds the job; end it.")
    return holder


def _is_listed(connection: Connection, holder: Holder, sending: Sending) -> bool:
    match = PLACE.fullmatch(sending.path)
    if match is None or match[1] is None:
        return False
    return checkpoints.written_by(connection, holder.job_id, int(match[1])) == sending.attempt_id


class Transfer:
    """An upload while its bytes arrive. What has come stays when the sender goes, so that it can go on from there."""

    def __init__(self, context: Context, sending: Sending, key: str) -> None:
        self._context, self._sending, self._key = context, sending, key
        self._hasher = hashlib.sha256()
        self._held = sending.part.start

    def take(self, chunk: bytes) -> None:
        """Add a piece.

        Raises:
            Invalid: more comes than was announced; all of it is discarded.
            Conflict: another request is sending the same file.
        """
        stop = self._sending.part.stop
        if stop is not None and self._held + len(chunk) > stop:
            self._context.store.discard(self._key)
            raise Invalid("The body is longer than its Content-Range says.")
        try:
            self._held = self._context.store.append(self._key, self._held, chunk)
        except ValueError as error:
            raise Conflict(f"Another request is sending this file: {error}.") from None
        self._hasher.update(chunk)

    def finish(self) -> Uploaded:
        """Keep the file, if it is whole and what it was said to be.

        Raises:
            Invalid: it is not; all of it is discarded.
            Superseded: the fence has become stale.
        """
        total = self._sending.part.total
        if total is not None and self._held < total:
            return Uploaded(bytes=self._held, complete=False)
        if self._held == 0:
            self._context.store.append(self._key, 0, b"")
        if self._digest() != self._sending.sha256:
            self._context.store.discard(self._key)
            raise Invalid("The file's SHA-256 is not the one in X-Content-SHA256; send it again from the start.")
        with Read(self._context.database) as read:
            _current(read.connection, self._sending)
        self._place()
        with Write(self._context.database) as write:
            _current(write.connection, self._sending)
            uploads.save(write.connection, self._key, self._sending.attempt_id, Upload(self._held, self._sending.sha256))
        return Uploaded(bytes=self._held, complete=True)

    def _place(self) -> None:
        try:
            self._context.store.commit(self._key)
        except (NotADirectoryError, IsADirectoryError):
            self._context.store.discard(self._key)
            raise Conflict("A file and a folder would have the same name.") from None

    def _digest(self) -> str:
        if self._sending.part.start == 0:
            return self._hasher.hexdigest()
        return _digest_of_part(self._context.store, self._key)


def _digest_of_part(store: Store, key: str) -> str:
    hasher = hashlib.sha256()
    with store.open_part(key) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()
