"""The real agent and the real service, with a child that needs no JAX."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.worker.agent_process import AgentProcess, spawned
from tests.worker.fake_child import checkpoint_content
from tests.worker.polling import is_running, until
from tests.worker.service_process import ServiceProcess

ENDLESS = [["steps", 1, 10], ["checkpoint", 10], ["print", "waiting"], ["obey"]]
UNTIL_KILLED = [["once", "pid"], ["steps", 1, 10], ["checkpoint", 10], ["once", "print", "waiting"], ["once", "ignore"]]


@pytest.fixture
def real(tmp_path: Path) -> Iterator[ServiceProcess]:
    process = ServiceProcess(tmp_path)
    process.up()
    yield process
    process.close()


@pytest.fixture(params=["shared", "remote"])
def start(request: pytest.FixtureRequest, real: ServiceProcess, agent: Callable[..., AgentProcess], tmp_path: Path):
    """Starts a worker that sees the artifact folder, or one that does not."""
    (tmp_path / "other").mkdir()
    more = {} if request.param == "shared" else {"MESHYARD_ARTIFACT_ROOT": str(tmp_path / "other")}
    return lambda graces=None, **environment: agent(real, graces, **more, **environment)


def waiting(real: ServiceProcess, job: str) -> None:
    until(lambda: "waiting" in real.log(job))


def test_a_job_runs_to_its_end(real, start):
    script = [["print", "hello"], ["steps", 1, 100], ["output", "draws/1.txt", "one"], ["checkpoint", 100]]
    end = {"artifacts": ["a.nc"], "result": {"final": {"x": 1}}}
    job = real.submit([*script, ["output", "a.nc", "A"], ["end", "succeeded", end]])
    start()
    assert real.until_status(job, "succeeded", "failed")["progress"]["step"] == 100
    assert real.log(job) == "hello\n"
    assert real.steps(job) == list(range(1, 101))
    assert real.checkpoints(job) == [100]
    assert real.get(f"/v1/jobs/{job}/result") == {"final": {"x": 1}}
    for path, body in checkpoint_content(100).items():
        assert real.content(f"/v1/jobs/{job}/checkpoints/100/files/{path}") == body
    assert real.content(f"/v1/jobs/{job}/artifacts/draws/1.txt") == b"one"
    assert real.content(f"/v1/jobs/{job}/artifacts/a.nc") == b"A"
    assert set(real.attempts(job)[0]["seconds"]) == {"assigned", "training", "finalizing"}


def test_a_trace_that_is_asked_for_is_listed_while_the_job_runs(real, start):
    job = real.submit([["steps", 1, 3], ["print", "waiting"], ["trace", "profile/3/trace.pb"], ["obey"]])
    start()
    waiting(real, job)
    real.post(f"/v1/jobs/{job}/profile", {"num_steps": 7, "memory": False})
    until(lambda: "profile.finished" in real.events(job))
    assert json.loads(real.content(f"/v1/jobs/{job}/artifacts/profile/3/trace.pb")) == {
        "type": "profile", "num_steps": 7, "memory": False,
    }  # fmt: skip
    real.post(f"/v1/jobs/{job}/cancel")
    real.until_status(job, "cancelled")
    assert real.events(job).count("profile.requested") == 1


def test_a_killed_child_is_followed_by_another_that_resumes(real, start):
    script = [["steps", 1, 10], ["output", "draws/1.txt", "one"], ["checkpoint", 10], ["once", "die", "SIGKILL"], ["digests"]]
    job = real.submit([*script, ["output", "draws/2.txt", "two"], ["checkpoint", 20, ["draws/1.txt", "draws/2.txt"]]])
    start()
    real.until_status(job, "succeeded", "failed")
    first, second = real.attempts(job)
    assert (first["ending"], first["cause"]["code"], second["resumed_from"]) == ("failed", "child_killed", 10)
    assert real.checkpoints(job) == [10, 20]
    assert real.content(f"/v1/jobs/{job}/artifacts/draws/1.txt") == b"one"


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(real, start):
    # The first attempt leaves two checkpoints and waits; the newer one is damaged before the second begins.
    script = [["steps", 1, 10], ["checkpoint", 10], ["checkpoint", 11], ["once", "print", "waiting"], ["once", "obey"]]
    job = real.submit(script)
    worker = start()
    waiting(real, job)
    real.post(f"/v1/jobs/{job}/pause?checkpoint=false")
    real.until_status(job, "paused")
    worker.close()
    (weights,) = real.root.glob(f"jobs/{job}/*/checkpoints/11/state/weights")
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    real.post(f"/v1/jobs/{job}/resume")
    start()
    real.until_status(job, "succeeded", "failed")
    assert [attempt["resumed_from"] for attempt in real.attempts(job)] == [None, 11, 10]
    assert "checkpoint.corrupt" in real.events(job)


@pytest.mark.parametrize(("action", "status"), [("cancel", "cancelled"), ("pause", "paused")])
@pytest.mark.parametrize("save", ["true", "false"])
def test_stopping_a_job(real, start, action, status, save):
    job = real.submit(ENDLESS)
    start()
    waiting(real, job)
    real.post(f"/v1/jobs/{job}/{action}?checkpoint={save}")
    real.until_status(job, status)
    assert real.checkpoints(job) == ([10, 11] if save == "true" else [10])


def test_a_checkpoint_on_demand(real, start):
    job = real.submit(ENDLESS)
    start()
    waiting(real, job)
    real.post(f"/v1/jobs/{job}/checkpoint")
    until(lambda: real.checkpoints(job) == [10, 11])
    real.post(f"/v1/jobs/{job}/checkpoint")
    until(lambda: real.checkpoints(job) == [10, 11, 12])


def test_a_service_killed_and_started_again_has_heard_everything_once(real, start):
    job = real.submit([["steps", 1, 50], ["checkpoint", 50], ["print", "waiting"], ["await", "checkpoint"], ["steps", 51, 4000]])
    worker = start()
    waiting(real, job)
    real.post(f"/v1/jobs/{job}/checkpoint")
    until(lambda: len(real.steps(job)) > 50 or real.job(job)["status"] != "running")
    real.down(signal.SIGKILL)
    until(lambda: "trying again" in worker.err)
    real.up()
    assert real.until_status(job, "succeeded", "failed")["status"] == "succeeded"
    assert real.steps(job) == list(range(1, 4001))
    assert len(real.attempts(job)) == 1


def test_a_killed_worker_loses_its_job_to_another(real, start):
    job = real.submit(UNTIL_KILLED)
    worker = start()
    waiting(real, job)
    worker.signal(signal.SIGKILL)
    worker.wait()
    start()
    real.until_status(job, "succeeded", "failed")
    assert [attempt["ending"] for attempt in real.attempts(job)] == ["lost", "succeeded"]
    assert "worker.lost" in real.events(job)


def test_a_worker_that_was_stopped_for_longer_than_its_lease_ends_its_child(real, start):
    job = real.submit([["spawn"], *UNTIL_KILLED])
    frozen = start()
    waiting(real, job)
    child = spawned(real.log(job))
    frozen.signal(signal.SIGSTOP)
    start()
    real.until_status(job, "succeeded", "failed")
    frozen.signal(signal.SIGCONT)
    until(lambda: not is_running(child))
    assert [attempt["ending"] for attempt in real.attempts(job)] == ["lost", "succeeded"]


def test_sigterm_hands_the_job_to_another_worker(real, start):
    script = [["steps", 1, 10], ["checkpoint", 10], ["once", "print", "waiting"], ["once", "obey"], ["steps", 12, 20]]
    job = real.submit(script)
    worker = start()
    waiting(real, job)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    start()
    real.until_status(job, "succeeded", "failed")
    first, second = real.attempts(job)
    assert (first["ending"], second["resumed_from"]) == ("released", 11)


def test_a_drained_worker_ends_when_it_is_empty(real, start):
    job = real.submit(ENDLESS)
    busy = start()
    waiting(real, job)
    idle = start().ready()
    for worker in real.get("/v1/workers")["data"]:
        real.post(f"/v1/workers/{worker['id']}/drain")
    assert (busy.wait(), idle.wait()) == (0, 0)
    assert real.job(job)["status"] == "queued"


def test_a_drain_while_nothing_runs_leaves_the_next_job_alone(real, start):
    worker = start().ready()
    (row,) = real.get("/v1/workers")["data"]
    real.post(f"/v1/workers/{row['id']}/drain")
    job = real.submit(ENDLESS)
    assert worker.wait() == 0
    assert real.attempts(job) == []


def test_what_a_failed_child_leaves_tells_why(real, start):
    job = real.submit([["print", "RESOURCE_EXHAUSTED: out of memory"], ["die", "SIGABRT"]])
    start()
    error = real.until_status(job, "failed")["error"]
    assert (error["code"], error["fault"], error["retryable"]) == ("oom", "user", False)
    assert "RESOURCE_EXHAUSTED" in error["message"]


def test_three_workers_share_many_jobs_and_run_each_once(real, start):
    jobs = [real.submit([["steps", 1, 3], ["checkpoint", 3]]) for _ in range(12)]
    for _ in range(3):
        start(MESHYARD_SLOTS="2")
    for job in jobs:
        assert real.until_status(job, "succeeded", "failed")["status"] == "succeeded"
        assert len(real.attempts(job)) == 1


def test_a_job_goes_on_from_another_ones_checkpoint_and_outputs(real, start):
    source = real.submit([["steps", 1, 10], ["output", "draws/1.txt", "one"], ["checkpoint", 10]])
    start()
    real.until_status(source, "succeeded")
    script = [["digests"], ["output", "draws/2.txt", "two"], ["checkpoint", 20, ["draws/1.txt", "draws/2.txt"]]]
    job = real.submit(script, init_from={"job": source, "step": 10, "what": "all"})
    assert real.until_status(job, "succeeded", "failed")["status"] == "succeeded"
    assert real.content(f"/v1/jobs/{job}/artifacts/draws/1.txt") == b"one"
    assert os.path.sep.join(["draws", "1.txt"]) in real.log(job)
