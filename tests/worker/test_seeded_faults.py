"""Faults sown into jobs: each gives the right code, the right pointer or name, and a hint that helps.

Elsewhere: a shape that recompiles (`test_leaving.py`); code of users that raises or hangs (`test_user_code.py`, and each kind of
mistake in `tests/jobs/programs/test_user_code.py`).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.errors import FAULT_OF_CODE, SpecInvalid
from tests import specs
from tests.worker.child_process import ChildProcess


def failure(child: ChildProcess) -> dict[str, Any]:
    end = child.end()
    assert end["ending"] == "failed", (child.folder / "log.txt").read_text()[-2000:]
    return end["error"]


def test_a_loss_that_diverges_is_traced_to_what_made_it_so(tmp_path: Path) -> None:
    """The rate explodes at step 6: the state of step 4 is read back, step 5 done again, and so on."""
    rate = {"type": "piecewise_constant_schedule", "init_value": 1e-3, "boundaries_and_scales": {"6": 1e38}}
    document = specs.spirals(optimizer={"type": "sgd", "learning_rate": rate}, steps=50, checkpoint={"every_steps": 4})
    child = ChildProcess(tmp_path, document)
    error = failure(child)
    assert (error["code"], error["param"]) == ("nan_loss", "/optimizer")
    assert child.checkpoints() == [4]
    assert "at step 8" in error["message"]
    assert "The first operation that gave it was `" in error["message"]
    assert "programs/models/" in error["message"]
    assert "The batch held the samples " in error["message"]
    assert "Lower the learning rate" in error["message"]


def test_a_bad_row_is_named(tmp_path: Path) -> None:
    path = specs.write_pictures(tmp_path / "pictures.npz")
    with np.load(path) as archive:
        x, y = archive["x"], archive["y"]
    x[37, 2, 2, 0] = np.nan
    np.savez(path, x=x, y=y)
    error = failure(ChildProcess(tmp_path / "job", specs.pictures(steps=40), dataset=path))
    assert error["code"] == "dataset_invalid"
    assert (error["param"] or "").startswith("/data")
    assert "in row 38" in error["message"]


def test_a_model_that_does_not_fit_is_refused_before_it_is_made(tmp_path: Path) -> None:
    model = {"type": "mlp", "in_features": 2, "hidden": [1_000_000, 1_000_000], "out_features": 3}
    document = specs.on_mesh(specs.spirals(model=model), "dp", data=2)
    error = failure(ChildProcess(tmp_path, document, devices=2, most_memory=2**38))
    assert "spread parameters and optimizer over the data axis" in error["message"]
    assert (error["code"], error["param"]) == ("would_oom", "/resources")


def test_what_is_asked_for_is_in_the_log(tmp_path: Path) -> None:
    debug = {"print": {"paths": ["*.kernel"], "every": 4}, "shapes": True, "log_compiles": True}
    child = ChildProcess(tmp_path, specs.spirals(debug=debug))
    assert child.end()["ending"] == "succeeded"
    log = (tmp_path / "log.txt").read_text()
    assert "bytes on a device" in log
    assert "step 8 " in log
    assert "gradient mean" in log
    assert "Compiling jit(" in log


def test_debug_nans_ends_where_the_first_one_arises(tmp_path: Path) -> None:
    rate = {"type": "piecewise_constant_schedule", "init_value": 1e-3, "boundaries_and_scales": {"2": 1e38}}
    document = specs.spirals(optimizer={"type": "sgd", "learning_rate": rate}, steps=50, debug={"nans": True})
    error = failure(ChildProcess(tmp_path, document))
    assert (error["code"], error["param"]) == ("nan_loss", "/debug/nans")
    assert "encountered in" in error["message"]
    assert ", line " in error["message"]


WIDE = {"type": "mlp", "in_features": 2, "hidden": [128, 128], "out_features": 3}


def test_a_full_disk_is_told_with_what_to_do(tmp_path: Path) -> None:
    error = failure(ChildProcess(tmp_path, specs.spirals(model=WIDE), largest_file=16_000))
    assert error["code"] == "checkpoint_failed"
    assert "make room" in error["message"]


def test_a_corrupt_checkpoint_is_no_fault_of_the_job(tmp_path: Path) -> None:
    first = ChildProcess(tmp_path / "first", specs.spirals())
    assert first.end()["ending"] == "succeeded"
    arrays = [path for path in (tmp_path / "first/checkpoints/3/state").iterdir() if path.name.startswith("params.")]
    shutil.rmtree(arrays[0])
    error = failure(ChildProcess(tmp_path / "second", specs.spirals(), resume=tmp_path / "first/checkpoints/3"))
    assert error["code"] == "checkpoint_corrupt"
    assert FAULT_OF_CODE[error["code"]] == "infra"


def test_a_vocabulary_that_is_too_small_is_refused_at_submit() -> None:
    document = specs.transformer()
    document["model"]["vocab_size"] = 64
    with pytest.raises(SpecInvalid) as caught:
        specs.resolve(document)
    assert [(issue.pointer, issue.code) for issue in caught.value.issues] == [("/model/vocab_size", "too_small")]
    assert "must be at least 127" in caught.value.issues[0].detail


def test_a_drain_while_it_compiles_gives_the_job_back_at_once(tmp_path: Path) -> None:
    child = ChildProcess(tmp_path, specs.spirals(steps=1_000_000, checkpoint={"every_steps": 500_000}))
    child.until(lambda m: m["type"] == "phase" and m["phase"] == "compiling")
    child.command("drain")
    end = child.end()
    assert (end["ending"], end["step"], end["error"]) == ("released", 0, None)
    assert child.checkpoints() == []
