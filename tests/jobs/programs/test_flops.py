"""FLOPs counted from jaxprs, against closed forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jobs.programs.flops import forward_flops, peak_of
from tests import specs
from tests.jobs.programs import running


def test_a_product_and_loops_around_it() -> None:
    a, b = jnp.zeros((3, 5)), jnp.zeros((5, 7))
    product = 2 * 3 * 5 * 7
    assert forward_flops(jnp.matmul, a, b) == product
    assert forward_flops(jax.jit(jnp.matmul), a, b) == product
    assert forward_flops(jax.checkpoint(jnp.matmul), a, b) == product

    def looped(a: jax.Array, b: jax.Array) -> Any:
        return jax.lax.scan(lambda total, _: (total + jnp.sum(a @ b), None), 0.0, length=11)[0]

    assert forward_flops(looped, a, b) == 11 * product
    assert forward_flops(lambda a, b: jax.lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: jnp.zeros((3, 7))), a, b) == product


def test_a_convolution() -> None:
    images, kernel = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 16))
    same = lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))  # noqa: E731
    assert forward_flops(same, images, kernel) == 2 * (2 * 8 * 8 * 16) * (3 * 3 * 3)


@pytest.mark.parametrize("changes", [{}, {"remat": "full"}, {"grad_accumulation": 2}], ids=str)
def test_a_transformer_takes_six_operations_for_each_parameter_and_token(text: Path, changes: dict) -> None:
    program = running.build(specs.transformer(**changes), text)
    spec = specs.resolve(specs.transformer(**changes))
    model, data = spec["model"], spec["data"]
    tokens = data["batch_size"] * model["context"]
    shapes = {path: leaf.shape for path, leaf in program.abstract()["params"].items()}
    products = sum(int(jnp.prod(jnp.array(shape))) for path, shape in shapes.items() if len(shape) > 1 and "position" not in path)
    wanted = 6 * products * tokens + 12 * model["n_layers"] * model["dim"] * model["context"] * tokens
    effort = program.effort()
    assert effort is not None
    assert effort.flops == pytest.approx(wanted, rel=0.01)
    assert (effort.rate, effort.in_step) == ("tokens_per_second", tokens)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA B200", 2237e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5p", 459e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA RTX A1000", None),
        ("cpu", None),
    ],
)
def test_peaks_are_known_by_the_kind_of_device(kind: str, peak: float | None) -> None:
    assert peak_of(kind) == peak
