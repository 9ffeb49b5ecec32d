"""What a worker says of an attempt it holds: heartbeat, report, finish. A stale fence gets 409 `attempt_superseded`."""

from __future__ import annotations

from fastapi import APIRouter

from jobs.protocol import Beat, Finish, Finished, Heartbeat, Report, Taken
from service.domain import attempts, conclusion
from service.domain.lifecycle import Change
from service.http.auth import Whoever
from service.http.body import ReportRoute
from service.http.openapi import CONFLICT
from service.http.paging import AttemptId
from service.http.session import Shared, Writing

router = APIRouter(route_class=ReportRoute, tags=["workers"], responses={409: CONFLICT})


@router.post("/v1/attempts/{attempt_id}/heartbeat")
def renew_lease(attempt_id: AttemptId, beat: Heartbeat, write: Writing, context: Shared, caller: Whoever) -> Beat:
    """Renew the lease, and hear what to do."""
    attempts.require_own(write.connection, attempt_id, caller)
    return attempts.renew(Change(write, context), attempt_id, beat)


@router.post("/v1/attempts/{attempt_id}/report")
def report_progress(attempt_id: AttemptId, batch: Report, write: Writing, context: Shared, caller: Whoever) -> Taken:
    """Bring metrics, log lines, checkpoints and events. A batch that has been taken before changes nothing."""
    attempts.require_own(write.connection, attempt_id, caller)
    return attempts.report(Change(write, context), attempt_id, batch)


@router.post("/v1/attempts/{attempt_id}/finish")
def finish_attempt(attempt_id: AttemptId, outcome: Finish, write: Writing, context: Shared, caller: Whoever) -> Finished:
    """Tell how the attempt ended. Telling the same again gets the same answer."""
    attempts.require_own(write.connection, attempt_id, caller)
    return conclusion.finish(Change(write, context), attempt_id, outcome)
