"""What people see."""

from __future__ import annotations

import io
import json
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from meshyard.cli import run
from meshyard.cli.carets import excerpt, find
from meshyard.cli.views.plot import plot
from meshyard.cli.views.posterior import flags, result_view
from meshyard.cli.views.progress import JobView, Rate, ending
from meshyard.cli.views.tables import job_details, job_table
from meshyard.cli.views.words import age, brief, duration, number, size
from meshyard.models import Event, Job, Metrics, Result, Series
from tests.client.standin import new_job


def drawn(renderable, width=160):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def event(kind, seq=1, **data):
    return Event.model_validate({"seq": seq, "type": kind, "created_at": "2026-11-20T10:00:00.000000Z", "data": data})


def points(name, step, value, **labels):
    return Series.model_validate({"name": name, "labels": labels, "steps": [step], "values": [value]})


@pytest.fixture
def training():
    clock = Clock()
    progress = {"step": 0, "total": 10_000, "unit": "step"}
    view = JobView(Job.model_validate(new_job(name="lm", status="running", phase="training", attempt=1, progress=progress)), clock)
    view.take_event(event("attempt.started", number=2))
    view.take_job(view.job.model_copy(update={"phase": "training", "attempt": 2}))
    for step in range(0, 1250, 10):
        clock.now = step / 5
        view.take_metrics(Metrics(series=[points("train/loss", step, 3 - step / 1000)]))
    view.take_event(event("checkpoint.committed", step=1200))
    return view


def test_training_on_one_line(training):
    assert training.line() == (
        "lm  running (training)  attempt 2  step 1,240/10,000 12%  loss 1.76  5 step/s  ETA 29m 12s  ckpt 1,200 ✓"
    )


def test_only_a_new_attempt_goes_back(training):
    training.take_job(training.job.model_copy(update={"progress": training.job.progress.model_copy(update={"step": 3})}))
    training.take_metrics(Metrics(series=[points("eval/loss", 1200, 2.5)]))
    assert "step 1,240/10,000 12%  loss 1.76  eval loss 2.5" in training.line()
    training.take_event(event("attempt.started", number=3, resumed_from=1200))
    assert "attempt 3  step 1,200/10,000 12%" in training.line()


def test_training_drawn(training):
    shown = drawn(training.render())
    for part in (
        "lm  running (training)  attempt 2",
        "step 1,240/10,000",
        "━",
        "12%",
        "loss 1.76",
        "5 step/s",
        "ETA 29m 12s",
        "ckpt 1,200 ✓",
    ):
        assert part in shown


def test_sampling_has_a_line_for_each_chain():
    progress = {"step": 500, "total": 1500, "unit": "draw"}
    view = JobView(Job.model_validate(new_job(name="schools", kind="mcmc", status="running", phase="sampling", progress=progress)))
    for chain in range(11):
        labels = {"chain": str(chain)}
        series = [
            points("divergences", 750, chain, **labels),
            points("step_size", 750, 0.5, **labels),
            points("accept_prob", 750, 0.81, **labels),
        ]
        view.take_metrics(Metrics(series=series))
    view.take_metrics(Metrics(series=[points("r_hat/max", 750, 1.003), points("ess_bulk/min", 750, 812.4)]))
    lines = drawn(view.render()).splitlines()
    assert "schools  running (sampling)" in lines[0]
    assert "draw 750/1,500" in lines[1]
    assert "R-hat 1.003" in lines[1]
    assert "ESS 812.4" in lines[1]
    assert [line.split()[:2] for line in lines[2:]] == [["chain", str(chain)] for chain in range(11)]
    assert lines[4].split() == ["chain", "2", "750", "draws", "2", "divergences", "0.5", "step", "size", "0.81", "acceptance"]
    assert "chain 2: 750 draws, 2 divergences, 0.5 step size, 0.81 acceptance" in view.line()


def test_names_are_shown_as_they_are(world, server, capsys):
    world.add(name="[red]x[/red] [0]")
    assert run(["ps", "--server", server]) == 0
    assert "[red]x[/red] [0]" in capsys.readouterr().out


def test_a_queued_job_says_why():
    reason = {"code": "NoMatchingWorker", "message": "No worker has 8 devices", "hint": "Start one with: meshyard work"}
    job = Job.model_validate(new_job(name="lm", status_reason=reason))
    assert "No worker has 8 devices" in JobView(job).line()
    assert "No worker has 8 devices" in drawn(job_table([job]))
    assert "Start one with: meshyard work" in drawn(job_details(job))


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("job.paused", "paused"),
        ("attempt.started", "running"),
        ("job.requeued", "queued"),
        ("job.updated", "queued"),
        ("job.resumed", "queued"),
    ],
)
def test_events_move_the_status(kind, status):
    view = JobView(Job.model_validate(new_job()))
    view.take_event(event(kind))
    assert view.job.status == status


def test_an_event_on_one_line():
    line = JobView(Job.model_validate(new_job())).event_line(
        event("job.failed", error={"code": "oom", "message": "Out of memory"}, attempt_id="x")
    )
    assert line.endswith(" job.failed  error=Out of memory")


def test_a_rate_forgets_and_begins_anew_after_a_step_back():
    clock = Clock()
    rate = Rate(clock)
    assert rate.value() is None
    for second in range(100):
        clock.now = float(second)
        rate.note(second * 2 if second < 50 else 100 + second * 10)
    assert rate.value() == pytest.approx(10, rel=0.01)
    clock.now = 101.0
    rate.note(20)
    assert rate.value() is None


def test_the_last_line():
    job = new_job(name="lm", status="failed", error={"code": "oom", "message": "Out of memory"},
                  started_at="2026-11-20T10:00:00.000000Z", finished_at="2026-11-20T10:02:05.000000Z")  # fmt: skip
    assert ending(Job.model_validate(job)) == "✗ lm failed after 2m 5s: Out of memory (oom)"


ROW = {"mean": 4.4, "sd": 3.2, "q05": -1.0, "q50": 4.4, "q95": 9.7, "mcse_mean": 0.08}


def test_what_has_not_converged_is_marked():
    summary = {
        "mu": {**ROW, "r_hat": 1.01, "ess_bulk": 400, "ess_tail": 400.0},
        "tau": {**ROW, "r_hat": 1.011, "ess_bulk": 399.6, "ess_tail": None},
    }
    assert flags(summary["mu"]) == set()
    assert flags(summary["tau"]) == {"r_hat", "ess_bulk"}
    lines = drawn(result_view(Result.model_validate({"summary": summary, "stopped_by": None}))).splitlines()
    assert lines[0].split() == ["PARAMETER", "MEAN", "SD", "Q05", "Q50", "Q95", "MCSE_MEAN", "ESS_BULK", "ESS_TAIL", "R_HAT"]
    assert "!" not in lines[2]
    assert lines[3].split() == ["tau", "4.4", "3.2", "-1", "4.4", "9.7", "0.08", "400", "!", "-", "1.011", "!"]
    assert "1 of 2 have R-hat > 1.01 or ESS < 400" in lines[4]


def test_warnings_and_a_comparison_are_shown_with_the_table():
    warning = {"code": "divergences", "message": "3 of 400 transitions diverged.", "hint": "Raise kernel.target_accept_prob."}
    told = {"summary": {"mu": {**ROW, "r_hat": 1.0, "ess_bulk": 900, "ess_tail": 900}}, "warnings": [warning]}
    shown = " ".join(drawn(result_view(Result.model_validate(told | {"loo": {"y": {"elpd": -30.5}}}))).split())
    assert "! 3 of 400 transitions diverged. Raise kernel.target_accept_prob." in shown
    assert "-30.5" in shown


def test_a_training_result():
    shown = drawn(result_view(Result.model_validate({"final": {"eval/loss": 1.5, "step": 2000}, "best": {"step": 1800}})))
    assert "eval/loss" in shown
    assert "1.5" in shown
    assert "best" in shown


def test_a_chart_goes_down_with_the_loss():
    series = Series(name="train/loss", steps=list(range(100)), values=[100.0 - step for step in range(100)])
    lines = plot(series, width=20, height=5).splitlines()
    assert lines[0] == "train/loss"
    assert lines[1].startswith("100 ┤⠙")
    assert lines[5].strip().startswith("1 ┤")
    assert lines[6].split() == ["0", "99"]
    filled = [[column for column, cell in enumerate(line.split("┤")[1]) if cell != "⠀"] for line in lines[1:6]]
    assert all(max(above) <= min(below) + 1 for above, below in pairwise(filled))


@pytest.mark.parametrize("values", [[], [None], [1.0], [2.0, 2.0]])
def test_a_chart_of_little(values):
    assert plot(Series(name="x", steps=list(range(len(values))), values=values)).startswith("x")


JSON = st.recursive(
    st.none() | st.integers(-99, 99) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(JSON, st.sampled_from([None, 1, "\t"]))
def test_a_pointer_finds_its_value(document, indent):
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    for pointer, value in places(document, ""):
        span = find(text, pointer)
        assert span is not None
        assert json.loads(text[span.start : span.end]) == value


def places(document, pointer):
    yield pointer, document
    if isinstance(document, dict):
        for key, value in document.items():
            yield from places(value, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from places(value, f"{pointer}/{index}")


def test_a_missing_value_points_at_what_should_hold_it():
    assert excerpt('{"model":\n  {"type": "mlp"}}', "a.json", "/model/hidden/0") == [
        '    a.json:2 |   {"type": "mlp"}}',
        " " * 17 + "^",
    ]
    assert excerpt("{nonsense", "a.json", "/model") == []


def test_a_long_line_is_cut_around_the_value():
    text = '{"a": "' + "x" * 500 + '", "b": 12}'
    line, carets = excerpt(text, "a.json", "/b")
    assert len(line) < 130
    assert line[carets.index("^") :].startswith("12")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0s"), (59.6, "1m"), (61, "1m 1s"), (3600, "1h"), (3661, "1h 1m"), (90_000, "1d 1h"), (86_400 * 40, "40d")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_words():
    assert [size(count) for count in (0, 1023, 1024, 3 << 30, 5 << 40)] == ["0 B", "1023 B", "1.0 KiB", "3.0 GiB", "5.0 TiB"]
    assert [number(value) for value in (None, 3, 0.12345, math.nan, 1e-9)] == ["-", "3", "0.1235", "nan", "1e-09"]
    assert brief("a\n b", 10) == "a b"
    assert brief("x" * 99, 10) == "x" * 9 + "…"
    assert age(None) == ""
