"""`metrics`, `events`, `attempts`, `why` and `result`: what a job has left behind in rows."""

from __future__ import annotations

import csv
import io
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshyard.cli.answer import Answer
from meshyard.cli.command import JobArgument, command
from meshyard.cli.jobref import resolve
from meshyard.cli.session import Output, Session

if TYPE_CHECKING:
    from meshyard.models import Metrics


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    panel = "Records"
    shown = ("meshyard metrics @last --plot", "meshyard metrics char-lm --names train/loss,eval/loss --csv > loss.csv")
    command(app, "metrics", *shown, panel=panel)(metrics)
    command(app, "events", "meshyard events @last", "meshyard events char-lm -o json", panel=panel)(events)
    command(app, "attempts", "meshyard attempts @last", "meshyard attempts char-lm -o json", panel=panel)(attempts)
    command(app, "program", "meshyard program @last", "meshyard program kidiq -o json > program.json", panel=panel)(program)
    command(app, "why", "meshyard why @last", "meshyard why char-lm -o json", panel=panel)(why)
    command(app, "result", "meshyard result @last", "meshyard result eight-schools -o json", panel=panel)(result)


def metrics(
    session: Session,
    job: JobArgument,
    names: Annotated[str | None, typer.Option("--names", help="Only these, parted by commas.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Every point as CSV: name, labels, step, value.")] = False,
    as_plot: Annotated[bool, typer.Option("--plot", help="A small chart of each series.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay, and print every new point as a line of CSV.")] = False,
) -> Answer:
    """Show a job's metrics: the newest values, every point, or charts."""
    if follow:
        return _followed(session, resolve(session.client, job), names.split(",") if names else None)
    from meshyard.cli.views.plot import plot
    from meshyard.cli.views.tables import metric_table

    wanted = names.split(",") if names else None
    found = session.client.jobs.metrics(resolve(session.client, job), wanted, max_points=1000 if as_plot else None)
    ids = list(dict.fromkeys(series.name for series in found.series))
    if as_csv:
        return Answer(found.to_dict(), ids, lambda: _csv(found))
    if as_plot:
        return Answer(found.to_dict(), ids, lambda: "\n\n".join(plot(series) for series in found.series))
    return Answer(found.to_dict(), ids, lambda: metric_table(found))


def _followed(session: Session, job_id: str, names: list[str] | None) -> Answer:
    """Print points as they come, until the job ends; with `-o json` they come all at once at the end."""
    from meshyard.models import Metrics

    series: list[Any] = []
    shown = session.output is Output.TABLE
    header = True
    for item in session.client.jobs.watch(job_id):
        if isinstance(item, Metrics):
            fresh = Metrics(series=[each for each in item.series if names is None or each.name in names])
            series += fresh.to_dict()["series"]
            if shown:
                sys.stdout.write(_csv(fresh, header=header))
                sys.stdout.flush()
                header = False
    return Answer({"object": "metrics", "series": series}, list(dict.fromkeys(each["name"] for each in series)))


def _csv(metrics: Metrics, *, header: bool = True) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    if header:
        writer.writerow(["name", "labels", "step", "value"])
    for series in metrics.series:
        labels = ";".join(f"{key}={value}" for key, value in sorted(series.labels.items()))
        writer.writerows([series.name, labels, step, value] for step, value in series.points())
    return sink.getvalue()


def events(session: Session, job: JobArgument) -> Answer:
    """List what happened to a job."""
    from meshyard.cli.views.tables import event_table

    found = list(session.client.jobs.events(resolve(session.client, job)))
    document = {"object": "list", "data": [event.to_dict() for event in found]}
    return Answer(document, [str(event.seq) for event in found], lambda: event_table(found))


def attempts(session: Session, job: JobArgument) -> Answer:
    """List every try at a job: where, how long, how it ended, what it lost."""
    from meshyard.cli.views.tables import attempt_table

    found = session.client.jobs.attempts(resolve(session.client, job))
    document = {"object": "list", "data": [attempt.to_dict() for attempt in found]}
    return Answer(document, [attempt.id for attempt in found], lambda: attempt_table(found))


def program(session: Session, job: JobArgument) -> Answer:
    """Show the program that a sampling job's formula stands for, to read it or to change it and submit it again."""
    from meshyard.cli.views.tables import document_view

    job_id = resolve(session.client, job)
    found = session.client.jobs.program(job_id)
    return Answer(found.to_dict(), [job_id], lambda: document_view(found.model))


def why(session: Session, job: JobArgument) -> Answer:
    """Show why a job waits, who is ahead of it, and which workers could take it."""
    from meshyard.cli.views.tables import place_view

    found = session.client.jobs.place(resolve(session.client, job))
    return Answer(found.to_dict(), [found.job_id], lambda: place_view(found))


def result(session: Session, job: JobArgument) -> Answer:
    """Show what a job came to: final and best metrics, or the posterior with what has not converged marked."""
    from meshyard.cli.views.posterior import result_view

    job_id = resolve(session.client, job)
    found = session.client.jobs.result(job_id)
    return Answer(found.to_dict(), [job_id], lambda: result_view(found))
