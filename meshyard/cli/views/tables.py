"""Tables of everything that comes in rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from meshyard.cli.views.words import age, brief, count, duration, number, size
from meshyard.models import (
    Attempt,
    AuditEntry,
    CatalogEntry,
    Checkpoint,
    Code,
    Dataset,
    Event,
    File,
    Job,
    Key,
    Metrics,
    Model,
    Place,
    Project,
    Usage,
    Webhook,
    WebhookDelivery,
    Worker,
)

COLOUR_OF_STATUS = {
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "paused": "yellow",
    "gone": "red",
}


def document_view(document: Mapping[str, Any]) -> Text:
    """A document as JSON that a person can read."""
    return Text(json.dumps(document, indent=2, ensure_ascii=False))


def grid(*columns: str) -> Table:
    """An empty table in the style of all of them; a column named `>x` stands to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.removeprefix(">"), justify="right" if right else "left", no_wrap=column == "ID", overflow="fold")
    return table


def status_text(status: str, phase: str | None = None) -> Text:
    """A status in its colour, with its phase."""
    text = Text(status, style=COLOUR_OF_STATUS.get(status, ""))
    return text.append(f" ({phase})", style="dim") if phase and phase != status else text


def extra(model: Model, name: str) -> Any:
    """A field of a result that the client has no name for."""
    return (model.model_extra or {}).get(name)


def progress_text(job: Job) -> str:
    """How far a job has come: `1,240/10,000 step`."""
    progress = job.progress
    return "" if progress.step is None else f"{progress.step:,}/{count(progress.total)} {progress.unit or ''}".rstrip()


def job_table(jobs: Iterable[Job]) -> Table:
    """`ps`."""
    table = grid("ID", "NAME", "KIND", "STATUS", "PROGRESS", ">AGE", "WHY")
    for job in jobs:
        why = brief(job.reason, 60) if job.status in {"queued", "failed"} else ""
        status = status_text(job.status, job.phase)
        table.add_row(job.id, Text(brief(job.name or "", 30)), job.kind, status, progress_text(job), age(job.created_at), Text(why))
    return table


def job_details(job: Job) -> Table:
    """`get`: one field a line; the spec is left to `-o json`."""
    table = Table.grid(padding=(0, 2))
    for name, value in _details(job):
        if value not in (None, "", "-", {}):
            table.add_row(Text(name, style="bold"), value if isinstance(value, Text) else Text(str(value)))
    return table


def _details(job: Job) -> list[tuple[str, Any]]:
    ran = (job.finished_at - job.started_at).total_seconds() if job.started_at and job.finished_at else None
    return [
        ("id", job.id),
        ("name", job.name),
        ("kind", job.kind),
        ("status", status_text(job.status, job.phase)),
        ("why", job.reason),
        ("hint", job.status_reason.hint if job.status_reason else None),
        ("position", job.queue_position),
        ("progress", progress_text(job)),
        ("attempt", job.attempt),
        ("parent", f"{job.parent.relation} of {job.parent.job}" if job.parent else None),
        ("metadata", " ".join(f"{key}={value}" for key, value in job.metadata.items())),
        ("created", _instant(job.created_at)),
        ("started", _instant(job.started_at)),
        ("finished", _instant(job.finished_at)),
        ("ran", None if ran is None else duration(ran)),
    ]


def _instant(instant: Any) -> str | None:
    return None if instant is None else instant.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def event_table(events: Iterable[Event]) -> Table:
    """`events`."""
    table = grid(">SEQ", "TIME", "TYPE", "DATA")
    for event in events:
        table.add_row(str(event.seq), _instant(event.created_at), event.type, Text(pairs(event.data)))
    return table


def pairs(data: Mapping[str, Any], room: int = 200) -> str:
    """An event's data on one line."""
    told = {key: value for key, value in data.items() if value not in (None, {}, []) and key != "attempt_id"}
    return brief(" ".join(f"{key}={_plain(value)}" for key, value in told.items()), room)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        document = cast("dict[str, Any]", value)
        return str(document.get("message") or ",".join(f"{key}:{_plain(item)}" for key, item in document.items()))
    return number(value) if isinstance(value, float) else str(value)


def place_view(place: Place) -> Group:
    """`why`: the reason, then the workers."""
    reason = place.status_reason
    if reason is None:
        return Group(Text(f"{place.job_id} is {place.status}: it does not wait."))
    lines = [f"{reason.code}: {reason.message}", reason.hint or "", f"place in the queue: {place.queue_position}"]
    table = grid("WORKER", "PLATFORM", ">DEVICES", ">FREE", "LACKS", "KEPT FOR")
    for each in place.workers:
        figures = (count(each.get("device_count")), count(each.get("free_devices")))
        table.add_row(each["id"], each["platform"], *figures, ", ".join(each.get("lacks") or []), each.get("kept_for") or "")
    return Group(*(Text(line) for line in lines if line), table)


def attempt_table(attempts: Iterable[Attempt]) -> Table:
    """`attempts`."""
    table = grid(">#", "ID", "WORKERS", "STARTED", ">RAN", "ENDING", ">FROM", ">STEP", ">LOST", "CAUSE")
    for attempt in attempts:
        started, ended = attempt.started_at, attempt.ended_at
        ran = duration((ended - started).total_seconds()) if started and ended else ""
        table.add_row(
            number(attempt.number),
            attempt.id,
            ", ".join(attempt.workers),
            _instant(started),
            ran,
            attempt.ending or "",
            count(attempt.resumed_from),
            count(attempt.step),
            count(attempt.steps_lost),
            Text(brief((attempt.cause or {}).get("message") or "", 60)),
        )
    return table


def checkpoint_table(checkpoints: Iterable[Checkpoint]) -> Table:
    """`checkpoints ls`."""
    table = grid(">STEP", ">SIZE", "PINNED", "METRICS", "SAVED")
    for item in checkpoints:
        metrics = "  ".join(f"{name} {number(value)}" for name, value in item.metrics.items())
        table.add_row(count(item.step), size(item.bytes), "yes" if item.pinned else "", Text(metrics), _instant(item.created_at))
    return table


def file_table(files: Iterable[File]) -> Table:
    """`artifacts ls`."""
    table = grid("PATH", ">SIZE", "SHA256")
    for file in files:
        table.add_row(Text(file.path), size(file.bytes), file.sha256[:16])
    return table


def dataset_table(datasets: Iterable[Dataset]) -> Table:
    """`datasets ls`."""
    table = grid("ID", "NAME", "FORMAT", ">SIZE", ">ROWS", ">AGE")
    for item in datasets:
        table.add_row(item.id, Text(item.name or ""), item.format, size(item.bytes), count(item.rows), age(item.created_at))
    return table


def code_table(bundles: Iterable[Code]) -> Table:
    """`code ls`."""
    table = grid("ID", "NAME", "MODULES", ">SIZE", ">WARNINGS", ">AGE")
    for item in bundles:
        modules = Text(" ".join(str(module.get("name") or "") for module in item.modules))
        table.add_row(item.id, Text(item.name or ""), modules, size(item.bytes), count(len(item.warnings)), age(item.created_at))
    return table


def worker_table(workers: Iterable[Worker]) -> Table:
    """`workers ls`."""
    table = grid("ID", "STATUS", "DEVICES", "LABELS", "RUNNING", ">SEEN")
    for worker in workers:
        devices = f"{worker.device_count or '?'} x {worker.device_kind or worker.platform or '?'}"
        labels = " ".join(f"{key}={value}" for key, value in worker.labels.items())
        running = ", ".join(str(run.get("job_id") or "") for run in worker.running)
        table.add_row(worker.id, status_text(worker.status or ""), devices, Text(labels), running, age(worker.seen_at))
    return table


def webhook_table(webhooks: Iterable[Webhook]) -> Table:
    """`webhooks ls`."""
    table = grid("ID", "NAME", "URL", "EVENTS", "STATUS", ">LAST SUCCESS")
    for one in webhooks:
        status = "enabled" if one.enabled else f"disabled ({one.disabled_reason})"
        url, events = Text(brief(one.url, 60)), Text(brief(", ".join(one.events), 40))
        table.add_row(one.id, Text(brief(one.name or "", 30)), url, events, status, age(one.last_success_at))
    return table


def delivery_table(deliveries: Iterable[WebhookDelivery]) -> Table:
    """`webhooks deliveries`."""
    table = grid("ID", "TYPE", "STATUS", ">TRIES", ">ANSWER", ">AGE", "ERROR")
    for one in deliveries:
        tries, answer = str(one.attempts or 0), str(one.last_status or "")
        error = Text(brief(one.last_error or "", 60))
        table.add_row(one.id, Text(one.type or ""), one.status or "", tries, answer, age(one.created_at), error)
    return table


def key_table(keys: Iterable[Key]) -> Table:
    """`keys ls`."""
    table = grid("ID", "NAME", "PREFIX", "PROJECT", "SCOPES", "STATUS", ">LAST USED")
    for one in keys:
        reach = "all" if one.all_projects else one.project
        scopes = Text(", ".join(one.scopes))
        table.add_row(one.id, Text(brief(one.name or "", 30)), one.prefix, reach, scopes, one.status or "", age(one.last_used_at))
    return table


def project_table(projects: Iterable[Project]) -> Table:
    """`projects ls`."""
    table = grid("ID", "NAME", ">WEIGHT", "QUOTAS", ">AGE")
    for one in projects:
        bounds = ", ".join(f"{name}={value}" for name, value in one.quotas.items() if name.startswith("max_") and value is not None)
        table.add_row(one.id, Text(brief(one.name, 30)), number(one.weight), bounds or "none", age(one.created_at))
    return table


def usage_table(days: Iterable[Usage], standing: Mapping[str, Any]) -> Table:
    """`usage`: a line a day, newest first, below what is held now."""
    table = grid("DAY", ">DEVICE HOURS", ">ATTEMPTS", ">SUBMITTED", ">SUCCEEDED", ">FAILED", ">CANCELLED", ">STORED")
    now = standing["now"]
    held = (f"{now['running_jobs']} running", f"{now['queued_jobs']} queued", f"{now['devices']} devices", "", "")
    table.add_row("now", number(now["device_seconds"] / 3600), *held, size(now["stored_bytes"]))
    for day in days:
        counts = (day.attempts, day.jobs_submitted, day.jobs_succeeded, day.jobs_failed, day.jobs_cancelled)
        table.add_row(day.day, number(day.device_seconds / 3600), *map(count, counts), size(day.stored_bytes))
    return table


def audit_table(entries: Iterable[AuditEntry]) -> Table:
    """`audit`."""
    table = grid("ID", ">AGE", "KEY", "WHAT", "WHERE", "FROM")
    for one in entries:
        table.add_row(one.id, age(one.created_at), one.key_id, one.action, Text(brief(one.target, 60)), one.address or "")
    return table


def catalog_table(entries: Iterable[CatalogEntry]) -> Table:
    """`catalog SECTION`."""
    table = grid("TYPE", "WHAT IT IS")
    for entry in entries:
        table.add_row(entry.type, Text(brief(entry.doc or "", 100)))
    return table


def metric_table(metrics: Metrics) -> Table:
    """`metrics`: the newest value and the range of each series."""
    table = grid("NAME", "LABELS", ">POINTS", ">STEP", ">LAST", ">MIN", ">MAX")
    for series in metrics.series:
        points = series.points()
        labels = " ".join(f"{key}={value}" for key, value in series.labels.items())
        values = [value for _, value in points]
        last = (count(points[-1][0]), number(values[-1]), number(min(values)), number(max(values))) if points else ("-",) * 4
        table.add_row(series.name, labels, count(series.total_points or len(points)), *last)
    return table


def fields(document: Mapping[str, Any]) -> Table:
    """Any document, one field a line."""
    table = Table.grid(padding=(0, 2))
    for name, value in document.items():
        if value not in (None, "", [], {}):
            table.add_row(Text(name, style="bold"), Text(json.dumps(value) if isinstance(value, (dict, list)) else str(value)))
    return table
