"""Logs: what a job's attempts wrote, whole and in order."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from jobs.states import TERMINAL, Status
from service.db.queries import events, logs, lookup
from service.domain.errors import NotFound
from service.domain.lifecycle import Change

CHUNKS_AT_ONCE = 16
"""A chunk is a report's worth, at most a few megabytes; so is what one reader holds in memory, times this."""

START = 0
LOOKS = 16
CUT = "logs.cut"


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


def append(change: Change, job_id: str, attempt_id: str, text: str) -> None:
    """Add to a job's log. What is too long for a line is cut out of it; where the whole is too long, its beginning goes.

    NUL, which PostgreSQL cannot hold, becomes U+FFFD.
    """
    settings = change.context.settings
    body = within(text.replace("\x00", "\ufffd"), settings.max_log_line_chars)
    most = settings.max_log_chars_per_job
    total = logs.add(change.connection, job_id, attempt_id, body)
    # Looked at now and then only: deleting reads every piece the job has.
    stride = max(1, most // LOOKS)
    if total > most and total // stride > (total - len(body)) // stride:
        gone = logs.cut(change.connection, job_id, total - most)
        if gone and not events.has(change.connection, job_id, CUT):
            change.tell(job_id, CUT, {"kept_chars": most})


def within(text: str, most: int) -> str:
    """The text with every line cut to `most` characters, and told where it was."""
    if len(text) <= most:
        return text
    return "\n".join(
        line if len(line) <= most else f"{line[:most]}… [{len(line) - most} characters cut]" for line in text.split("\n")
    )


def _beginning(connection: Connection, job_id: str) -> str:
    gone = logs.missing(connection, job_id)
    return f"[the first {gone} characters of this log are no longer kept]\n" if gone else ""


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
    text = (_beginning(connection, job_id) if after == START else "") + "".join(row.body for row in rows)
    return Piece(text, last, len(rows) == CHUNKS_AT_ONCE, Status(status) in TERMINAL)


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
