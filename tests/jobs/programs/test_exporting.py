"""The exported forward pass, read back by a process that knows nothing of this project."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.errors import UserFault
from jobs.programs import exporting
from jobs.programs.outputs import Outputs
from tests import specs
from tests.jobs.programs import running
from tests.jobs.programs.trained_models import outputs_of

READER = """
import sys
import numpy as np
from jax import export

model = export.deserialize(open(sys.argv[1], "rb").read())
found = {name: np.asarray(model.call(array)) for name, array in np.load(sys.argv[2]).items()}
assert not [name for name in sys.modules if name.startswith(("flax", "jobs", "meshyard"))]
np.savez(sys.argv[3], **found)
"""


@pytest.mark.parametrize(
    ("document", "sizes"),
    [
        (specs.on_mesh(specs.transformer(export={"jax_export": True}), "fsdp_tp", data=4, model=2), ["batch", 16]),
        (specs.pictures(export={"jax_export": True}, ema={"decay": 0.5}), ["batch", 8, 8, 1]),
    ],
    ids=["transformer", "cnn with an average"],
)
def test_the_exported_model_says_what_the_trained_one_does(
    document: Any, sizes: list[Any], text: Path, pictures: Path, tmp_path: Path
) -> None:
    program: Any = running.build(document, text if sizes[1:] == [16] else pictures)
    state, _ = running.advance(program, running.start(program), 3)
    _, artifacts = program.result(state, Outputs(tmp_path), "completed")
    assert {exporting.MODEL, exporting.DESCRIPTION} <= set(artifacts)
    described = json.loads((tmp_path / exporting.DESCRIPTION).read_text())
    [told] = described["inputs"]
    assert told["shape"] == sizes
    assert described["readable_until"] > described["made_at"]
    generator = np.random.default_rng(0)
    inputs = {f"of_{n}": generator.integers(0, 200, (n, *sizes[1:])).astype(told["dtype"]) for n in (4, 12)}
    np.savez(tmp_path / "inputs.npz", allow_pickle=False, **inputs)
    subprocess.run(
        [sys.executable, "-c", READER, tmp_path / exporting.MODEL, tmp_path / "inputs.npz", tmp_path / "found.npz"], check=True
    )
    averaged = state.sections.get("averaged", state.sections["params"])
    evaluated = type(state)(state.step, state.sections | {"params": averaged}, state.position)
    for name, found in np.load(tmp_path / "found.npz").items():
        np.testing.assert_allclose(found, outputs_of(program, evaluated, inputs[name]), atol=3e-5, rtol=1e-4)


def test_nothing_is_exported_unasked(tmp_path: Path) -> None:
    program: Any = running.build(specs.spirals())
    _, artifacts = program.result(program.init(), Outputs(tmp_path), "completed")
    assert artifacts == []


def test_a_model_too_large_for_one_file_is_refused() -> None:
    with pytest.raises(UserFault, match="exported file holds 1"):
        exporting.check_size({"w": np.broadcast_to(np.float32(0), (2**15, 2**15))})
