"""`watch`, `wait` and `logs`: staying with a job while it runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from meshyard.cli.answer import Answer, ExitCode
from meshyard.cli.command import JobArgument, command
from meshyard.cli.jobref import resolve
from meshyard.cli.session import Output, Session

if TYPE_CHECKING:
    from meshyard.cli.views.progress import JobView
    from meshyard.models import Event, Job, Metrics

LIVE_SECONDS = 2.0
PLAIN_SECONDS = 30.0


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    panel = "Jobs"
    command(app, "watch", "meshyard watch @last", "meshyard watch char-lm --exit-status", panel=panel)(watch)
    command(app, "wait", "meshyard wait @last", "meshyard wait char-lm --timeout 600 && meshyard result char-lm", panel=panel)(wait)
    command(app, "logs", "meshyard logs @last --tail 50", "meshyard logs char-lm -f", panel=panel)(logs)


def watch(
    session: Session,
    job: JobArgument,
    exit_status: Annotated[bool, typer.Option("--exit-status", help="Exit with 5 unless the job succeeds.")] = False,
) -> Answer:
    """Watch a job until it ends. Ctrl-C only leaves; the job goes on."""
    session.attached = resolve(session.client, job)
    return finish(session, follow(session, session.client.jobs.get(session.attached), from_now=True), exit_status=exit_status)


def wait(
    session: Session,
    job: JobArgument,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0, metavar="SECONDS", help="Give up after so long; exit with 3.")
    ] = None,
) -> Answer:
    """Wait for a job to end, without a word; exit with 5 unless it succeeds."""
    from meshyard.errors import JobFailed, WaitTimedOut

    session.attached = resolve(session.client, job)
    try:
        found, code = session.client.jobs.wait(session.attached, timeout), 0
    except JobFailed as error:
        found, code = error.job, ExitCode.JOB_FAILED
        session.err.print(f"error: {error}", soft_wrap=True)
    except WaitTimedOut as error:
        found, code = error.job, ExitCode.CANCELLED
        session.err.print(f"error: {error}", soft_wrap=True)
    return Answer(found.to_dict(), [found.id], lambda: f"{found.id} {found.status}", exit_code=code)


def logs(
    session: Session,
    job: JobArgument,
    follow_it: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job ends.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", min=0, metavar="LINES", help="Only the last so many lines.")] = None,
) -> Answer:
    """Show what a job wrote."""
    found = resolve(session.client, job)
    if not follow_it:
        text = session.client.jobs.logs(found, tail)
        return Answer({"object": "logs", "job": found, "text": text}, [found], lambda: text)
    session.attached = found
    pieces: list[str] = []
    for piece in session.client.jobs.follow_logs(found, tail):
        if session.output is Output.TABLE:
            sys.stdout.write(piece)
            sys.stdout.flush()
        else:
            pieces.append(piece)
    return Answer({"object": "logs", "job": found, "text": "".join(pieces)}, [found])


def follow(session: Session, job: Job, *, from_now: bool = False) -> Job:
    """Show a job's progress until it ends; give it as it ended.

    Args:
        session: where to show it.
        job: the job to follow.
        from_now: take what has happened so far as read, and tell only what comes.
    """
    from meshyard.cli.views.progress import JobView

    view, seen = JobView(job), 0
    if from_now:
        for event in session.client.jobs.events(job.id):
            seen = event.seq
            view.take_event(event)
        view.take_job(session.client.jobs.get(job.id))
    with _shown(session, view):
        for item in session.client.jobs.watch(job.id, after=seen):
            _take(session, view, item)
    return session.client.jobs.get(job.id)


def _take(session: Session, view: JobView, item: Event | Metrics) -> None:
    from meshyard.models import Event

    if isinstance(item, Event):
        view.take_event(item)
        session.say(view.event_line(item))
    else:
        view.take_metrics(item)


@contextmanager
def _shown(session: Session, view: JobView) -> Generator[None]:
    """Keep a view in sight: drawn in place on a terminal, else a line now and then."""
    from rich.live import Live

    with _refreshing(session, view):
        if not session.live:
            yield
            return
        with Live(get_renderable=view.render, console=session.err, refresh_per_second=4, transient=True):
            yield


@contextmanager
def _refreshing(session: Session, view: JobView) -> Generator[None]:
    """Ask after the job from time to time, for what no event tells: its phase, its place in the queue."""
    stop = threading.Event()
    thread = threading.Thread(target=_refresh, args=(session, view, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=1.0)


def _refresh(session: Session, view: JobView, stop: threading.Event) -> None:
    from meshyard.errors import APIError

    while not stop.wait(LIVE_SECONDS if session.live else PLAIN_SECONDS):
        try:
            view.take_job(session.client.jobs.get(view.job.id))
        except APIError:
            continue  # the watch itself sees to a service that is gone
        if not session.live:
            session.say(view.line())


def finish(session: Session, job: Job, *, exit_status: bool) -> Answer:
    """What following a job comes to."""
    from meshyard.cli.views.progress import ending

    session.say(ending(job))
    code = ExitCode.JOB_FAILED if exit_status and job.status != "succeeded" else 0
    return Answer(job.to_dict(), [job.id], exit_code=code)
