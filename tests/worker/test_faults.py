"""What goes wrong on the way: children that die or do not listen, a service that is away or talks nonsense."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from tests.worker.agent_process import spawned
from tests.worker.fake_service import Attempt
from tests.worker.polling import is_running, until
from worker.child import Exit
from worker.diagnosis import OutOfMemoryKills, diagnose

ENDLESS = [["steps", 1, 10], ["checkpoint", 10], ["print", "waiting"], ["obey"]]


def error_of(job: Attempt) -> tuple[str, str]:
    until(lambda: job.finish)
    assert job.finish is not None
    assert job.finish.ending == "failed"
    assert job.finish.error is not None
    return job.finish.error.code, job.finish.error.message


def child_of(job: Attempt) -> int:
    """The number of the child that runs a job whose script began with `print_pid`."""
    until(lambda: "pid " in job.log)
    return int(job.log.split("pid ")[1].split()[0])


def ending_of(job: Attempt) -> str:
    until(lambda: job.finish)
    assert job.finish is not None
    return job.finish.ending


# -- children that die -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT", "SIGTERM"])
def test_a_child_ended_by_a_signal_is_the_infrastructures_fault(service, agent, name):
    job = service.submit([["steps", 1, 3], ["print", "last words"], ["reset", name], ["die", name]])
    agent(service)
    code, message = error_of(job)
    assert code == "child_killed"
    assert name in message
    assert "last words" in message
    assert job.finish is not None
    assert job.finish.step == 3


def test_a_killed_child_has_died_at_the_step_that_it_marked(service, agent):
    job = service.submit([["steps", 1, 3], ["reach", 7], ["die", "SIGKILL"]])
    agent(service)
    assert error_of(job)[0] == "child_killed"
    assert job.finish is not None
    assert job.finish.step == 7


@pytest.mark.parametrize("words", ["jaxlib: RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes", "terminate: std::bad_alloc"])
def test_a_child_that_says_it_has_no_memory_is_out_of_memory(service, agent, words):
    job = service.submit([["print", words], ["die", "SIGABRT"]])
    agent(service)
    code, message = error_of(job)
    assert code == "oom"
    assert words in message


def test_a_child_that_exits_without_a_word_tells_the_end_of_its_log(service, agent):
    job = service.submit([["print", "line", 100], ["print", "the very last line"], ["exit", 7]])
    agent(service)
    code, message = error_of(job)
    assert code == "internal"
    assert "status 7" in message
    assert message.count("line\n") == 19
    assert message.endswith("the very last line")


def test_a_child_that_talks_nonsense_fails_the_attempt_and_is_gone(service, agent):
    job = service.submit([["spawn"], ["say", '{"type": "progress", "step": "three"}'], ["ignore"]])
    agent(service)
    code, message = error_of(job)
    assert code == "internal"
    assert "step" in message
    assert not is_running(spawned(job.log))


def test_children_killed_at_any_time_are_reported_each_once(service, agent):
    moments = random.Random(2)
    jobs = [service.submit([["pid"], ["steps", 1, 2000], ["checkpoint", 2000], ["obey"]]) for _ in range(8)]
    agent(service, MESHYARD_SLOTS="2")
    for job in jobs:
        child = child_of(job)
        wanted = moments.randrange(2000)
        until(lambda job=job, wanted=wanted: len(job.points("train/loss")) >= wanted or job.finish)
        os.kill(child, signal.SIGKILL)
    for job in jobs:
        assert error_of(job)[0] == "child_killed"
        assert job.finishes == 1
        steps = [step for step, _ in job.points("train/loss")]
        assert steps == list(range(1, len(steps) + 1))


def test_a_killed_childs_seconds_are_those_it_had_told_and_sum_to_its_time(service, agent):
    told = {"importing": 0.25, "compiling": 0.5, "training": 0.125}
    phase = {"type": "phase", "phase": "training", "step": 0}
    job = service.submit([["send", phase], ["send", {"type": "progress", "step": 1, "seconds": told}], ["die", "SIGKILL"]])
    agent(service)
    error_of(job)
    assert job.finish is not None
    seconds = job.finish.seconds
    assert (seconds["importing"], seconds["compiling"]) == (0.25, 0.5)
    assert seconds["training"] > 0.125
    assert set(seconds) == {*told, "assigned", "finalizing"}


def test_a_kill_of_the_kernel_for_memory_is_told_apart(tmp_path: Path):
    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom 1\noom_kill 4\n")
    kills = OutOfMemoryKills([tmp_path / "absent", counter])
    assert diagnose(Exit(-9), "", kills).code == "child_killed"
    counter.write_text("low 0\noom 2\noom_kill 5\n")
    assert diagnose(Exit(-9), "", kills).code == "oom"
    assert diagnose(Exit(-11), "", kills).code == "child_killed"
    assert diagnose(Exit(1), "", kills).code == "internal"
    assert diagnose(Exit(1), "RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes", kills).code == "oom"
    assert diagnose(Exit(1), "ValueError: RESOURCE_EXHAUSTED: write: No space left on device", kills).code == "internal"


# -- children that do not listen ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "ending"), [("cancel", "cancelled"), ("pause", "paused"), ("drain", "released")])
@pytest.mark.parametrize("deaf", ["ignore", "hold"])
def test_a_child_that_ignores_a_command_is_killed_after_a_grace(service, agent, command, ending, deaf):
    job = service.submit([["spawn"], ["steps", 1, 3], [deaf]])
    agent(service, {"react_seconds": 0.3})
    until(lambda: job.points("train/loss"))
    job.command, job.sequence = command, 1
    assert ending_of(job) == ending
    assert not is_running(spawned(job.log))


def test_beats_go_on_while_a_child_holds_its_interpreter(service, agent):
    job = service.submit([["steps", 1, 3], ["hold"]])
    agent(service)
    until(lambda: job.points("train/loss"))
    beats = len(job.beats)
    until(lambda: len(job.beats) > beats + 3)
    assert job.beats[-1].step == 3
    assert job.beats[-1].last_step_at is not None


def test_a_child_that_stands_still_tells_where_and_is_taken_back(service, agent):
    job = service.submit([["spawn"], ["phase", "training"], ["steps", 1, 3], ["hold"]], stall_seconds=0.5)
    agent(service)
    code, message = error_of(job)
    assert code == "stalled"
    assert "at step 3 (training)" in message
    assert "do_hold" in job.log, "the stacks are in the log, although the interpreter was held"
    assert not is_running(spawned(job.log))


def test_a_child_that_moves_has_not_stalled(service, agent):
    job = service.submit([["phase", "training"], ["slowly", 1, 10, 0.2]], stall_seconds=1.0)
    agent(service)
    assert ending_of(job) == "succeeded"


@pytest.mark.parametrize(("command", "ending"), [("cancel", "cancelled"), ("pause", "paused"), ("drain", "released")])
def test_a_child_that_obeys_saves_and_ends(service, agent, command, ending):
    job = service.submit(ENDLESS)
    agent(service)
    until(lambda: "waiting" in job.log)
    job.command, job.sequence = command, 1
    assert ending_of(job) == ending
    assert job.checkpoints == [10, 11]


def test_a_command_without_a_checkpoint_saves_none(service, agent):
    job = service.submit(ENDLESS)
    agent(service)
    until(lambda: "waiting" in job.log)
    job.command, job.save, job.sequence = "cancel", False, 1
    assert ending_of(job) == "cancelled"
    assert job.checkpoints == [10]


def test_a_command_is_passed_once_for_each_sequence_and_acknowledged(service, agent):
    job = service.submit(ENDLESS)
    agent(service)
    until(lambda: "waiting" in job.log)
    for sequence in (1, 2):
        job.command, job.sequence = "checkpoint", sequence
        until(lambda sequence=sequence: job.beats and job.beats[-1].handled == sequence)
        until(lambda sequence=sequence: job.checkpoints == [*range(10, 11 + sequence)])


def test_a_stop_that_comes_during_preparation_never_starts_the_job(remote, agent):
    remote.contents["datasets/ds_1/content"] = b"x"
    dataset = {"id": "ds_1", "format": "text", "sha256": "0" * 64, "bytes": 1, "key": "datasets/0"}
    remote.fail("/content", 1_000_000, 503)
    job = remote.submit([["print", "started"]], dataset=dataset)
    agent(remote)
    until(lambda: job.beats)
    job.command, job.sequence = "cancel", 1
    assert ending_of(job) == "cancelled"
    assert job.log == ""


# -- logs --------------------------------------------------------------------------------------------------------------------


def test_ten_megabytes_of_log_arrive_whole(service, agent):
    line = "0123456789" * 10
    job = service.submit([["print", line, 100_000], ["steps", 1, 1], ["print", "the end"]])
    agent(service)
    assert ending_of(job) == "succeeded"
    assert job.log == f"{line}\n" * 100_000 + "the end\n"
    assert max(len(report.logs) for report in job.reports) <= 4_000_000


def test_bytes_that_are_no_text_are_replaced_and_endless_lines_broken(service, agent):
    job = service.submit([["bytes", "ff00c3"], ["bytes", "a40a"], ["print", "x" * 200_000], ["bytes", "e282"]])
    agent(service)
    assert ending_of(job) == "succeeded"
    first, *rest = job.log.split("\n")
    assert first == "\ufffd\ufffdä"
    assert "".join(rest) == "x" * 200_000 + "\ufffd"
    assert max(map(len, rest)) <= 65_536


def test_nonfinite_values_are_null_and_listed(service, agent):
    job = service.submit([["metrics", 1, {"a": "NaN", "b": 1.5}], ["metrics", 2, {"a": "-Infinity"}], ["metrics", 3, {"a": 2}]])
    agent(service)
    assert ending_of(job) == "succeeded"
    (series,) = (series for report in job.reports for series in report.series if series.name == "a")
    assert (series.steps, series.values, series.nonfinite) == ([1, 2, 3], [None, None, 2.0], {"0": "NaN", "1": "-Infinity"})


def test_events_of_the_child_reach_the_service(service, agent):
    job = service.submit([["send", {"type": "event", "event": "compile.finished", "data": {"seconds": 1.5}}]])
    agent(service)
    assert ending_of(job) == "succeeded"
    (event,) = (event for report in job.reports for event in report.events)
    assert (event.type, event.data) == ("compile.finished", {"seconds": 1.5})


# -- a service in trouble ----------------------------------------------------------------------------------------------------


def test_reports_of_a_time_without_service_arrive_once_and_in_order(service, agent):
    script = [["steps", 1, 500], ["checkpoint", 500], ["print", "waiting"], ["await", "checkpoint"], ["steps", 501, 9000]]
    job = service.submit(script)
    worker = agent(service)
    until(lambda: "waiting" in job.log)
    job.command, job.sequence = "checkpoint", 1
    until(lambda: any(step > 500 for step, _ in job.points("train/loss")) or job.finish)
    service.down()
    until(lambda: worker.err.count("trying again") >= 1)
    service.up()
    assert ending_of(job) == "succeeded"
    assert [step for step, _ in job.points("train/loss")] == list(range(1, 9001))
    assert [report.batch for report in job.reports] == list(range(1, len(job.reports) + 1))


def test_a_worker_outlives_a_service_that_is_away_longer_than_the_lease(service, agent):
    job = service.submit(ENDLESS)
    worker = agent(service)
    until(lambda: "waiting" in job.log)
    service.down()
    before = worker.err
    until(lambda: "going on and trying again" in worker.err.removeprefix(before))
    service.up()
    beats = len(job.beats)
    until(lambda: len(job.beats) > beats)
    job.command, job.sequence = "pause", 1
    assert ending_of(job) == "paused"


@pytest.mark.parametrize("status", [500, 503, 429])
@pytest.mark.parametrize("after", [False, True])
def test_a_batch_is_sent_unchanged_until_it_is_taken(service, agent, status, after):
    service.fail("/report", 3, status, after=after)
    job = service.submit([["steps", 1, 100], ["checkpoint", 100], ["steps", 101, 200]])
    agent(service)
    assert ending_of(job) == "succeeded"
    assert all(len(bodies) == 1 for bodies in job.bodies.values())
    assert [step for step, _ in job.points("train/loss")] == list(range(1, 201))
    assert job.checkpoints == [100]


def test_metrics_before_a_checkpoint_are_never_in_a_later_batch(service, agent):
    job = service.submit([["steps", 1, 3000], ["checkpoint", 3000], ["steps", 3001, 3100]])
    agent(service)
    assert ending_of(job) == "succeeded"
    seen: list[int] = []
    for report in job.reports:
        seen += [step for series in report.series for step in series.steps]
        for committed in report.checkpoints:
            assert set(range(1, committed.step + 1)) <= set(seen)


@pytest.mark.parametrize("part", ["/claim", "/heartbeat", "/finish"])
def test_every_other_call_is_tried_again_too(service, agent, part):
    service.fail(part, 3, 500)
    job = service.submit([["steps", 1, 10]])
    agent(service)
    assert ending_of(job) == "succeeded"
    assert job.finishes == 1


def test_a_lost_reply_to_finish_does_no_harm(service, agent):
    service.fail("/finish", 2, 500, after=True)
    first, second = service.submit([["steps", 1, 10]]), service.submit([["steps", 1, 10]])
    agent(service)
    assert ending_of(first) == ending_of(second) == "succeeded"


def test_a_stale_fence_ends_the_child_before_the_next_claim(service, agent):
    first = service.submit([["spawn"], ["steps", 1, 3], ["ignore"]])
    agent(service)
    until(lambda: first.points("train/loss"))
    second = service.submit([["print", "next"]])
    first.superseded = True
    assert ending_of(second) == "succeeded"
    assert not is_running(spawned(first.log))
    assert first.finish is None


def test_a_stale_fence_is_heard_by_a_report_too(service, agent):
    service.fail("/report", 1, 409, code="attempt_superseded")
    first = service.submit([["steps", 1, 3], ["ignore"]])
    second = service.submit([["print", "next"]])
    agent(service)
    assert ending_of(second) == "succeeded"
    assert first.finish is None


def test_a_report_that_the_service_refuses_fails_the_attempt(service, agent):
    service.fail("/report", 1_000_000, 422)
    job = service.submit([["spawn"], ["steps", 1, 3], ["ignore"]])
    agent(service)
    code, message = error_of(job)
    assert code == "internal"
    assert "refused a report" in message


def test_a_finish_that_the_service_refuses_is_told_as_a_failure(service, agent):
    service.fail("/finish", 1, 422)
    job = service.submit([["end", "succeeded", {"result": {"a": 1}}]])
    agent(service)
    assert error_of(job)[0] == "internal"


# -- registration ------------------------------------------------------------------------------------------------------------


def test_a_worker_waits_for_a_service_that_is_not_there_yet(service, agent):
    service.down()
    worker = agent(service)
    until(lambda: "trying again" in worker.err)
    service.up()
    worker.ready()


def test_a_worker_that_the_service_forgot_registers_anew(service, agent):
    worker = agent(service).ready()
    until(lambda: service.claims)
    service.known.clear()
    job = service.submit([["steps", 1, 1]])
    assert ending_of(job) == "succeeded"
    assert len(service.workers) == 2
    assert worker.out.count("ready") == 1


def test_a_wrong_key_ends_the_worker_at_once(service, agent):
    service.api_key = "right"
    worker = agent(service, MESHYARD_API_KEY="wrong")
    assert worker.wait() == 1
    assert worker.err.strip().splitlines()[-1] == f"meshyard worker: {service.url} does not accept the key: check MESHYARD_API_KEY"
    assert worker.out == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CPU_DEVICES", "none"),
        ("CPU_DEVICES", "0"),
        ("SLOTS", "99"),
        ("SERVER", "ftp://x"),
        ("LABELS", "novalue"),
        ("WORK_DIR", "/proc/x"),
    ],
)
def test_a_setting_that_cannot_work_ends_the_worker_with_a_sentence(service, agent, name, value):
    worker = agent(service, **{f"MESHYARD_{name}": value})
    assert worker.wait() != 0
    assert worker.err.startswith("meshyard worker: ")
    assert "Traceback" not in worker.err


# -- the end of the agent ----------------------------------------------------------------------------------------------------


def test_sigterm_saves_and_hands_the_job_back(service, agent):
    job = service.submit(ENDLESS)
    worker = agent(service)
    until(lambda: "waiting" in job.log)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert job.finish is not None
    assert job.finish.ending == "released"
    assert job.checkpoints == [10, 11]
    assert service.draining == {"wrk_1"}


def test_sigterm_ends_an_idle_worker(service, agent):
    worker = agent(service).ready()
    until(worker.children)
    (spare,) = worker.children()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert not is_running(spare)


def test_sigterm_does_not_wait_for_a_child_that_does_not_listen(service, agent):
    job = service.submit([["spawn"], ["steps", 1, 3], ["hold"]])
    worker = agent(service, {"react_seconds": 0.5})
    until(lambda: job.points("train/loss"))
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert ending_of(job) == "released"


def test_sigterm_before_the_service_is_there_ends_the_worker(service, agent):
    service.down()
    worker = agent(service)
    until(lambda: "trying again" in worker.err)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    service.up()


def test_a_second_signal_ends_everything_at_once(service, agent):
    job = service.submit([["spawn"], ["steps", 1, 3], ["ignore"]])
    worker = agent(service)
    until(lambda: job.points("train/loss"))
    worker.signal(signal.SIGINT)
    until(lambda: service.draining)
    worker.signal(signal.SIGINT)
    assert worker.wait() == 128 + signal.SIGINT
    assert job.finish is None
    assert not is_running(spawned(job.log))


def test_a_drain_by_the_service_ends_the_worker_when_it_is_empty(service, agent):
    job = service.submit(ENDLESS)
    worker = agent(service)
    until(lambda: "waiting" in job.log)
    job.command, job.sequence = "drain", 1
    assert worker.wait() == 0
    assert ending_of(job) == "released"


@pytest.mark.parametrize("says", [True, False])
def test_a_drain_of_an_idle_worker_ends_it(service, agent, says):
    service.says_draining = says
    worker = agent(service).ready()
    service.draining.add("wrk_1")
    assert worker.wait() == 0


@pytest.mark.parametrize("deaf", ["ignore", "hold"])
def test_children_die_with_a_killed_agent(service, agent, deaf):
    job = service.submit([["pid"], ["steps", 1, 3], [deaf]])
    worker = agent(service)
    until(lambda: job.points("train/loss"))
    child = child_of(job)
    worker.signal(signal.SIGKILL)
    worker.wait()
    until(lambda: not is_running(child))
