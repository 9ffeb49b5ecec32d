"""What a job prints of itself."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from jobs.errors import UserFault
from jobs.programs.printing import shapes
from tests import specs
from tests.jobs.programs import running


def printed(capsys: pytest.CaptureFixture[str], **mesh: int) -> tuple[list[str], dict[str, np.ndarray]]:
    """The lines of four steps that print every other one, and the state before the second."""
    document = specs.spirals(debug={"print": {"paths": ["*.kernel"], "every": 2}})
    program = running.build(specs.on_mesh(document, "dp", **mesh) if mesh else document)
    state, _ = running.advance(program, running.start(program), 1)
    before = running.arrays(state)
    running.advance(program, state, 3)
    jax.effects_barrier()
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")], before


@pytest.mark.parametrize("mesh", [{}, {"data": 4}], ids=str)
def test_statistics_of_parameters_and_gradients_are_printed_at_their_steps(
    capsys: pytest.CaptureFixture[str], mesh: dict[str, int]
) -> None:
    lines, before = printed(capsys, **mesh)
    kernels = [path.removeprefix("params/") for path in before if path.startswith("params/") and path.endswith(".kernel")]
    assert sorted(line.split(" (")[0] for line in lines) == sorted(f"step {step} {path}" for step in (2, 4) for path in kernels)
    array = before[f"params/{kernels[0]}"]
    line = next(line for line in lines if line.startswith(f"step 2 {kernels[0]} "))
    assert f"{array.shape}: value mean {array.mean():.4g} std {array.std():.4g}" in line
    assert "gradient mean " in line


def test_a_pattern_that_matches_nothing_is_refused_with_its_place() -> None:
    with pytest.raises(UserFault) as caught:
        running.build(specs.spirals(debug={"print": {"paths": ["*.kernel", "block.*"]}}))
    assert caught.value.param == "/debug/print/paths/1"
    assert "matches no parameter" in caught.value.message


def test_every_array_of_a_state_has_a_line() -> None:
    model = {"type": "mlp", "in_features": 2, "hidden": [16, 16], "out_features": 4}
    program: Any = running.build(specs.on_mesh(specs.spirals(model=model), "fsdp", data=2))
    lines = list(shapes(program.abstract()))
    assert any(line.startswith("params.") and "float32[" in line and line.endswith(" bytes on a device") for line in lines)
    assert any("'data'" in line for line in lines)
