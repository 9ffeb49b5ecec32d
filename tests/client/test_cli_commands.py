"""Every command, in success and in failure: its exit code, and JSON that parses."""

from __future__ import annotations

import json

import pytest

from meshyard.cli import run
from tests.client.standin import Fault, World, problem

SUMMARY = {
    "mu": {"mean": 4.4, "sd": 3.2, "q05": -1.0, "q50": 4.4, "q95": 9.7, "r_hat": 1.001, "ess_bulk": 1500.0, "ess_tail": 1400.0},
    "tau": {"mean": 3.6, "sd": 3.1, "q05": 0.3, "q50": 2.8, "q95": 9.6, "r_hat": 1.03, "ess_bulk": 90.0, "ess_tail": None},
}
COMMANDS = {
    "submit SPEC": "job_",
    "submit SPEC --name other --set steps=5 --idempotency-key k": "job_",
    "submit SPEC --dry-run": "",
    "submit SPEC --follow": "job_",
    "validate SPEC": "",
    "get @last": "job_",
    "get JOB": "job_",
    "get done": "job_",
    "ps": "job_",
    "ps --all": "job_",
    "ps --status succeeded": "job_",
    "watch done": "job_",
    "watch done --exit-status": "job_",
    "wait done --timeout 60": "job_",
    "logs done --tail 1": "job_",
    "logs done -f": "job_",
    "metrics done": "train/loss",
    "metrics done --names train/loss --csv": "train/loss",
    "metrics done --plot": "train/loss",
    "events done": "",
    "attempts done": "att_",
    "why JOB": "job_",
    "cancel @last": "job_",
    "pause JOB --no-checkpoint": "job_",
    "resume JOB": "job_",
    "profile JOB --steps 3": "job_",
    "retry done": "job_",
    "clone done": "job_",
    "extend done --num-samples 10": "job_",
    "checkpoint JOB": "job_",
    "patch JOB --name other --priority 2 --metadata a=b": "job_",
    "checkpoints expire done 10 --at 2999-01-01T00:00:00Z": "10",
    "rm done --yes": "job_",
    "checkpoints done": "10",
    "checkpoints ls done": "10",
    "checkpoints get done --step best --to TMP": "TMP/10",
    "checkpoints get done --format tar --to TMP/x.tar": "TMP/x.tar",
    "checkpoints pin done 10": "10",
    "program done": "job_",
    "result done": "job_",
    "artifacts done": "",
    "artifacts get done meta/info.json --to TMP": "TMP/info.json",
    "upload SPEC --format text": "ds_1",
    "datasets": "ds_1",
    "datasets get ds_1": "ds_1",
    "datasets download ds_1 --to TMP": "TMP/words.txt",
    "workers": "wrk_1",
    "workers drain wrk_1": "wrk_1",
    "webhooks": "whk_1",
    "webhooks add https://example.com/ --events job.*,checkpoint.committed --name x": "whk_1",
    "webhooks test whk_1": "whd_1",
    "webhooks deliveries whk_1 -n 5": "whd_1",
    "webhooks redeliver whk_1 whd_1": "whd_1",
    "webhooks rotate whk_1": "whk_1",
    "webhooks enable whk_1": "whk_1",
    "webhooks disable whk_1": "whk_1",
    "webhooks rm whk_1": "whk_1",
    "keys": "key_1",
    "keys create jobs:read worker --name x --project prj_1 --all-projects --expires-at 2999-01-01T00:00:00Z": "key_1",
    "keys rotate key_1 --overlap-seconds 0": "key_1",
    "keys revoke key_1": "key_1",
    "projects": "prj_1",
    "projects create vision --weight 2 --quota max_running_jobs=4 --quota device_seconds_period=day": "prj_1",
    "projects update prj_1 --quota max_devices=none": "prj_1",
    "projects rm prj_1": "prj_1",
    "usage --project prj_1 --since 2026-11-01": "2026-11-23",
    "audit --key key_1 -n 5": "aud_1",
    "catalog optimizers": "adamw",
    "catalog optimizers adamw": "adamw",
}


class Furnished(World):
    """A service with one finished job and one that waits."""

    def __init__(self):
        super().__init__(result={"summary": SUMMARY, "diagnostics": {"divergences": 0}, "stopped_by": "max_draws"})
        self.done = self.add(name="done")["id"]
        self.series[self.done] = [{"name": "train/loss", "labels": {}, "steps": [1, 2], "values": [3.0, 2.0], "nonfinite": []}]
        self.checkpoints = [{"step": 10, "metrics": {"eval/loss": 2.0}, "bytes": 768_002, "pinned": False}]
        self.end(self.done, "succeeded")
        self.live = self.add(name="live")["id"]


class Command:
    """Runs a command line against the stand-in and gives its exit code."""

    def __init__(self, world, folder):
        self.world, self.folder, self.spec = world, folder, folder / "spec.json"
        self.spec.write_text('{"kind": "train", "name": "fresh",\n "optimizer": {"type": "adam"}}')

    def __call__(self, text, *more):
        words = text.replace("SPEC", str(self.spec)).replace("TMP", str(self.folder)).replace("JOB", self.world.live).split()
        if "--follow" in words:
            self.world.faults.append(Fault(lambda request: _end_jobs(self.world, request), None, times=1))
        return run([*words, *more])


@pytest.fixture
def world():
    return Furnished()


@pytest.fixture
def command(world, server, tmp_path, monkeypatch):
    monkeypatch.setenv("MESHYARD_SERVER", server)
    return Command(world, tmp_path)


def _end_jobs(world, request):
    # A job that is followed has to end sometime: when it is first streamed.
    if request.url.path.endswith("/stream"):
        for job in [job for job in world.jobs.values() if job["status"] == "queued"]:
            world.end(job["id"], "succeeded")
    return False


@pytest.mark.parametrize("text", COMMANDS)
def test_json_is_one_document(command, capsys, text):
    assert command(text, "-o", "json") == 0
    out = capsys.readouterr().out
    assert json.loads(out) is not None


@pytest.mark.parametrize(("text", "start"), COMMANDS.items())
def test_ids_come_one_a_line(command, capsys, text, start):
    assert command(text, "-o", "id") == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(start.replace("TMP", str(command.folder))) for line in lines)
    assert lines or text.startswith(("validate", "submit SPEC --dry-run"))


@pytest.mark.parametrize("text", COMMANDS)
def test_a_person_sees_something(command, capsys, text):
    assert command(text) == 0
    shown = capsys.readouterr()
    assert shown.out or shown.err


FAILURES = {
    "unreachable": (7, "cannot reach"),
    "no key": (4, "Give a key."),
    "broken": (1, "oops"),
    "garbage": (1, "the answer is not JSON"),
}


SOME = ["submit SPEC", "ps", "watch done", "logs done -f", "checkpoints get done", "upload SPEC", "result done", "rm done"]
CASES = [(text, failure) for failure in FAILURES for text in (SOME if failure == "unreachable" else COMMANDS)]


@pytest.mark.parametrize(("text", "failure"), CASES)
def test_failures_are_json_too(world, command, capsys, monkeypatch, text, failure):
    code, sentence = FAILURES[failure]
    if failure == "unreachable":
        monkeypatch.setenv("MESHYARD_SERVER", "http://127.0.0.1:1")
    elif failure == "no key":
        world.key = "secret"
    else:
        answer = problem(400, "internal", "oops") if failure == "broken" else problem(200, "", "")
        answer.body = answer.body if failure == "broken" else b"<html>"
        answer.init_headers({"content-type": "application/problem+json"})
        world.faults.append(Fault(lambda _request: True, answer, times=10**6))
    found = command(text, "-o", "json")
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    if failure == "garbage" and text.startswith(("rm ", "logs ", "wait ", "webhooks rm ", "keys revoke ", "projects rm ")):
        return  # nothing in these answers needs to be understood
    assert found == code
    assert document["object"] == "error"
    assert document["exit_code"] == code
    assert sentence in document["detail"]
    assert sentence in shown.err


USAGE = [
    "",
    "nonsense",
    "submit",
    "submit SPEC --bogus",
    "submit /no/such/file",
    "submit SPEC --set nothing",
    "submit SPEC --set kind.x.y=1",
    "ps --limit 0",
    "ps --status nonsense",
    "get",
    "wait JOB --timeout x",
    "checkpoints get done --step x",
    "pin",
    "checkpoints pin done x",
    "upload /no/such/file",
    "catalog nonsense",
    "serve --port x",
    "work --slots 0",
    "workers drain",
    "ps --server nonsense",
    "up --bogus",
    "metrics",
]


@pytest.mark.parametrize("text", USAGE)
def test_usage_errors(command, capsys, text):
    assert command(text) == 2
    assert command(text, "-o", "json") == 2
    out = capsys.readouterr().out
    if text:
        assert json.loads(out)["exit_code"] == 2


@pytest.mark.parametrize("text", ["get nobody", "get job_ffff", "watch nobody", f"get job_{'0' * 32}", "catalog optimizers nobody"])
def test_what_is_not_there(command, capsys, text):
    assert command(text, "-o", "json") == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["exit_code"] == 1
    assert shown.err.startswith("error: ")


@pytest.mark.parametrize("status", ["failed", "cancelled"])
@pytest.mark.parametrize("text", ["wait JOB", "watch JOB --exit-status"])
def test_a_job_that_did_not_succeed(world, command, capsys, text, status):
    world.end(world.live, status, error={"code": "nan_loss", "message": "The loss is not finite"} if status == "failed" else None)
    assert command(text, "-o", "json") == 5
    assert json.loads(capsys.readouterr().out)["status"] == status
    assert command("watch JOB", "-o", "json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["status"] == status
    assert f"live {status}" in shown.err


def test_a_followed_job_that_fails(world, command, capsys):
    def fail(request):
        if request.url.path.endswith("/stream"):
            job = next(reversed(world.jobs))
            if world.jobs[job]["status"] == "queued":
                world.end(job, "failed", error={"code": "oom", "message": "Out of memory"})
        return False

    world.faults.append(Fault(fail, None))
    assert command("submit SPEC -f", "-o", "json") == 5
    shown = capsys.readouterr()
    assert json.loads(shown.out)["error"]["code"] == "oom"
    assert "✗ fresh failed" in shown.err
    assert "Out of memory (oom)" in shown.err


def test_waiting_has_an_end(command, capsys):
    assert command("wait JOB --timeout 0", "-o", "json") == 3
    shown = capsys.readouterr()
    assert json.loads(shown.out)["status"] == "queued"
    assert "still queued after 0 s" in shown.err


@pytest.mark.parametrize("text", ["cancel done", "pause done", "rm JOB"])
def test_conflicts(command, capsys, text):
    assert command(text, "-o", "json") == 6
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == 409
    assert document["current_status"] in {"succeeded", "queued"}


def test_a_wrong_spec_is_shown_with_carets(command, capsys):
    command.spec.write_text('{"kind": "train",\n "optimizer": {\n   "type": "adamx"}}')
    assert command("submit SPEC") == 1
    lines = capsys.readouterr().err.splitlines()
    place = next(
        index for index, line in enumerate(lines) if line.startswith("  /optimizer/type: Did you mean adam? (unknown_value)")
    )
    assert lines[place + 1].endswith(':3 |    "type": "adamx"}}')
    assert lines[place + 2].strip() == "^" * len('"adamx"')
    assert lines[place + 2].index("^") == lines[place + 1].index('"adamx"')
    assert lines[-1] == "  request id: req_1"


@pytest.mark.parametrize("text", ["validate SPEC", "submit SPEC --dry-run"])
def test_a_spec_that_would_be_refused(world, command, capsys, text):
    command.spec.write_text('{"kind": "train", "bogus": 1}')
    before = len(world.jobs)
    assert command(text, "-o", "json") == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["errors"][0]["pointer"] == "/bogus"
    assert "/bogus: There is no such field." in shown.err
    assert len(world.jobs) == before


@pytest.mark.parametrize(("text", "place"), [('{"kind": "train",}', 18), ("", 1), ('{"a": 1', 8)])
def test_a_spec_that_is_no_json(command, capsys, text, place):
    command.spec.write_text(text)
    assert command("submit SPEC") == 2
    err = capsys.readouterr().err
    assert f"line 1, column {place}" in err


def test_a_spec_too_deep_to_read(command, capsys):
    command.spec.write_text("[" * 100_000)
    assert command("submit SPEC", "-o", "json") == 2
    assert json.loads(capsys.readouterr().out)["exit_code"] == 2


def test_settings_on_the_command_line(world, command, capsys):
    command.spec.write_text('{"kind": "train", "optimizer": {"transforms": [{"type": "adam"}, {"type": "clip"}]}}')
    settings = [
        "steps=50",
        "optimizer.transforms.1.max_norm=0.5",
        "metadata.team=nlp",
        'mesh.axes={"data": 4}',
        "data.tokenizer=null",
    ]
    assert command("submit SPEC", *(word for setting in settings for word in ("--set", setting)), "--name", "x", "-o", "id") == 0
    spec = world.jobs[capsys.readouterr().out.strip()]["spec"]
    assert spec == {
        "kind": "train",
        "name": "x",
        "optimizer": {"transforms": [{"type": "adam"}, {"type": "clip", "max_norm": 0.5}]},
        "steps": 50,
        "metadata": {"team": "nlp"},
        "mesh": {"axes": {"data": 4}},
        "data": {"tokenizer": None},
    }


def test_an_idempotency_key_never_makes_two_jobs(command, capsys):
    for _ in range(2):
        assert command("submit SPEC --idempotency-key once", "-o", "id") == 0
    first, second = capsys.readouterr().out.split()
    assert first == second


def test_a_job_is_found_by_name_and_prefix(world, command, capsys):
    again = world.add(name="done")["id"]
    for text, job in (("get done", again), (f"get {again[:-1]}", again), (f"get {again[4:-1]}", again), ("get @last", again)):
        assert command(text, "-o", "id") == 0
        assert capsys.readouterr().out.strip() == job
    assert command("get job_") == 1
    assert command(f"get {again[:8]}") == 1
    assert "fits more than one job" in capsys.readouterr().err


def test_steering_by_name_asks_for_one_job(world, command, capsys):
    again = world.add(name="done")["id"]
    assert command("cancel done", "-o", "id") == 0
    assert capsys.readouterr().out.strip() == again
    assert command("rm done") == 1
    assert "fits more than one job" in capsys.readouterr().err


def test_quiet_leaves_results_and_errors(command, capsys):
    assert command("submit SPEC --follow -q") == 0
    assert capsys.readouterr().err == ""
    assert command("get nobody -q") == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_a_patch_that_says_nothing_or_wrongly_is_a_usage_fault(command, capsys):
    assert command("patch JOB") == 2
    assert "--priority" in capsys.readouterr().err
    assert command("patch JOB --metadata team") == 2
    assert command("checkpoints expire done 10") == 2
    assert command("checkpoints expire done 10 --never --at 2999-01-01T00:00:00Z") == 2


def test_metrics_are_followed_to_the_end(command, capsys):
    assert command("metrics done -f --names train/loss") == 0
    assert capsys.readouterr().out.splitlines() == ["name,labels,step,value", "train/loss,,1,3.0", "train/loss,,2,2.0"]


GROUPS = {
    "checkpoints": ["ls", "get", "pin", "expire"],
    "artifacts": ["ls", "get"],
    "datasets": ["ls", "get", "download"],
    "workers": ["ls", "drain"],
}
SINGLE = [
    "submit",
    "validate",
    "get",
    "ps",
    "watch",
    "wait",
    "logs",
    "metrics",
    "events",
    "attempts",
    "why",
    "cancel",
    "pause",
    "resume",
    "profile",
    "retry",
    "clone",
    "extend",
    "checkpoint",
    "patch",
    "generate",
    "predict",
    "rm",
    "program",
    "result",
    "upload",
    "catalog",
    "serve",
    "work",
    "up",
    "migrate",
]


@pytest.mark.parametrize("text", [*SINGLE, *(f"{group} {name}" for group, names in GROUPS.items() for name in names)])
def test_every_command_has_help_with_examples(command, capsys, text):
    assert command(text, "--help") == 0
    out = capsys.readouterr().out
    assert out.count(f"meshyard {text.removesuffix(' ls')}") >= 3, "usage and two examples"


def test_the_whole_has_help(command, capsys):
    assert command("--help") == 0
    out = capsys.readouterr().out
    assert all(f" {name} " in out for name in [*SINGLE, *GROUPS])
    assert "Exit codes" in out
    assert command("--version") == 0
    assert capsys.readouterr().out.startswith("meshyard ")
