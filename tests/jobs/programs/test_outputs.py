"""What a run puts out: written once, read back whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jobs.programs.outputs import Outputs


def test_a_second_run_knows_what_the_first_one_put_out(tmp_path: Path) -> None:
    first = Outputs(tmp_path)
    first.keep_draws(10, {"mu": np.arange(8.0).reshape(2, 4)})
    first.keep_draws(20, {"mu": np.arange(8.0).reshape(2, 4) + 100})
    first.measure(10, {"eval/loss": 2.0}, evaluated=True)
    first.measure(20, {"eval/loss": 1.0, "train/loss": float("nan")})
    second = Outputs(tmp_path, 20)
    assert np.array_equal(second.draws()["mu"], first.draws()["mu"])
    assert second.series("eval/loss") == [(10, 2.0), (20, 1.0)]
    assert (second.evaluated(10), second.evaluated(20)) == (True, False)
    assert second.at(10) == {"eval/loss": 2.0}


def test_what_lies_beyond_the_step_of_resume_is_not_taken_up(tmp_path: Path) -> None:
    first = Outputs(tmp_path)
    for step in (10, 20, 30):
        first.keep_draws(step, {"mu": np.full((1, 2), step)})
        first.measure(step, {"eval/loss": float(step)})
    second = Outputs(tmp_path, 20)
    assert second.draws()["mu"].tolist() == [[10, 10, 20, 20]]
    assert second.best("eval/loss", "max") == {"step": 20, "eval/loss": 20.0}
    assert second.names(10) == ["draws/000000000010.npz", "measurements/000000000010.json"]


def test_the_best_of_equals_is_the_first(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path)
    for step, loss in ((1, 2.0), (2, 1.0), (3, 1.0)):
        outputs.measure(step, {"eval/loss": loss})
    best = outputs.best("eval/loss", "min")
    assert best is not None
    assert best["step"] == 2
    assert outputs.best("eval/accuracy", "max") is None
