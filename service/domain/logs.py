"""Logs: what a job's attempts wrote, whole and in order."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from jobs.states import TERMINAL, Status
from service.db.queries import logs, lookup
from service.domain.errors import NotFound

CHUNKS_AT_ONCE = 16
"""A chunk is a report's worth, at most a few megabytes; so is what one reader holds in memory, times this."""

START = 0


@dataclass(frozen=True)
class Piece:
    """A stretch of a log.

    Attributes:
        text: of whole chunks.
        after: where the next stretch begins.
        more: there is more to read at once.
        ended: the job has ended: what follows now is all there will ever be.
    """

    text: str
    after: int
    more: bool
    ended: bool


def append(connection: Connection, job_id: str, attempt_id: str, text: str) -> None:
    """Add to a job's log. NUL, which PostgreSQL cannot hold, becomes U+FFFD."""
    logs.add(connection, job_id, attempt_id, text.replace("\x00", "\ufffd"))


def read(connection: Connection, project: str, job_id: str, after: int) -> Piece:
    """The stretch that follows `after` (`START`, or an earlier piece's).

    Raises:
        NotFound: no such job.
    """
    # The status first: what was written before a job ended is there by the time its end is seen.
    status = lookup.status(connection, project, job_id)
    if status is None:
        raise NotFound("There is no such job.")
    rows = logs.after(connection, job_id, after, CHUNKS_AT_ONCE)
    last = rows[-1].id if rows else after
    return Piece("".join(row.body for row in rows), last, len(rows) == CHUNKS_AT_ONCE, Status(status) in TERMINAL)


def tail(connection: Connection, project: str, job_id: str, lines: int) -> Piece:
    """The last `lines` lines.

    Raises:
        NotFound: no such job.
    """
    status = lookup.status(connection, project, job_id)
    if status is None:
        raise NotFound("There is no such job.")
    newest = logs.before(connection, job_id, None, 1)
    end = newest[0].id if newest else START
    return Piece(_last_lines(connection, job_id, end + 1, lines), end, more=False, ended=Status(status) in TERMINAL)


def _last_lines(connection: Connection, job_id: str, before: int, lines: int) -> str:
    bodies: list[str] = []
    found = 0
    while found <= lines:
        rows = logs.before(connection, job_id, before, CHUNKS_AT_ONCE)
        if not rows:
            break
        bodies.extend(row.body for row in rows)
        found += sum(row.body.count("\n") for row in rows)
        before = rows[-1].id
    *whole, rest = "".join(reversed(bodies)).split("\n")
    kept = [line + "\n" for line in whole] + ([rest] if rest else [])
    return "".join(kept[-lines:]) if lines else ""
