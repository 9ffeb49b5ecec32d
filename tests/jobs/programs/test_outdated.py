"""The table of outdated snippets, run: what it says fails does fail with the installed libraries, and what it says works does."""

from __future__ import annotations

import pytest

from jobs.spec.bundle import outdated

HEAD = """
import jax, jax.numpy as jnp, numpy as np, optax
from flax import nnx

class Net(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(2, 2, rngs=rngs)

model = Net(nnx.Rngs(0))
tx = optax.adamw(1e-3)
optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
grads = nnx.state(model, nnx.Param)
layer, key, x = model.layer, jax.random.key(0), jnp.zeros((1, 2))
"""
MODULE = """
class Deep(nnx.Module):
    def __init__(self, rngs):
        self.layers = {}
Deep(nnx.Rngs(0))
"""
# (row, the outdated form as a program)
RUN = [
    (outdated.OPTIMIZER, "nnx.Optimizer(model, tx)"),
    (outdated.OPTIMIZER_MODEL, "optimizer.model"),
    (outdated.OPTIMIZER_UPDATE, "optimizer.update(grads)"),
    (outdated.LIST, MODULE.replace("{}", "[nnx.Linear(2, 2, rngs=rngs)]")),
    (outdated.DICT, MODULE.replace("{}", "{'a': nnx.Linear(2, 2, rngs=rngs)}")),
    (outdated.WITH_MESH, "with jax.sharding.Mesh(np.array(jax.devices()[:1]), ('d',)): pass"),
    (outdated.VALUE, "layer.kernel.value"),
    (outdated.SHARDING, "with nnx.use_eager_sharding(False): nnx.Param(x, sharding=(None, 'model'))"),
    (outdated.BY_NAME["optax.multi_steps"], "optax.multi_steps(tx, every_k_schedule=4)"),
    (outdated.BY_NAME["jax.tree_map"], "jax.tree_map(lambda x: x.shape, x)"),
    (outdated.BY_NAME["jax.tree_multimap"], "jax.tree_multimap(jnp.add, x, x)"),
    (outdated.BY_NAME["jax.tree_leaves"], "jax.tree_leaves(x)"),
    (outdated.BY_NAME["jax.ops.index_update"], "jax.ops.index_update(x, 0, 1)"),
    (outdated.BY_NAME["jax.ops.index_add"], "jax.ops.index_add(x, 0, 1)"),
    (outdated.BY_NAME["jax.random.shuffle"], "jax.random.shuffle(key, x)"),
    (outdated.BY_NAME["jax.experimental.host_callback"], "from jax.experimental import host_callback"),
    (outdated.BY_NAME["jax.experimental.maps"], "from jax.experimental.maps import xmap"),
    (outdated.BY_NAME["jax.lib.xla_bridge"], "from jax.lib import xla_bridge"),
    (outdated.BY_NAME["jax.numpy.DeviceArray"], "jnp.DeviceArray"),
    (outdated.BY_NAME["jax.xla_computation"], "jax.xla_computation(jnp.sin)(x)"),
    (outdated.BY_NAME["flax.nnx.set_mode"], "nnx.set_mode(model, deterministic=True)"),
    (outdated.BY_NAME["jax.random.PRNGKey"], "jax.random.PRNGKey(0)"),
    (outdated.BY_NAME["jax.pmap"], "jax.pmap(jnp.sin)(x)"),
    (
        outdated.BY_NAME["jax.experimental.mesh_utils"],
        "from jax.experimental import mesh_utils; mesh_utils.create_device_mesh((8, 1))",
    ),
    (outdated.BY_NAME["jax.experimental.pjit"], "from jax.experimental.pjit import pjit; pjit(jnp.sin)(x)"),
    (outdated.BY_NAME["jax.experimental.shard_map"], "from jax.experimental.shard_map import shard_map"),
]
JUDGED_ELSEWHERE = {
    outdated.BY_NAME["flax.linen"],  # imports well; its modules are refused by `user_code`
    outdated.BY_NAME["orbax.checkpoint.AsyncCheckpointer"],  # would write to the disk
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("row", "program"), RUN, ids=[row.written for row, _ in RUN])
def test_a_snippet_does_today_what_the_table_says(row: outdated.Outdated, program: str) -> None:
    def run() -> None:
        exec(compile(HEAD + program, "snippet.py", "exec"), {})

    if row.fails:
        with pytest.raises((AttributeError, ImportError, TypeError, ValueError)):
            run()
    else:
        run()


def test_every_row_is_run() -> None:
    assert {row for row, _ in RUN} | JUDGED_ELSEWHERE == set(outdated.ALL)
