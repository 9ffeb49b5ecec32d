"""What has happened to a job: its events and its attempts."""

from __future__ import annotations

from fastapi import APIRouter

from service.db.queries import attempts, events, jobs
from service.domain import views
from service.domain.errors import NotFound
from service.http.auth import Project
from service.http.paging import AfterNumber, JobId, Limit, Listing, cut
from service.http.session import Read, Reading, TransactionRoute

router = APIRouter(route_class=TransactionRoute, tags=["jobs"])


class EventList(Listing[views.Event]):
    """A page of events, by `seq`."""


class AttemptList(Listing[views.Attempt]):
    """A page of attempts, by number."""


def _require(read: Read, project: str, job_id: str) -> None:
    if not jobs.exists_in(read.connection, project, job_id):
        raise NotFound("There is no such job.")


@router.get("/v1/jobs/{job_id}/events")
def list_events(job_id: JobId, read: Reading, project: Project, limit: Limit = 20, after: AfterNumber = 0) -> EventList:
    """List a job's events in the order they happened; `seq` has no gaps."""
    _require(read, project, job_id)
    page, rest = cut(events.after(read.connection, job_id, after, limit + 1), limit, "seq")
    return EventList(data=[views.event(row) for row in page], **rest)


@router.get("/v1/jobs/{job_id}/attempts")
def list_attempts(job_id: JobId, read: Reading, project: Project, limit: Limit = 20, after: AfterNumber = 0) -> AttemptList:
    """List every try at a job, first to last."""
    _require(read, project, job_id)
    page, rest = cut(attempts.of_job(read.connection, job_id, after, limit + 1), limit, "number")
    return AttemptList(data=views.attempts(read.connection, page), **rest)
