"""Traces of a window of a run."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from tests import specs
from tests.worker.child_process import ChildProcess
from worker.profiling import Profiler


class Listener:
    """Keeps what is said, and asks for one trace."""

    def __init__(self, asked: dict[str, Any] | None = None) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []
        self._asked = asked

    def asked_profile(self) -> dict[str, Any] | None:
        asked, self._asked = self._asked, None
        return asked

    def event(self, event: str, **data: Any) -> None:
        self.said.append((event, data))

    def send(self, message: dict[str, Any]) -> None:
        self.said.append((message["event"], message["data"]))


def windows(folder: Path, talk: Any, window: dict[str, Any] | None, steps: list[int]) -> list[tuple[int, int]]:
    """The windows of a run that stops to look at these steps: (first, length) of each."""
    profiler, settled = Profiler(window, folder, talk), []
    for step in steps[:-1]:
        profiler.look(step, lambda step=step: settled.append(step))
    profiler.close(steps[-1])
    return [(data["step"], data["num_steps"]) for event, data in talk.said if event == "profile.finished"]


WINDOW = {"start_step": 25, "num_steps": 20, "memory": False}


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([0, 10, 20, 30, 40, 50, 60], [(30, 20)]),  # blocks of draws: the window begins with the next one
        ([0, 25, 26, 44, 45, 46], [(25, 20)]),
        ([40, 41, 45, 46], [(40, 5)]),  # resumed within it
        ([45, 46, 47], []),  # resumed behind it
        ([0, 25, 30], [(25, 5)]),  # the run ends within it
    ],
)
def test_a_window_begins_and_ends_between_blocks(tmp_path: Path, steps: list[int], found: list[tuple[int, int]]) -> None:
    assert windows(tmp_path, Listener(), WINDOW, steps) == found


def test_a_window_that_is_asked_for_begins_where_the_run_stands(tmp_path: Path) -> None:
    talk = Listener({"num_steps": 2, "memory": False})
    assert windows(tmp_path, talk, None, [7, 8, 9, 10]) == [(7, 2)]
    assert [event for event, _ in talk.said] == ["profile.started", "profile.finished"]


def test_a_folder_that_refuses_ends_no_run(tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("in the way")
    talk = Listener({"num_steps": 2, "memory": False})
    assert windows(tmp_path, talk, None, [7, 8, 9, 10]) == []
    assert [event for event, _ in talk.said] == ["profile.failed"]


def test_a_running_child_traces_what_its_spec_and_its_user_want(tmp_path: Path) -> None:
    window = {"start_step": 3, "num_steps": 2, "memory": True}
    document = specs.spirals(steps=1_000_000, eval_every=100_000, checkpoint={"every_steps": 50_000}, profile=window)
    child = ChildProcess(tmp_path, document)
    told = child.until(lambda m: m["type"] == "artifacts")
    assert (told["event"], told["data"]["step"], told["data"]["num_steps"]) == ("profile.finished", 3, 2)
    assert told["data"]["artifacts"] == told["paths"]
    assert any(path.startswith("profile/3/plugins/profile/") and path.endswith(".xplane.pb") for path in told["paths"])
    assert gzip.decompress((tmp_path / "outputs/profile/3/memory.pb.gz").read_bytes())
    child.tell({"type": "profile", "num_steps": 4, "memory": False})
    again = child.until(lambda m: m["type"] == "artifacts" and m["data"]["step"] > 3)
    assert again["data"]["num_steps"] == 4
    assert not any(path.endswith("memory.pb.gz") for path in again["paths"])
    child.command("cancel", save=False)
    assert child.end()["ending"] == "cancelled"
