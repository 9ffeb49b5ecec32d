"""Snippets that tutorials still show and today's libraries refuse or discourage, each with today's form.

docs/code.md holds the same table, and a test keeps the two alike. Every row has been tried on both supported sets of versions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from jobs.spec.bundle.facts import Remark
from jobs.spec.bundle.names import Imports, dotted, imports_of

CODE = "outdated_snippet"


@dataclass(frozen=True)
class Outdated:
    """One row of the table.

    Attributes:
        written: as the snippet has it.
        today: what to write instead.
        fails: whether it raises today; otherwise it works, and is discouraged.
    """

    written: str
    today: str
    fails: bool


OPTIMIZER = Outdated("nnx.Optimizer(model, tx)", "nnx.Optimizer(model, tx, wrt=nnx.Param)", fails=True)
OPTIMIZER_MODEL = Outdated("optimizer.model", "pass the model itself: nnx.value_and_grad(loss_fn)(model)", fails=True)
OPTIMIZER_UPDATE = Outdated("optimizer.update(grads)", "optimizer.update(model, grads)", fails=True)
LIST = Outdated("self.layers = [Layer(…) for …]", "self.layers = nnx.List([Layer(…) for …])", fails=True)
DICT = Outdated('self.heads = {"a": Layer(…)}', 'self.heads = nnx.Dict({"a": Layer(…)})', fails=True)
WITH_MESH = Outdated("with mesh:", "with jax.set_mesh(mesh):; in a job, the `mesh` of the spec", fails=False)
VALUE = Outdated("variable.value", "variable[...], or variable.get_value() and variable.set_value(…)", fails=False)
SHARDING = Outdated("nnx.Param(…, sharding=…)", "nnx.Param(…, out_sharding=…)", fails=False)

BY_NAME: dict[str, Outdated] = {
    "optax.multi_steps": Outdated(
        "optax.multi_steps(tx, every_k_schedule=4)", "the job's grad_accumulation: 4, or optax.MultiSteps", fails=True
    ),
    "jax.tree_map": Outdated("jax.tree_map", "jax.tree.map", fails=True),
    "jax.tree_multimap": Outdated("jax.tree_multimap", "jax.tree.map with several trees", fails=True),
    "jax.tree_leaves": Outdated("jax.tree_leaves", "jax.tree.leaves", fails=True),
    "jax.ops.index_update": Outdated("jax.ops.index_update(x, i, y)", "x.at[i].set(y)", fails=True),
    "jax.ops.index_add": Outdated("jax.ops.index_add(x, i, y)", "x.at[i].add(y)", fails=True),
    "jax.random.shuffle": Outdated("jax.random.shuffle", "jax.random.permutation", fails=True),
    "jax.experimental.host_callback": Outdated(
        "jax.experimental.host_callback", "jax.debug.callback or jax.pure_callback", fails=True
    ),
    "jax.experimental.maps": Outdated("jax.experimental.maps.xmap", "jax.vmap, jax.shard_map", fails=True),
    "jax.lib.xla_bridge": Outdated("jax.lib.xla_bridge", "jax.devices(), jax.default_backend()", fails=True),
    "jax.numpy.DeviceArray": Outdated("jnp.DeviceArray", "jax.Array", fails=True),
    "jax.xla_computation": Outdated("jax.xla_computation(f)(x)", "jax.jit(f).lower(x)", fails=True),
    "flax.nnx.set_mode": Outdated("nnx.set_mode(model, …)", "nnx.view(model, deterministic=True)", fails=True),
    "jax.random.PRNGKey": Outdated("jax.random.PRNGKey(0)", "jax.random.key(0)", fails=False),
    "jax.pmap": Outdated("jax.pmap", "jax.jit over a mesh (in a job: `mesh`), or jax.shard_map", fails=False),
    "jax.experimental.mesh_utils": Outdated(
        "mesh_utils.create_device_mesh((4, 2)) with Mesh(…)",
        'jax.make_mesh((4, 2), ("data", "model")); in a job, `mesh`',
        fails=False,
    ),
    "jax.experimental.pjit": Outdated("jax.experimental.pjit", "jax.jit", fails=False),
    "jax.experimental.shard_map": Outdated("jax.experimental.shard_map", "jax.shard_map", fails=False),
    "flax.linen": Outdated("flax.linen", "flax.nnx: a job's model is an nnx.Module", fails=True),
    "orbax.checkpoint.AsyncCheckpointer": Outdated(
        "ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler())", "the job's `checkpoint`: the service saves", fails=False
    ),
}
ALL: tuple[Outdated, ...] = (
    *(OPTIMIZER, OPTIMIZER_MODEL, OPTIMIZER_UPDATE, LIST, DICT, WITH_MESH, VALUE, SHARDING),
    *BY_NAME.values(),
)
_OPTIMIZERS = frozenset({"optimizer", "opt", "self.optimizer"})
_MODULES = ("flax.nnx.Module", "flax.nnx.Pytree")


def find_outdated(path: str, tree: ast.Module) -> Iterator[Remark]:
    """Every outdated form in a file."""
    imports = imports_of(tree)
    seen: set[tuple[int, Outdated]] = set()
    for node, found in _found(tree, imports):
        line = getattr(node, "lineno", 1)
        if (line, found) not in seen:
            seen.add((line, found))
            yield Remark(
                CODE, path, line, f"{found.written} {'fails' if found.fails else 'is outdated'} today; write {found.today}"
            )


def _found(tree: ast.Module, imports: Imports) -> Iterator[tuple[ast.AST, Outdated]]:
    optimizers = _OPTIMIZERS.union(_assigned(tree, imports, "flax.nnx.Optimizer"))
    meshes = {"mesh", *_assigned(tree, imports, "jax.sharding.Mesh"), *_assigned(tree, imports, "jax.make_mesh")}
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom() | ast.Import():
                yield from ((node, found) for found in _imported(node))
            case ast.Attribute():
                yield from ((node, found) for found in _attribute(node, imports, optimizers))
            case ast.Call():
                yield from ((node, found) for found in _call(node, imports, optimizers))
            case ast.With():
                named = [item for item in node.items if ast.unparse(item.context_expr) in meshes]
                yield from ((node, WITH_MESH) for _ in named)
            case ast.ClassDef() if any(dotted(base, imports) in _MODULES for base in node.bases):
                yield from _containers(node)
            case _:
                pass


def _assigned(tree: ast.Module, imports: Imports, maker: str) -> Iterator[str]:
    """Names to which a call of `maker` is assigned."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and dotted(node.value.func, imports) == maker:
            yield from (ast.unparse(target) for target in node.targets)


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[Outdated]:
    module = node.module if isinstance(node, ast.ImportFrom) and not node.level else None
    names = [f"{module}.{alias.name}" if module else alias.name for alias in node.names] + ([module] if module else [])
    yield from (BY_NAME[name] for name in names if name in BY_NAME)


def _attribute(node: ast.Attribute, imports: Imports, optimizers: frozenset[str] | set[str]) -> Iterator[Outdated]:
    name = dotted(node, imports)
    if name in BY_NAME:
        yield BY_NAME[name]
    if node.attr == "model" and ast.unparse(node.value) in optimizers:
        yield OPTIMIZER_MODEL
    if (
        node.attr == "value"
        and isinstance(node.value, ast.Attribute)
        and node.value.attr in ("kernel", "bias", "scale", "embedding")
    ):
        yield VALUE


def _call(node: ast.Call, imports: Imports, optimizers: frozenset[str] | set[str]) -> Iterator[Outdated]:
    name = dotted(node.func, imports)
    keywords = {keyword.arg for keyword in node.keywords}
    if name == "flax.nnx.Optimizer" and len(node.args) < 3 and "wrt" not in keywords and None not in keywords:
        yield OPTIMIZER
    if name == "flax.nnx.Param" and "sharding" in keywords:
        yield SHARDING
    if isinstance(node.func, ast.Attribute) and node.func.attr == "update" and ast.unparse(node.func.value) in optimizers:
        alone = len(node.args) == 1 and not keywords and not isinstance(node.args[0], ast.Starred)
        yield from [OPTIMIZER_UPDATE] if alone else []


def _containers(module: ast.ClassDef) -> Iterator[tuple[ast.AST, Outdated]]:
    """Plain lists and dictionaries of layers that a module keeps."""
    for node in ast.walk(module):
        if isinstance(node, ast.Assign) and any(_is_own(target) for target in node.targets) and _makes(node.value):
            yield node, DICT if isinstance(node.value, ast.Dict | ast.DictComp) else LIST


def _is_own(target: ast.expr) -> bool:
    return isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"


def _makes(value: ast.expr) -> bool:
    """Whether an expression is a container whose items are made by calls: layers, most likely."""
    match value:
        case ast.List():
            return any(isinstance(item, ast.Call) for item in value.elts)
        case ast.Dict():
            return any(isinstance(item, ast.Call) for item in value.values)
        case ast.ListComp():
            return isinstance(value.elt, ast.Call) and _takes_streams(value.elt)
        case ast.DictComp():
            return isinstance(value.value, ast.Call) and _takes_streams(value.value)
        case _:
            return False


def _takes_streams(call: ast.Call) -> bool:
    """Whether a call is handed random streams, as layers are."""
    words = [keyword.arg or "" for keyword in call.keywords] + [ast.unparse(argument) for argument in call.args]
    return any(word.rpartition(".")[2] == "rngs" for word in words)
