"""Validation: of the words in the service, of shapes and of the compiled program on a worker, which tells by routes of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from jobs.errors import Issue, SpecInvalid
from jobs.protocol import Level, PreflightBeat, PreflightFinish, PreflightKept
from jobs.spec.job import Spec
from service.context import Context
from service.db.queries import preflights as rows
from service.db.transaction import Read, Write
from service.domain import preflights, schedule, submission
from service.domain.errors import NoWorker
from service.domain.lifecycle import Change
from service.http.auth import Project, Whoever
from service.http.body import JsonRoute, ReportRoute
from service.http.openapi import CONFLICT, JOB_BODY
from service.http.paging import PreflightId
from service.http.problems import ProblemItem, items
from service.http.session import Shared, Writing

router = APIRouter(route_class=JsonRoute, tags=["jobs"])
reports = APIRouter(route_class=ReportRoute, tags=["workers"], responses={409: CONFLICT})

SpecDocument = Annotated[dict[str, Any], Body(description="The job; see /v1/schemas/job.")]


class Validation(BaseModel):
    """Whether a spec would be accepted and can run, every reason why not, and what is known of it without running it."""

    valid: bool
    errors: list[ProblemItem]
    report: schedule.ValidationReport | None


@dataclass(frozen=True)
class _Asker:
    """Somebody who waits for a worker to look at a spec."""

    context: Context
    project: str
    spec: Spec
    level: Level

    def ask(self) -> str:
        """Have it looked at."""
        with Write(self.context.database) as write:
            return preflights.ask(Change(write, self.context), self.project, self.spec, self.level)

    def look(self, preflight_id: str) -> Any:
        """Where it stands."""
        with Read(self.context.database) as read:
            return preflights.look(read.connection, preflight_id)

    def withdraw(self, preflight_id: str) -> bool:
        """Ask no more, unless a worker has taken it."""
        with Write(self.context.database) as write:
            return rows.withdraw(write.connection, preflight_id)

    def forget(self, preflight_id: str) -> None:
        """Ask no more."""
        with Write(self.context.database) as write:
            rows.remove(write.connection, preflight_id)

    async def answer(self, request: Request) -> preflights.Answer | None:
        """What a worker says; None if the one who asked has gone. Waiting holds neither a thread nor a connection.

        Raises:
            NoWorker: none was free in time.
            PreflightFailed: those who tried could not tell.
        """
        preflight_id = await run_in_threadpool(self.ask)
        try:
            row = await self._done(request, preflight_id)
        finally:
            await run_in_threadpool(self.forget, preflight_id)
        return None if row is None else preflights.read_answer(row)

    async def _done(self, request: Request, preflight_id: str) -> Any:
        clock, signals, settings = asyncio.get_running_loop().time, self.context.signals, self.context.settings
        until, tries = clock() + settings.preflight_wait_seconds, 0
        while not await request.is_disconnected():
            with signals.hearing(preflight_id) as heard:
                row = await run_in_threadpool(self.look, preflight_id)
                if row.status == "done":
                    return row
                if row.fence > tries:
                    # Should this worker be lost, the next one has as long to come.
                    until, tries = clock() + settings.preflight_wait_seconds, row.fence
                over = signals.closing or (row.status == "waiting" and clock() >= until)
                if over and await run_in_threadpool(self.withdraw, preflight_id):
                    raise NoWorker(_nobody(settings.preflight_wait_seconds, self.level))
                if signals.closing:
                    raise NoWorker("The service is stopping. Ask again.")
                await signals.wait(preflight_id, heard, settings.poll_seconds)
        return None


def _nobody(seconds: float, level: Level) -> str:
    less = "level=schema, which needs none" if level == "shapes" else "level=shapes, which any worker can tell"
    return f"No worker that could look at this was free within {seconds:g} seconds. Start one, or ask for {less}."


@router.post("/v1/jobs:validate", response_model=Validation, responses={409: CONFLICT}, openapi_extra=JOB_BODY)
async def validate_job(
    request: Request,
    document: SpecDocument,
    context: Shared,
    project: Project,
    level: Literal["schema", "shapes", "compile"] = "schema",
) -> Response:
    """Check a spec; nothing is queued. Shapes and compiled program are looked at by a worker, which is waited for."""
    try:
        spec = await run_in_threadpool(_read, context, project, document)
    except SpecInvalid as error:
        return _reply(Validation(valid=False, errors=items(error.issues), report=None))
    if level == "schema":
        return _reply(_validation(spec, level, preflights.Answer(None, [])))
    answer = await _Asker(context, project, spec, level).answer(request)
    return Response(status_code=204) if answer is None else _reply(_validation(spec, level, answer))


def _read(context: Context, project: str, document: dict[str, Any]) -> Spec:
    with Read(context.database) as read:
        return submission.read(read.connection, context, project, document)


def _validation(spec: Spec, level: str, answer: preflights.Answer) -> Validation:
    issues: list[Issue] = answer.issues
    return Validation(valid=not issues, errors=items(issues), report=schedule.report(spec, level, answer.found))


def _reply(validation: Validation) -> Response:
    return JSONResponse(validation.model_dump(mode="json"))


@reports.post("/v1/preflights/{preflight_id}/heartbeat")
def renew_preflight(
    preflight_id: PreflightId, beat: PreflightBeat, write: Writing, context: Shared, caller: Whoever
) -> PreflightKept:
    """Say that a validation is still being looked at."""
    preflights.require_own(write.connection, preflight_id, caller)
    return preflights.renew(Change(write, context), preflight_id, beat.fence)


@reports.post("/v1/preflights/{preflight_id}/finish")
def finish_preflight(
    preflight_id: PreflightId, told: PreflightFinish, write: Writing, context: Shared, caller: Whoever
) -> PreflightKept:
    """Tell what a look at a spec found, or why nothing was."""
    preflights.require_own(write.connection, preflight_id, caller)
    return preflights.finish(Change(write, context), preflight_id, told)
