"""What attempts leave behind when they end otherwise than they meant to: half-written checkpoints, files that belong to nothing.

An attempt that has ended is looked through once, an hour later: by then a process that did not know it had lost its lease has heard
so. What is listed stays, whoever wrote it.
"""

from __future__ import annotations

from functools import partial

from service.context import Context
from service.db.queries import jobs
from service.db.queries import leftovers as rows
from service.db.transaction import Write
from service.domain.instants import microseconds
from service.domain.lifecycle import Change

SECONDS_TO_HEAR = 3600.0


def collect(change: Change, attempt_id: str, job_id: str) -> int:
    """Remove what an ended attempt wrote and nothing lists; gives how many folders."""
    if jobs.lock(change.connection, None, job_id) is None:
        return 0
    context, folder = change.context, f"jobs/{job_id}/{attempt_id}"
    listed = rows.steps_listed(change.connection, job_id, attempt_id)
    if not listed and not rows.has_outputs(change.connection, job_id, attempt_id):
        gone = [folder] if context.store.names(folder) else []
    else:
        steps = context.store.names(f"{folder}/checkpoints")
        gone = [f"{folder}/checkpoints/{name}" for name in steps if not (name.isdecimal() and int(name) in listed)]
    rows.forget_uploads(change.connection, gone)
    rows.note_collected(change.connection, attempt_id)
    for key in gone:
        change.write.after(partial(context.store.delete, key))
    if gone:
        change.tell(job_id, "attempt.collected", {"attempt_id": attempt_id, "folders": len(gone)})
    return len(gone)


def collect_some(context: Context, limit: int) -> int:
    """Look through a few attempts that ended long enough ago; gives how many."""
    with Write(context.database) as write:
        change = Change(write, context)
        found = rows.uncollected(write.connection, change.now - microseconds(SECONDS_TO_HEAR), limit)
        removed = sum(collect(change, row.id, row.job_id) for row in found)
    context.telemetry.forgotten("folders", removed)
    return len(found)
