"""Outdated snippets: each row of the table is found, and today's form is not."""

from __future__ import annotations

import pytest

from jobs.spec.bundle import outdated
from jobs.spec.bundle.archive import read_files
from jobs.spec.bundle.source import read_bundle
from tests.repository.project import ROOT

HEAD = "import jax, optax\nimport jax.numpy as jnp\nimport orbax.checkpoint as ocp\nfrom flax import nnx\n"
MODULE = "class Net(nnx.Module):\n    def __init__(self, rngs):\n        self.layers = "
STEP = "def train_step(optimizer, batch):\n    "

# (row, the outdated form, today's)
SNIPPETS = [
    (
        outdated.OPTIMIZER,
        "o = nnx.Optimizer(model, optax.adamw(1e-3))",
        "o = nnx.Optimizer(model, optax.adamw(1e-3), wrt=nnx.Param)",
    ),
    (
        outdated.OPTIMIZER_MODEL,
        STEP + "return nnx.value_and_grad(f)(optimizer.model)",
        STEP + "return nnx.value_and_grad(f)(model)",
    ),
    (outdated.OPTIMIZER_UPDATE, STEP + "optimizer.update(grads)", STEP + "optimizer.update(model, grads)"),
    (
        outdated.LIST,
        MODULE + "[nnx.Linear(2, 2, rngs=rngs) for _ in range(3)]",
        MODULE + "nnx.List([nnx.Linear(2, 2, rngs=rngs) for _ in range(3)])",
    ),
    (outdated.LIST, MODULE + "[Block(2, rngs), Block(2, rngs)]", MODULE + "[2, 2]"),
    (outdated.DICT, MODULE + '{"a": Block(2, rngs)}', MODULE + 'nnx.Dict({"a": Block(2, rngs)})'),
    (outdated.WITH_MESH, "with mesh:\n    pass", "with jax.set_mesh(mesh):\n    pass"),
    (outdated.VALUE, "w = layer.kernel.value", "w = layer.kernel[...]"),
    (outdated.SHARDING, 'p = nnx.Param(x, sharding=("a", None))', 'p = nnx.Param(x, out_sharding=("a", None))'),
    (outdated.BY_NAME["optax.multi_steps"], "t = optax.multi_steps(tx, every_k_schedule=4)", "t = optax.MultiSteps(tx, 4)"),
    (outdated.BY_NAME["jax.tree_map"], "jax.tree_map(lambda x: x.shape, tree)", "jax.tree.map(lambda x: x.shape, tree)"),
    (outdated.BY_NAME["jax.tree_map"], "from jax import tree_map", "from jax.tree import map"),
    (outdated.BY_NAME["jax.tree_multimap"], "jax.tree_multimap(f, a, b)", "jax.tree.map(f, a, b)"),
    (outdated.BY_NAME["jax.tree_leaves"], "jax.tree_leaves(a)", "jax.tree.leaves(a)"),
    (outdated.BY_NAME["jax.ops.index_update"], "jax.ops.index_update(x, 0, 1)", "x.at[0].set(1)"),
    (outdated.BY_NAME["jax.ops.index_add"], "jax.ops.index_add(x, 0, 1)", "x.at[0].add(1)"),
    (outdated.BY_NAME["jax.random.shuffle"], "jax.random.shuffle(key, x)", "jax.random.permutation(key, x)"),
    (
        outdated.BY_NAME["jax.experimental.host_callback"],
        "from jax.experimental import host_callback",
        "from jax.experimental import io_callback",
    ),
    (outdated.BY_NAME["jax.experimental.maps"], "from jax.experimental.maps import xmap", "from jax import vmap"),
    (outdated.BY_NAME["jax.lib.xla_bridge"], "from jax.lib import xla_bridge", "jax.default_backend()"),
    (outdated.BY_NAME["jax.numpy.DeviceArray"], "def f(x: jnp.DeviceArray): ...", "def f(x: jax.Array): ..."),
    (outdated.BY_NAME["jax.xla_computation"], "jax.xla_computation(f)(x)", "jax.jit(f).lower(x)"),
    (outdated.BY_NAME["flax.nnx.set_mode"], "nnx.set_mode(model, deterministic=True)", "nnx.view(model, deterministic=True)"),
    (outdated.BY_NAME["jax.random.PRNGKey"], "key = jax.random.PRNGKey(0)", "key = jax.random.key(0)"),
    (outdated.BY_NAME["jax.pmap"], "step = jax.pmap(f)", "step = jax.jit(f)"),
    (
        outdated.BY_NAME["jax.experimental.mesh_utils"],
        "from jax.experimental import mesh_utils",
        'jax.make_mesh((4, 2), ("data", "model"))',
    ),
    (outdated.BY_NAME["jax.experimental.pjit"], "from jax.experimental.pjit import pjit", "from jax import jit"),
    (
        outdated.BY_NAME["jax.experimental.shard_map"],
        "from jax.experimental.shard_map import shard_map",
        "from jax import shard_map",
    ),
    (outdated.BY_NAME["flax.linen"], "import flax.linen as nn", "from flax import nnx"),
    (
        outdated.BY_NAME["orbax.checkpoint.AsyncCheckpointer"],
        "c = ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler())",
        "c = ocp.training",
    ),
]


def found(source: str) -> list[str]:
    return [remark.detail for remark in read_bundle(read_files((HEAD + source).encode())).remarks]


@pytest.mark.parametrize(("row", "written", "today"), SNIPPETS)
def test_the_outdated_form_is_told_with_todays_and_todays_is_not(row, written, today):
    details = found(written)
    assert len(details) == 1
    assert details[0].startswith(row.written)
    assert row.today in details[0]
    assert found(today) == []


def test_every_row_of_the_table_has_a_snippet():
    assert {row for row, _, _ in SNIPPETS} == set(outdated.ALL)


def test_the_table_stands_in_the_docs():
    lines = (ROOT / "docs" / "code.md").read_text().splitlines()
    for row in outdated.ALL:
        assert f"| `{row.written}` | `{row.today}` | {'fails' if row.fails else 'outdated'} |" in lines
