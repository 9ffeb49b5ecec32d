"""Every network of the catalog in bfloat16 and under remat: what its computation consists of, without compiling it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jobs.programs.mesh import Layout, build_mesh
from jobs.programs.models.network import build_network
from jobs.programs.models.setting import Remat, Setting
from jobs.programs.module import ModuleForm
from jobs.spec.catalog import load
from jobs.spec.models import complete, learns_from_text
from tests.conformance.networks import MODELS

LAYOUT = Layout(build_mesh({"data": 1}), (("batch", "data"),))
PRODUCTS = ("dot_general", "conv_general_dilated")
BLOCKS = {"transformer": 1, "lstm_lm": 1, "mlp": 2, "cnn": 1, "resnet": 2, "vit": 1, "lstm": 1, "sequential": 7}
"""How many parts of each model `remat` wraps; a stack that is scanned over is one."""


def traced(name: str, setting: Setting) -> tuple[Any, ModuleForm]:
    fitted = load().fit("models", {"type": name, **MODELS[name]}, "/model")
    model = complete(fitted.value)
    form = ModuleForm(lambda rngs: build_network(model, setting, rngs))
    x = np.zeros((2, 16), np.int32) if learns_from_text(model) else np.zeros((2, 64), np.float32)
    with jax.set_mesh(LAYOUT.mesh):
        return jax.make_jaxpr(lambda sections: form.give(sections)(x))(jax.eval_shape(lambda: form.fresh(0))), form


def equations(jaxpr: Any) -> Iterator[Any]:
    """All operations, those inside loops and calls among them."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


@pytest.mark.parametrize("name", MODELS)
def test_products_are_of_bfloat16_and_outputs_are_float32(name: str) -> None:
    program, form = traced(name, Setting(LAYOUT, compute=jnp.dtype("bfloat16")))
    products = [equation for equation in equations(program.jaxpr) if equation.primitive.name in PRODUCTS]
    assert products
    assert {leaf.aval.dtype.name for equation in products for leaf in equation.invars} == {"bfloat16"}
    assert {leaf.dtype.name for leaf in program.out_avals} == {"float32"}
    assert {leaf.dtype.name for leaf in jax.eval_shape(lambda: form.fresh(0))["params"].values()} == {"float32"}


@pytest.mark.parametrize("name", MODELS)
def test_parameters_take_their_own_format(name: str) -> None:
    _, form = traced(name, Setting(LAYOUT, params=jnp.dtype("bfloat16"), compute=jnp.dtype("bfloat16")))
    assert {leaf.dtype.name for leaf in jax.eval_shape(lambda: form.fresh(0))["params"].values()} == {"bfloat16"}


@pytest.mark.parametrize("name", MODELS)
def test_remat_wraps_each_block(name: str) -> None:
    program, _ = traced(name, Setting(LAYOUT, remat=Remat("full")))
    wrapped = [equation for equation in equations(program.jaxpr) if equation.primitive.name in ("checkpoint", "remat", "remat2")]
    assert len(wrapped) == BLOCKS[name]


def test_every_model_is_here() -> None:
    assert set(MODELS) == set(BLOCKS)
