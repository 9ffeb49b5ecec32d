"""A real child: what it says, how it ends, and that what it saved is enough to go on as if nothing had happened."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests import specs
from tests.worker.child_process import ChildProcess

FOREVER = {"steps": 1_000_000, "eval_every": 100_000, "checkpoint": {"every_steps": 50_000}}


def test_a_child_tells_its_way_from_devices_to_result(tmp_path: Path, text: Path) -> None:
    child = ChildProcess(tmp_path, specs.on_mesh(specs.transformer(), "fsdp", data=4), devices=4, dataset=text)
    end = child.end()
    kinds = [m["type"] for m in child.messages]
    assert child.until(lambda m: m["type"] == "devices")["count"] == 4
    assert (end["ending"], end["step"], kinds[-1]) == ("succeeded", 12, "end")
    assert child.checkpoints() == [4, 8, 12]
    assert end["result"]["final"]["step"] == 12
    performance = end["result"]["performance"]
    assert (performance["steps"], performance["devices"], performance["mfu"]) == (12, 4, None)
    assert 0 < performance["step_seconds"]["p50"] <= performance["step_seconds"]["p95"]
    assert performance["flops_per_step"] > 0
    assert performance["tokens_per_second"] > 0
    phases = {"importing", "device_init", "compiling", "training", "data_wait", "evaluating", "checkpointing", "finalizing"}
    assert phases == set(end["seconds"])
    wall = child.ended_at - child.sent_at
    assert abs(sum(end["seconds"].values()) - wall) <= 0.01 * wall
    assert [m["event"] for m in child.messages if m["type"] == "event"] == ["compile.finished"]
    assert [step for step, _, name in child.metrics() if name == "train/loss"] == list(range(1, 13))
    assert {value for (_, _, name), value in child.metrics().items() if name == "recompilations"} == {0.0}
    waits = [m["values"]["data_wait_seconds"] for m in child.messages if m["type"] == "metrics" and "train/loss" in m["values"]]
    assert sum(map(len, waits)) == 12
    assert child.process.returncode == 0
    log = (tmp_path / "log.txt").read_text()
    told = [
        "train on 4 cpu device(s), mesh data=4, from step 0",
        "compiled in ",
        "step 12: checkpoint written",
        "succeeded at step 12",
    ]
    assert all(line in log for line in told), log
    assert re.search(r"step 12: eval/loss \d+\.\d+", log)


def test_metrics_of_earlier_steps_precede_a_checkpoint(tmp_path: Path, text: Path) -> None:
    child = ChildProcess(tmp_path, specs.transformer(), dataset=text)
    child.end()
    for i, message in enumerate(child.messages):
        if message["type"] == "checkpoint":
            metrics = [m for m in child.messages[:i] if m["type"] == "metrics" and "train/loss" in m["values"]]
            told = [step for m in metrics for step in m["steps"]]
            assert told[: message["step"]] == list(range(1, message["step"] + 1))


@pytest.mark.parametrize(("word", "ending"), [("pause", "paused"), ("cancel", "cancelled"), ("drain", "released")])
def test_a_command_saves_and_ends(tmp_path: Path, text: Path, word: str, ending: str) -> None:
    child = ChildProcess(tmp_path, specs.transformer(**FOREVER), dataset=text)
    child.until_step(3)
    child.command(word)
    end = child.end()
    assert end["ending"] == ending
    assert child.checkpoints() == [end["step"]]
    assert (tmp_path / "checkpoints" / str(end["step"]) / "state").is_dir()


def test_a_command_may_ask_for_no_last_checkpoint(tmp_path: Path, text: Path) -> None:
    child = ChildProcess(tmp_path, specs.transformer(**FOREVER), dataset=text)
    child.until_step(3)
    child.command("cancel", save=False)
    assert child.end()["ending"] == "cancelled"
    assert child.checkpoints() == []


def test_a_checkpoint_now_is_saved_and_training_goes_on(tmp_path: Path, text: Path) -> None:
    child = ChildProcess(tmp_path, specs.transformer(**FOREVER), dataset=text)
    child.until_step(3)
    child.command("checkpoint")
    saved = child.until(lambda m: m["type"] == "checkpoint")["step"]
    child.until(lambda m: m["type"] == "handled" and m["command"] == "checkpoint")
    child.until_step(saved + 5)
    child.command("cancel", save=False)
    assert child.end()["step"] > saved


def test_a_child_whose_agent_is_gone_ends(tmp_path: Path, text: Path) -> None:
    child = ChildProcess(tmp_path, specs.transformer(**FOREVER), dataset=text)
    child.until_step(1)
    os.close(child._down)
    assert child.process.wait(60) != 0


def test_a_sampler_with_many_blocks_in_flight_reaches_its_end(tmp_path: Path) -> None:
    """Blocks of warm-up that are neither saved nor evaluated are waited for after the next one has taken their buffers."""
    document = specs.schools(num_warmup=200, num_samples=40, checkpoint={"every_draws": 20}, num_chains=2)
    spec = specs.resolve(document)
    child = ChildProcess(tmp_path, document)
    assert child.end()["ending"] == "succeeded", spec


def test_parameters_can_start_another_job(tmp_path: Path, text: Path) -> None:
    first = ChildProcess(tmp_path / "first", specs.transformer(steps=40), dataset=text)
    trained = first.end()["result"]["final"]["eval/loss"]
    second = ChildProcess(tmp_path / "second", specs.transformer(), 1, text, tmp_path / "first/checkpoints/40", what="params")
    second.end()
    assert second.metrics()[4, "{}", "eval/loss"] < trained + 0.3
    assert second.metrics()[1, "{}", "train/loss"] < first.metrics()[1, "{}", "train/loss"] - 0.5
