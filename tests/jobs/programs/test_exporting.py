"""The exported forward pass, read back by a process that knows nothing of this project."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jax import export

from jobs.errors import UserFault
from jobs.programs import exporting, trained
from jobs.programs.module import ModuleForm
from jobs.programs.outputs import Outputs
from jobs.programs.program import State
from jobs.programs.trained import still
from tests import specs
from tests.jobs.programs import running
from tests.jobs.programs.trained_models import outputs_of
from tests.jobs.spec.bundles import NET

READER = """
import sys
import numpy as np
from jax import export

model = export.deserialize(open(sys.argv[1], "rb").read())
found = {name: np.asarray(model.call(array)) for name, array in np.load(sys.argv[2]).items()}
assert not [name for name in sys.modules if name.startswith(("flax", "jobs", "meshyard"))]
np.savez(sys.argv[3], **found)
"""


def exported(program: Any, folder: Path) -> State:
    """A program's state after three steps, with its exported model in a folder."""
    state, _ = running.advance(program, running.start(program), 3)
    _, artifacts = program.result(state, Outputs(folder), "completed")
    assert {exporting.MODEL, exporting.DESCRIPTION} <= set(artifacts)
    return state


def read_back(folder: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the exported model says of each input, in a process of its own."""
    np.savez(folder / "inputs.npz", allow_pickle=False, **inputs)
    subprocess.run(
        [sys.executable, "-c", READER, folder / exporting.MODEL, folder / "inputs.npz", folder / "found.npz"], check=True
    )
    return dict(np.load(folder / "found.npz"))


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
    state = exported(program, tmp_path)
    described = json.loads((tmp_path / exporting.DESCRIPTION).read_text())
    [told] = described["inputs"]
    assert told["shape"] == sizes
    assert described["readable_until"] > described["made_at"]
    generator = np.random.default_rng(0)
    inputs = {f"of_{n}": generator.integers(0, 200, (n, *sizes[1:])).astype(told["dtype"]) for n in (4, 12)}
    averaged = state.sections.get("averaged", state.sections["params"])
    evaluated = type(state)(state.step, state.sections | {"params": averaged}, state.position)
    for name, found in read_back(tmp_path, inputs).items():
        np.testing.assert_allclose(found, outputs_of(program, evaluated, inputs[name]), atol=3e-5, rtol=1e-4)


def test_an_ensemble_is_one_file_with_its_members_side_by_side(tmp_path: Path) -> None:
    program: Any = running.build(specs.spirals(export={"jax_export": True}, ensemble=3))
    state = exported(program, tmp_path)
    described = json.loads((tmp_path / exporting.DESCRIPTION).read_text())
    assert (described["trials"], described["outputs"][0]["shape"]) == (3, ["3", "batch", "3"])
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    found = read_back(tmp_path, {"of_5": x})["of_5"]
    for trial in range(3):
        one = {name: {path: leaf[trial] for path, leaf in state.sections[name].items()} for name in ("params", "rngs")}
        member = type(state)(state.step, one, state.position)
        np.testing.assert_allclose(found[trial], outputs_of(program, member, x), atol=3e-5, rtol=1e-4)


def test_an_own_model_is_called_as_in_training(bundle: Any, tmp_path: Path) -> None:
    """Of one column by position; of several by name, which the file lists in order."""
    own = bundle()
    alone: Any = own.program(export={"jax_export": True})
    state = exported(alone, tmp_path)
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    np.testing.assert_allclose(read_back(tmp_path, {"x": x})["x"], outputs_of(alone, state, x), atol=3e-5, rtol=1e-4)

    of_two = bundle(
        NET.replace("def __call__(self, x):", "def __call__(self, up, right):\n        x = jax.numpy.stack([right, up], -1)")
    )
    columns = {"builtin": "spirals", "batch_size": 24, "eval_fraction": 0.2, "args": {"right": "x1", "up": "x2", "y": "label"}}
    catalogs = {"type": "softmax_cross_entropy_with_integer_labels"}
    several: Any = of_two.program(data=columns, loss=catalogs, export={"jax_export": True})
    state = exported(several, tmp_path)
    assert [each["name"] for each in json.loads((tmp_path / exporting.DESCRIPTION).read_text())["inputs"]] == ["right", "up"]
    model = several.form.give({name: state.sections[name] for name in ("params", "rngs")})
    expected = np.asarray(still(model)(right=x[:, 0], up=x[:, 1]))
    both = export.deserialize(bytearray((tmp_path / exporting.MODEL).read_bytes())).call(x[:, 0], x[:, 1])
    np.testing.assert_allclose(np.asarray(both), expected, atol=3e-5, rtol=1e-4)


def test_an_own_model_that_only_its_loss_can_call_is_refused_before_it_trains(bundle: Any) -> None:
    own = bundle(
        NET.replace("__call__(self, x)", "__call__(self, x, scale)").replace('model(batch["x"])', 'model(batch["x"], 2.0)')
    )
    assert own.program().total > 0
    with pytest.raises(UserFault, match=r"cannot be called as model\(x\)") as caught:
        own.program(export={"jax_export": True})
    assert (caught.value.code, caught.value.param) == ("user_code_error", "/export/jax_export")


def test_what_only_a_gpu_computes_is_neither_exported_nor_needed_to_load(text: Path, tmp_path: Path) -> None:
    program: Any = running.build(specs.transformer(), text)
    sections = program.init().sections
    fused = program.spec | {
        "model": program.spec["model"] | {"attention": "cudnn"},
        "precision": {**program.spec["precision"], "compute": "bfloat16"},
    }
    with pytest.raises(UserFault, match="needs an NVIDIA GPU"):
        running.of(fused, text)
    assert exporting.write(fused, sections, program.objective.example(), tmp_path) == [exporting.MODEL, exporting.DESCRIPTION]
    assert ModuleForm(trained.builder(fused, program.layout)).logical_axes.keys() == sections["params"].keys()


def test_nothing_is_exported_unasked(tmp_path: Path) -> None:
    program: Any = running.build(specs.spirals())
    _, artifacts = program.result(program.init(), Outputs(tmp_path), "completed")
    assert artifacts == []


def test_a_model_too_large_for_one_file_is_refused() -> None:
    with pytest.raises(UserFault, match="exported file holds 1"):
        exporting.check_size({"w": np.broadcast_to(np.float32(0), (2**15, 2**15))})
