"""An agent from start to end: what it prints, what it tells, what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.worker.agent_process import spawned
from tests.worker.fake_child import checkpoint_content
from tests.worker.fake_service import FakeService
from tests.worker.polling import is_running, until


def test_a_ready_worker_prints_one_line_with_its_id_and_the_address(service, agent):
    worker = agent(service, MESHYARD_CPU_DEVICES="6", MESHYARD_LABELS="gpu=none,rack=7").ready()
    assert worker.out == f"meshyard worker wrk_1 ready at {service.url}\n"
    told = service.workers[0]
    assert (told.device_count, told.labels, told.slots) == (6, {"gpu": "none", "rack": "7"}, 1)
    assert {"label:gpu=none", "label:rack=7"} <= set(told.offers)


def test_a_job_runs_to_its_end(service, agent):
    job = service.submit([["print", "hello"], ["steps", 1, 5], ["checkpoint", 5], ["end", "succeeded", {"result": {"a": 1}}]])
    agent(service)
    until(lambda: job.finish)
    assert job.finish is not None
    assert (job.finish.ending, job.finish.step, job.finish.result, job.finish.error) == ("succeeded", 5, {"a": 1}, None)
    assert job.points("train/loss") == [(step, 1 / step) for step in range(1, 6)]
    assert job.checkpoints == [5]
    assert job.log == "hello\n"


def test_seconds_by_phase_hold_what_went_before_and_after_the_child(service, agent):
    job = service.submit([["end", "succeeded", {"seconds": {"compiling": 0.001}}]])
    agent(service)
    until(lambda: job.finish)
    assert job.finish is not None
    assert {"assigned", "compiling", "finalizing"} <= set(job.finish.seconds)


def test_the_start_message_says_all_a_child_needs(service, agent):
    job = service.submit([["start"]], devices=3)
    worker = agent(service, MESHYARD_CPU_DEVICES="4")
    until(lambda: job.finish)
    start = json.loads(job.log)
    directory = service.root / "jobs/job_1/att_1"
    assert start["directory"] == str(directory)
    assert start["outputs"] == str(directory / "outputs")
    assert (start["cpu_devices"], start["device_ids"], start["resume"], start["dataset"]) == (3, None, None, None)
    assert Path(start["compile_cache"]).is_relative_to(worker.work_dir)
    assert start["assignment"]["attempt_id"] == "att_1"


def test_a_child_knows_no_key_and_nothing_else_of_ours(service, agent):
    service.api_key = "secret"
    job = service.submit([["environment", "MESHYARD_API_KEY"], ["environment", "MESHYARD_SERVER"], ["environment", "PATH"]])
    agent(service, MESHYARD_API_KEY="secret")
    until(lambda: job.finish)
    assert "MESHYARD_API_KEY=None\nMESHYARD_SERVER=None\nPATH=/" in job.log


def test_every_attempt_has_a_fresh_child(service, agent):
    jobs = [service.submit([["spawn"], ["output", "x", "y"]]) for _ in range(3)]
    agent(service)
    until(lambda: all(job.finish for job in jobs))
    assert len({spawned(job.log) for job in jobs}) == 3


def test_whatever_a_child_started_is_gone_when_the_attempt_is_finished(service, agent):
    job = service.submit([["spawn"], ["end", "succeeded"]])
    agent(service)
    until(lambda: job.finish)
    assert not is_running(spawned(job.log))


def test_a_process_that_left_the_group_does_not_hold_up_the_attempt(service, agent):
    job = service.submit([["escape"], ["end", "succeeded"]])
    agent(service)
    until(lambda: job.finish)
    os.kill(spawned(job.log), signal.SIGKILL)


def test_slots_share_the_devices_and_run_at_once(service, agent):
    first, second = (service.submit([["start"], ["obey"]], devices=2) for _ in range(2))
    agent(service, MESHYARD_CPU_DEVICES="4", MESHYARD_SLOTS="2")
    until(lambda: first.log and second.log)
    caches = {json.loads(job.log)["compile_cache"] for job in (first, second)}
    assert len(caches) == 2


def test_one_job_may_have_the_devices_of_all_slots(service, agent):
    job = service.submit([["steps", 1, 1]], devices=4)
    agent(service, MESHYARD_CPU_DEVICES="4", MESHYARD_SLOTS="2")
    until(lambda: job.finish)
    assert job.finish.ending == "succeeded"


def test_a_job_for_which_too_few_devices_are_left_is_handed_back(service, agent):
    first, second = (service.submit([["obey"]], devices=3) for _ in range(2))
    agent(service, MESHYARD_CPU_DEVICES="4", MESHYARD_SLOTS="2")
    until(lambda: first.finish or second.finish)
    assert sorted(job.finish.ending for job in (first, second) if job.finish) == ["released"]


def test_a_job_larger_than_the_worker_is_not_asked_for(service, agent):
    service.submit([["steps", 1, 1]], devices=5)
    agent(service, MESHYARD_CPU_DEVICES="4", MESHYARD_SLOTS="2").ready()
    until(lambda: service.claims >= 2)
    assert len(service.queue) == 1


def test_a_spare_child_waits_before_there_is_a_job(service, agent):
    worker = agent(service).ready()
    until(lambda: len(worker.children()) == 1)
    waiting = worker.children()
    job = service.submit([["obey"]])
    until(lambda: job.beats)
    assert waiting[0] in worker.children()


def test_a_spare_that_died_is_replaced(service, agent):
    worker = agent(service).ready()
    until(lambda: len(worker.children()) == 1)
    os.kill(worker.children()[0], signal.SIGKILL)
    job = service.submit([["steps", 1, 2]])
    until(lambda: job.finish)
    assert job.finish is not None


def test_two_workers_with_one_work_folder_take_different_rooms(service, agent):
    agents = [agent(service, MESHYARD_WORK_DIR=str(service.root.parent / "shared")).ready() for _ in range(2)]
    assert len(agents) == 2
    assert sorted(path.name for path in (service.root.parent / "shared").iterdir()) == ["0", "1"]


def test_checkpoints_lie_in_the_artifact_folder_as_they_were_written(service, agent):
    job = service.submit([["steps", 1, 3], ["checkpoint", 3]])
    agent(service)
    until(lambda: job.finish)
    (committed,) = job.reports[-1].checkpoints or job.reports[0].checkpoints
    assert {file.path for file in committed.files} == set(checkpoint_content(3))
    assert committed.metrics == {"eval/loss": 0.5}


def test_the_agent_never_loads_a_numerical_library():
    program = "import sys, worker.__main__; print(sorted({'jax', 'jaxlib', 'numpy', 'flax', 'orbax'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_worker_without_the_artifact_folder_keeps_nothing_of_an_attempt(remote: FakeService, agent):
    job = remote.submit([["output", "a.txt", "A"], ["checkpoint", 1], ["end", "succeeded", {"artifacts": ["a.txt"]}]])
    worker = agent(remote)
    until(lambda: job.finish)
    until(lambda: not list(worker.work_dir.glob("0/scratch/*")))
    assert job.files["outputs/a.txt"] == b"A"
