"""A real child: what it says, how it ends, and that what it saved is enough to go on as if nothing had happened."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from tests import specs
from tests.worker.child_process import ChildProcess

FOREVER = {"steps": 1_000_000, "eval_every": 100_000, "checkpoint": {"every_steps": 50_000}}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text file."""
    return specs.write_text(tmp_path_factory.mktemp("data") / "text.txt")


def digests(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of the arrays of a checkpoint's state."""
    files = [
        path
        for path in (checkpoint / "state").rglob("*")
        if path.is_file() and path.name not in ("_METADATA", "_sharding", "process_0")
    ]
    return {str(path.relative_to(checkpoint)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


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


@pytest.mark.parametrize("mesh", [{"data": 1}, {"data": 4, "model": 2}], ids=str)
def test_killed_and_resumed_training_is_bit_identical(tmp_path: Path, text: Path, mesh: dict[str, int]) -> None:
    document = specs.on_mesh(specs.transformer(), "fsdp_tp" if "model" in mesh else None, **mesh)
    whole = ChildProcess(tmp_path / "whole", document, devices=8, dataset=text)
    whole.end()
    first = ChildProcess(tmp_path / "first", document | {"steps": 12}, devices=8, dataset=text)
    first.until(lambda m: m["type"] == "checkpoint")
    first.kill()
    step = first.checkpoints()[-1]
    shutil.copytree(tmp_path / "first" / "outputs", tmp_path / "second" / "outputs")
    second = ChildProcess(tmp_path / "second", document, 8, text, tmp_path / "first" / "checkpoints" / str(step))
    assert second.end()["ending"] == "succeeded"
    straight, later = whole.metrics(), second.metrics()
    assert {key: straight[key] for key in later} == later
    assert {key for key in straight if key[0] > step} == set(later)
    assert digests(tmp_path / "whole/checkpoints/12") == digests(tmp_path / "second/checkpoints/12")


def test_a_killed_and_resumed_ensemble_is_bit_identical_and_measured_by_trial(tmp_path: Path) -> None:
    document = specs.spirals(ensemble=2, seed=5, ema={"decay": 0.9}, checkpoint={"every_steps": 3})
    whole = ChildProcess(tmp_path / "whole", document)
    end = whole.end()
    step = whole.checkpoints()[0]
    shutil.copytree(tmp_path / "whole" / "outputs", tmp_path / "second" / "outputs")
    second = ChildProcess(tmp_path / "second", document, resume=tmp_path / "whole" / "checkpoints" / str(step))
    result = second.end()["result"]
    assert result.pop("performance")["steps"] < end["result"].pop("performance")["steps"]
    assert result == end["result"]
    assert digests(tmp_path / "whole/checkpoints/9") == digests(tmp_path / "second/checkpoints/9")
    straight = whole.metrics()
    trials = [straight[9, str({"trial": trial}), "eval/loss"] for trial in "01"]
    assert trials == [trial["final"]["eval/loss"] for trial in end["result"]["trials"]]
    assert [trial["seed"] for trial in end["result"]["trials"]] == [5, 6]
    assert end["result"]["final"]["eval/loss"] == pytest.approx(sum(trials) / 2)
    listed = [m["metrics"] for m in whole.messages if m["type"] == "checkpoint"][-1]
    assert listed["eval/loss"] == end["result"]["final"]["eval/loss"]


@pytest.mark.parametrize("step", [30, 90], ids=["in warm-up", "in sampling"])
def test_killed_and_resumed_sampling_gives_the_same_draws(tmp_path: Path, step: int) -> None:
    document = specs.on_mesh(specs.schools(), chains=4)
    whole = ChildProcess(tmp_path / "whole", document, devices=4)
    result = whole.end()["result"]
    first = ChildProcess(tmp_path / "first", document, devices=4)
    first.until(lambda m: m["type"] == "checkpoint" and m["step"] == step)
    first.kill()
    shutil.copytree(tmp_path / "first" / "outputs", tmp_path / "second" / "outputs")
    second = ChildProcess(tmp_path / "second", document, 4, None, tmp_path / "first" / "checkpoints" / str(step))
    again = second.end()["result"]
    assert again.pop("performance")["steps"] == result.pop("performance")["steps"] - step
    assert again == result
    assert digests(tmp_path / "whole/checkpoints/180") == digests(tmp_path / "second/checkpoints/180")


def test_a_sampler_with_many_blocks_in_flight_reaches_its_end(tmp_path: Path) -> None:
    """Blocks of warm-up that are neither saved nor evaluated are waited for after the next one has taken their buffers."""
    document = specs.schools(num_warmup=200, num_samples=40, checkpoint={"every_draws": 20}, num_chains=2)
    spec = specs.resolve(document)
    child = ChildProcess(tmp_path, document)
    assert child.end()["ending"] == "succeeded", spec


@pytest.mark.parametrize(("sharding", "mesh"), [("dp", {"data": 1}), ("fsdp", {"data": 8})])
def test_a_checkpoint_of_four_by_two_resumes_elsewhere(tmp_path: Path, text: Path, sharding: str, mesh: dict[str, int]) -> None:
    """The same samples follow, so the losses agree within the tolerance of sums in another order."""
    whole = ChildProcess(tmp_path / "whole", specs.on_mesh(specs.transformer(), "fsdp_tp", data=4, model=2), 8, text)
    whole.end()
    other = specs.on_mesh(specs.transformer(), sharding, **mesh)
    second = ChildProcess(tmp_path / "second", other, 8, text, tmp_path / "whole/checkpoints/4")
    assert second.end()["ending"] == "succeeded"
    straight = whole.metrics()
    losses = {key: value for key, value in second.metrics().items() if key[2] in ("train/loss", "eval/loss")}
    assert [key[0] for key in losses if key[2] == "train/loss"] == list(range(5, 13))
    assert max(abs(straight[key] - value) for key, value in losses.items()) < 2e-5


def test_parameters_can_start_another_job(tmp_path: Path, text: Path) -> None:
    first = ChildProcess(tmp_path / "first", specs.transformer(steps=40), dataset=text)
    trained = first.end()["result"]["final"]["eval/loss"]
    second = ChildProcess(tmp_path / "second", specs.transformer(), 1, text, tmp_path / "first/checkpoints/40", what="params")
    second.end()
    assert second.metrics()[4, "{}", "eval/loss"] < trained + 0.3
    assert second.metrics()[1, "{}", "train/loss"] < first.metrics()[1, "{}", "train/loss"] - 0.5
