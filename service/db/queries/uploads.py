"""Files that workers without the artifact folder have sent whole."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection

from service.db.engine import insert_once
from service.db.tables import attempts, jobs, uploads


@dataclass(frozen=True)
class Upload:
    """A file that has come whole: its size in bytes and its SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Holder:
    """An attempt and who holds its job now. `current`: it is this very attempt, and it has not ended."""

    job_id: str
    fence: int
    current: bool


def holder(connection: Connection, attempt_id: str, key_id: str | None) -> Holder | None:
    """The attempt, and whether it still holds its job; None if no worker of this key has it, of any where `key_id` is None."""
    query = select(attempts.c.job_id, attempts.c.fence, attempts.c.ended_at, jobs.c.attempt_id, jobs.c.fence.label("job_fence"))
    query = query.join(jobs, jobs.c.id == attempts.c.job_id).where(attempts.c.id == attempt_id)
    query = query if key_id is None else query.where(attempts.c.key_id == key_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return Holder(row.job_id, row.fence, row.ended_at is None and row.attempt_id == attempt_id and row.fence == row.job_fence)


def save(connection: Connection, key: str, attempt_id: str, upload: Upload) -> None:
    """Note that a file has come whole; one of the same key is replaced."""
    values = {"attempt_id": attempt_id, "bytes": upload.bytes, "sha256": upload.sha256}
    statement = insert_once(connection, uploads).values(key=key, **values).returning(uploads.c.key)
    if connection.execute(statement).one_or_none() is None:
        connection.execute(update(uploads).where(uploads.c.key == key).values(**values))


def get(connection: Connection, key: str) -> Upload | None:
    """One file, if it has come whole."""
    row = connection.execute(select(uploads.c.bytes, uploads.c.sha256).where(uploads.c.key == key)).one_or_none()
    return None if row is None else Upload(row.bytes, row.sha256)


def below(connection: Connection, attempt_id: str, prefix: str) -> dict[str, Upload]:
    """What an attempt has sent whole below a prefix, by key."""
    query = select(uploads.c.key, uploads.c.bytes, uploads.c.sha256).where(uploads.c.attempt_id == attempt_id)
    rows = connection.execute(query.where(uploads.c.key.startswith(f"{prefix}/", autoescape=True)))
    return {key: Upload(size, sha256) for key, size, sha256 in rows}


def forget_below(connection: Connection, attempt_id: str, prefix: str) -> None:
    """Forget what an attempt has sent below a prefix: the files go."""
    statement = delete(uploads).where(uploads.c.attempt_id == attempt_id)
    connection.execute(statement.where(uploads.c.key.startswith(f"{prefix}/", autoescape=True)))
