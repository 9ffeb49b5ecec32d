"""What a real child saved is enough to go on as if nothing had happened: killed, on other devices, in another job."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from tests import specs
from tests.worker.child_process import ChildProcess


def digests(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of the arrays of a checkpoint's state."""
    files = [
        path
        for path in (checkpoint / "state").rglob("*")
        if path.is_file() and path.name not in ("_METADATA", "_sharding", "process_0")
    ]
    return {str(path.relative_to(checkpoint)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


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
