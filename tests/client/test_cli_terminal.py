"""The command line as a process: on a terminal and off it, and when it is interrupted."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading

import pytest

MESHYARD = [sys.executable, "-m", "meshyard"]


class Process:
    """A command in a process; `seen` fills with what it writes to standard error."""

    def __init__(self, *words, **environment):
        self._popen = subprocess.Popen(
            [*MESHYARD, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )

    def wait_for(self, text):
        """Read standard error until a line has this."""
        assert self._popen.stderr is not None
        lines = iter(self._popen.stderr.readline, "")
        assert any(text in line for line in lines), f"ended without {text!r}"

    def interrupt(self):
        self._popen.send_signal(signal.SIGINT)
        out, err = self._popen.communicate(timeout=60)
        return self._popen.returncode, out, err


@pytest.fixture(scope="module", autouse=True)
def interruptible():
    """A shell has what it sends to the background ignore SIGINT, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def job(world):
    return world.add(name="lm")["id"]


@pytest.mark.parametrize("words", [["watch", "lm"], ["watch", "lm", "--exit-status"]])
def test_ctrl_c_leaves_the_job_alone(world, server, job, words):
    process = Process(*words, "-o", "json", MESHYARD_SERVER=server)
    # What has happened before is taken as read; the event shows that the watch is on.
    told = threading.Event()
    threading.Thread(target=tell_until, args=(world, job, told), daemon=True).start()
    process.wait_for("checkpoint.committed")
    told.set()
    code, out, err = process.interrupt()
    assert code == 130
    assert json.loads(out)["exit_code"] == 130
    assert f"detached; the job goes on.  Follow: meshyard watch {job}   Stop: meshyard cancel {job}" in err
    assert world.jobs[job]["status"] == "queued"
    assert not [path for method, path, _ in world.requests if method == "POST"]


def tell_until(world, job, told):
    while not told.wait(0.05):
        world.tell(job, "checkpoint.committed", step=1)


def test_ctrl_c_leaves_a_submitted_job_alone(world, server, tmp_path):
    spec = tmp_path / "spec.json"
    spec.write_text('{"kind": "train"}')
    process = Process("submit", str(spec), "-f", MESHYARD_SERVER=server)
    process.wait_for("job.queued")
    code, out, err = process.interrupt()
    assert (code, out) == (130, "")
    job = next(iter(world.jobs))
    assert f"meshyard watch {job}" in err
    assert world.jobs[job]["status"] == "queued"


def test_a_spec_from_standard_input(world, server):
    done = subprocess.run(
        [*MESHYARD, "submit", "-", "-o", "id", "--server", server],
        input='{"kind": "train", "name": "x"}',
        capture_output=True,
        text=True,
        check=True,
    )
    assert world.jobs[done.stdout.strip()]["name"] == "x"


def test_a_reader_that_has_seen_enough(world, server):
    for _ in range(300):
        world.add(name="x" * 20)
    ps = subprocess.Popen(
        [*MESHYARD, "ps", "--limit", "300", "-o", "json", "--server", server], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert ps.stdout is not None
    assert ps.stderr is not None
    ps.stdout.read(10)
    ps.stdout.close()
    assert ps.stderr.read() == b""
    assert ps.wait(60) == 0


def on_terminal(words, answer=b"", environment=None):
    """Run a command on a terminal of its own; gives its exit code and all that it showed."""
    terminal, ours = pty.openpty()
    everything = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200", **(environment or {})}
    command = subprocess.Popen([*MESHYARD, *words], stdin=ours, stdout=ours, stderr=ours, env=everything, start_new_session=True)
    os.close(ours)
    os.write(terminal, answer)
    shown = b""
    try:
        while chunk := os.read(terminal, 65_536):
            shown += chunk
    except OSError:
        pass  # a terminal whose last process has gone
    os.close(terminal)
    return command.wait(60), shown.decode()


COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9]")


@pytest.mark.parametrize("plain", [False, True])
def test_colours_come_off(world, server, job, plain):
    world.end(job, "failed", error={"code": "oom", "message": "Out of memory"})
    environment = {"NO_COLOR": "1"} if plain else {}
    code, shown = on_terminal(["ps", "-a", "--server", server], environment=environment)
    assert code == 0
    assert "failed" in shown
    assert bool(COLOUR.search(shown)) is not plain


def test_progress_is_drawn_in_place(world, server, job):
    world.series[job] = [{"name": "train/loss", "labels": {}, "steps": [50], "values": [1.5], "nonfinite": []}]
    world.end(job, "succeeded")
    code, shown = on_terminal(["watch", "lm", "--server", server])
    assert code == 0
    assert "✓ lm succeeded" in shown
    assert "\x1b[?25l" in shown, "the cursor is hidden while a panel is drawn"
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h"), "and shown again"


def test_off_a_terminal_nothing_is_drawn(world, server, job):
    world.end(job, "succeeded")
    done = subprocess.run([*MESHYARD, "watch", "lm", "--server", server], capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout + done.stderr
    assert "✓ lm succeeded" in done.stderr


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 3), (b"y\n", 0)])
def test_deleting_asks_first(world, server, job, answer, code):
    world.end(job, "succeeded")
    found, shown = on_terminal(["rm", "lm", "--server", server], answer)
    assert found == code
    assert "and all it holds?" in shown
    assert (job in world.jobs) == (code == 3)
