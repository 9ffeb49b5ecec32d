"""What a look at a job found: tables, the learning rate as a chart, the checklist with ticks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from meshyard.cli.views.plot import plot
from meshyard.cli.views.tables import grid
from meshyard.cli.views.words import count, number, size
from meshyard.models import Series

TICKS = {"pass": ("✓", "green"), "warn": ("!", "yellow"), "n/a": ("-", "dim")}
MOST_PARAMETERS = 20

Report = Mapping[str, Any]


def report_view(report: Report, word: str) -> RenderableType:
    """Everything that the report has, from the largest to the smallest.

    Args:
        report: of a validation above level `schema`.
        word: `valid` or `not valid`.
    """
    parts = [part for part in _parts(report) if part is not None]
    return Group(*(line for part in parts for line in (part, "")), word)


def _part(report: Report, name: str) -> dict[str, Any]:
    part: dict[str, Any] | None = report.get(name)
    return part or {}


def _parts(report: Report) -> Iterator[RenderableType | None]:
    yield _parameters(report)
    yield _memory(report)
    yield _sites(report)
    yield _curve(report)
    yield _figures(report)
    yield _suggestions(report)
    yield _checklist(report)


def _parameters(report: Report) -> Table | None:
    found = report.get("parameters")
    if not found:
        return None
    table = grid("PARAMETER", "SHAPE", "DTYPE", "LIES ALONG", ">BYTES", ">ON A DEVICE")
    largest = sorted(found, key=lambda array: -array["bytes"])[:MOST_PARAMETERS]
    for array in largest:
        shape, along = " x ".join(map(str, array["shape"])), ", ".join(axis or "·" for axis in array["partition"])
        table.add_row(array["path"], shape, array["dtype"], along, size(array["bytes"]), size(array["bytes_per_device"]))
    total = _part(report, "total_parameters")
    rest = f"{len(found) - len(largest)} smaller ones" if len(found) > len(largest) else ""
    row = (count(total.get("count")), rest, "", size(total.get("bytes")), size(total.get("bytes_per_device")))
    table.add_row("all", *row, style="bold")
    return table


def _memory(report: Report) -> Table | None:
    memory = report.get("memory")
    if not memory:
        return None
    table = grid("ON A DEVICE, FROM SHAPES", ">BYTES")
    for kind, value in memory.items():
        table.add_row(kind, size(value), style="bold" if kind == "total" else "")
    return table


def _sites(report: Report) -> Table | None:
    sampling = report.get("sampling")
    if not sampling:
        return None
    table = grid("SITE", "SHAPE", "DTYPE", ">DRAWS")
    for site in sampling["sites"]:
        table.add_row(site["name"], " x ".join(map(str, site["shape"])), site["dtype"], size(site["draws_bytes"]))
    table.add_row("all, with statistics", "", "", size(sampling["draws_bytes"]), style="bold")
    return table


def _curve(report: Report) -> str | None:
    curve = report.get("learning_rate")
    if not curve:
        return None
    return plot(Series(name="learning_rate", steps=curve["steps"], values=curve["values"]), height=6)


def _figures(report: Report) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in _facts(report):
        table.add_row(Text(name, style="bold"), Text(value))
    return table


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    where = report["examined"]
    mesh = ", ".join(f"{axis}={number_of}" for axis, number_of in where["mesh_axes"].items())
    yield "looked at", f"{where['devices']} {'virtual ' if where['virtual'] else ''}{where['platform']} devices ({mesh})"
    schedule = _part(report, "schedule")
    for what in ("save", "evaluate"):
        plan = _part(schedule, what)
        if plan.get("count"):
            yield what, f"every {plan['every']}, {plan['count']} times"
    if report.get("flops"):
        yield "FLOPs a step", f"{number(report['flops']['per_step'])} ({report['flops']['formula']})"
    data = report.get("data")
    if data:
        yield "data", f"{count(data['samples'])} samples ({data['unit']}), {number(data['passes'])} passes"
    compiled = report.get("compiled")
    if compiled:
        kinds = ", ".join(f"{times} {kind}" for kind, times in compiled["collectives"].items()) or "none"
        yield "compiled in", f"{number(compiled['seconds'])} s"
        yield "arguments, temporaries", f"{size(compiled['argument_bytes'])}, {size(compiled['temp_bytes'])} on a device"
        yield "collectives", kinds
    verdict = report.get("verdict")
    if verdict:
        yield "verdict", f"{verdict['code']}: {size(verdict['need_bytes'])} of {size(verdict['limit_bytes'])} ({verdict['limit']})"


def _suggestions(report: Report) -> Table | None:
    found = report.get("suggestions")
    if not found:
        return None
    table = grid("TRIED INSTEAD", "CHANGE", ">NEEDS", "FITS")
    for each in found:
        changes = ", ".join(f"{change['pointer']} = {change['value']}" for change in each["changes"])
        table.add_row(each["title"], changes, size(each["need_bytes"]), "yes" if each["fits"] else "no")
    return table


def _checklist(report: Report) -> Table | None:
    found = report.get("checklist")
    if not found:
        return None
    table = Table.grid(padding=(0, 1))
    for item in found:
        mark, style = TICKS.get(item["status"], ("?", ""))
        table.add_row(Text(mark, style=style), Text(item["item"], style="bold"), Text(item["evidence"]))
    return table
