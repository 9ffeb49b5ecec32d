"""Networks as lists of layers: every layer of the catalog trains, keeps its variables, and has the shape foretold."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jobs.errors import UserFault
from jobs.programs.mesh import Layout, build_mesh
from jobs.programs.models.network import build_network
from jobs.programs.models.setting import Remat, Setting
from jobs.programs.module import ModuleForm
from jobs.programs.program import flatten, unflatten
from jobs.spec.catalog import load
from jobs.spec.layers import walk

LAYOUT = Layout(build_mesh({"data": 1}), (("batch", "data"),))
SETTING = Setting(LAYOUT)
LAYERS = load().sections["layers"]
ACTIVATIONS = [name for name, entry in LAYERS.items() if entry["source"].startswith("jax.nn.")]
LSTM = {"type": "LSTMCell", "in_features": 4, "hidden_features": 6}
RNN = {"type": "RNN", "cell": LSTM}
LINEAR = {"type": "Linear", "in_features": 4, "out_features": 6}
CELLS = ("GRUCell", "LSTMCell", "OptimizedLSTMCell", "SimpleCell")
PICTURE, SERIES, ROW = [6, 6, 4], [5, 4], [4]
CONV = {"in_features": 4, "out_features": 6, "kernel_size": [3, 3]}

# What each layer is tried with: (shape of a sample, arguments). Several times where its shape depends on how it is used.
TRIED: list[tuple[str, list[int], dict[str, Any]]] = [
    *[(norm, PICTURE, {"num_features": 4}) for norm in ("BatchNorm", "InstanceNorm", "LayerNorm", "RMSNorm")],
    ("GroupNorm", PICTURE, {"num_features": 4, "num_groups": 2}),
    ("Linear", ROW, {"in_features": 4, "out_features": 6}),
    ("LinearGeneral", ROW, {"in_features": 4, "out_features": [2, 3]}),
    ("LoRA", ROW, {"in_features": 4, "lora_rank": 2, "out_features": 4}),
    ("LoRALinear", SERIES, {"in_features": 4, "out_features": 6, "lora_rank": 2}),
    ("Einsum", ROW, {"einsum_str": "bi,io->bo", "kernel_shape": [4, 6], "bias_shape": [6]}),
    ("Embed", [5], {"num_embeddings": 7, "features": 3}),
    ("Conv", PICTURE, CONV),
    ("Conv", PICTURE, CONV | {"padding": "VALID", "strides": 2}),
    ("Conv", PICTURE, CONV | {"padding": "CIRCULAR", "strides": [2, 1], "kernel_dilation": 2}),
    ("Conv", SERIES, {"in_features": 4, "out_features": 6, "kernel_size": 3, "padding": "CAUSAL"}),
    ("ConvTranspose", PICTURE, CONV | {"strides": [2, 2]}),
    ("ConvTranspose", PICTURE, CONV | {"padding": "VALID"}),
    ("Dropout", ROW, {"rate": 0.5}),
    ("PReLU", ROW, {}),
    ("MultiHeadAttention", SERIES, {"num_heads": 2, "in_features": 4, "dropout_rate": 0.1}),
    ("MultiHeadAttention", SERIES, {"num_heads": 2, "in_features": 4, "qkv_features": 8, "out_features": 6}),
    *[(cell, SERIES, {"in_features": 4, "hidden_features": 6}) for cell in CELLS],
    ("RNN", SERIES, {"cell": LSTM, "reverse": True}),
    ("Bidirectional", SERIES, {"forward_rnn": RNN, "backward_rnn": RNN}),
    ("SpectralNorm", ROW, {"layer_instance": LINEAR}),
    *[(pool, PICTURE, {"window_shape": [2, 3], "strides": [2, 2]}) for pool in ("avg_pool", "max_pool", "min_pool")],
    ("max_pool", PICTURE, {"window_shape": [3, 3], "strides": [2, 2], "padding": "SAME"}),
    ("flatten", PICTURE, {}),
    ("reshape", PICTURE, {"shape": [4, -1, 2]}),
    ("mean", PICTURE, {}),
    ("max", PICTURE, {"axes": [0, 2]}),
    ("take", SERIES, {}),
    ("residual", SERIES, {"layers": [LINEAR | {"out_features": 4}, {"type": "tanh"}]}),
    *[(name, ROW, {}) for name in ACTIVATIONS],
]  # fmt: skip


def model_of(in_shape: list[int], layers: list[dict[str, Any]]) -> dict[str, Any]:
    fitted = load().fit("models", {"type": "sequential", "in_shape": in_shape, "layers": layers}, "/model", "train")
    assert fitted.issues == []
    return fitted.value


def form_of(model: dict[str, Any], setting: Setting = SETTING) -> ModuleForm:
    return ModuleForm(lambda rngs: build_network(model, setting, rngs))


def sample(in_shape: list[int], layers: list[dict[str, Any]]) -> np.ndarray:
    generator = np.random.default_rng(0)
    if layers[0]["type"] == "Embed":
        return generator.integers(0, layers[0]["num_embeddings"], (3, *in_shape)).astype(np.int32)
    return (generator.normal(size=(3, *in_shape)) - 1).astype(np.float32)


def after(form: ModuleForm, x: np.ndarray) -> tuple[int, ...]:
    """The shape of a network's outputs, without computing them."""
    with jax.set_mesh(LAYOUT.mesh):
        return jax.eval_shape(lambda: form.give(form.fresh(0))(x)).shape


def trained(form: ModuleForm, x: np.ndarray) -> tuple[Any, Any]:
    """All variables before and after a step of gradient descent."""

    def step(sections: dict[str, Any]) -> dict[str, Any]:
        def loss(params: dict[str, Any]) -> Any:
            module = form.give(sections | {"params": params})
            return jnp.sum(jnp.square(module(x) - 0.3)), form.take(module)

        gradients, moved = jax.grad(loss, has_aux=True)(sections["params"])
        return moved | {"params": jax.tree.map(lambda leaf, grad: leaf - 0.01 * grad, sections["params"], gradients)}

    with jax.set_mesh(LAYOUT.mesh):
        first = jax.jit(form.fresh, static_argnums=0)(0)
        return first, jax.jit(step)(first)


def test_every_layer_of_the_catalog_is_tried() -> None:
    assert {name for name, _, _ in TRIED} == set(LAYERS)


@pytest.mark.parametrize(("name", "in_shape", "given"), TRIED, ids=lambda value: value if isinstance(value, str) else "")
def test_the_job_language_knows_what_shape_comes_out(name: str, in_shape: list[int], given: dict[str, Any]) -> None:
    model = model_of(in_shape, [{"type": name, **given}])
    found = walk(model["layers"], tuple(in_shape), "/model/layers")
    assert found.issues == []
    known = after(form_of(model), sample(in_shape, model["layers"]))[1:]
    assert found.shape == known or (found.shape is None and name in ("LinearGeneral", "Einsum"))


@pytest.mark.parametrize(
    ("name", "in_shape", "given"),
    [case for at, case in enumerate(TRIED) if case[0] not in ACTIVATIONS and case[0] not in [other[0] for other in TRIED[:at]]],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_layer_trains_and_keeps_its_variables(name: str, in_shape: list[int], given: dict[str, Any]) -> None:
    layers = [{"type": name, **given}, {"type": "PReLU"}]
    form = form_of(model_of(in_shape, layers))
    first, second = trained(form, sample(in_shape, layers))
    assert {path: leaf.shape for path, leaf in flatten(first).items()} == {p: leaf.shape for p, leaf in flatten(second).items()}
    changed = {path for path, leaf in first["params"].items() if np.any(leaf != second["params"][path])}
    assert changed
    assert all(np.all(np.isfinite(leaf)) for leaf in second["params"].values())
    for section in second.values():
        back = unflatten(jax.eval_shape(lambda section=section: section), flatten(section))
        assert jax.tree.structure(back) == jax.tree.structure(section)
        assert all(np.array_equal(flatten(back)[path], leaf) for path, leaf in flatten(section).items())
    assert all(len(path) < 200 and "/" not in path for path in flatten(second))


def test_all_activations_train() -> None:
    names = [name for name in ACTIVATIONS if name not in ("glu", "standardize")]
    layers = [LINEAR, *({"type": "residual", "layers": [{"type": name}]} for name in names)]
    first, second = trained(form_of(model_of(ROW, [*layers, {"type": "standardize"}, {"type": "glu"}])), sample(ROW, layers))
    assert np.any(first["params"]["layers.0.kernel"] != second["params"]["layers.0.kernel"])
    assert np.all(np.isfinite(second["params"]["layers.0.kernel"]))


def test_batch_statistics_move_in_training_and_stand_still_in_evaluation() -> None:
    form = form_of(model_of(ROW, [{"type": "BatchNorm", "num_features": 4}, {"type": "Dropout", "rate": 0.5}]))
    x = sample(ROW, [LINEAR])
    first, second = trained(form, x)
    assert np.any(first["batch_stats"]["layers.0.mean"] != second["batch_stats"]["layers.0.mean"])
    assert second["rngs"]["layers.1.rngs.count"] == 1
    with jax.set_mesh(LAYOUT.mesh):
        still = nnx.view(form.give(first), deterministic=True, use_running_average=True, raise_if_not_found=False)
        out, again = still(x), still(x)
    np.testing.assert_allclose(out, x / np.sqrt(1 + 1e-5), rtol=1e-5)  # mean 0, variance 1: what they start as
    np.testing.assert_array_equal(out, again)


def test_precision_and_remat_reach_the_layers() -> None:
    seen: list[Any] = []
    layers = [LINEAR, {"type": "tanh"}, LINEAR | {"in_features": 6, "dtype": "float32"}]
    setting = Setting(LAYOUT, compute=jnp.dtype("bfloat16"), remat=Remat("full"))
    form = form_of(model_of(ROW, layers), setting)

    def watched(sections: dict[str, Any]) -> jax.Array:
        module = form.give(sections)
        module.layers[1].call = lambda x: (seen.append(x.dtype), jnp.tanh(x))[1]
        return module(sample(ROW, layers))

    with jax.set_mesh(LAYOUT.mesh):
        program = jax.make_jaxpr(watched)(jax.eval_shape(lambda: form.fresh(0)))
    assert seen == [jnp.bfloat16]
    assert program.out_avals[0].dtype == jnp.float32
    assert str(program).count("remat") + str(program).count("checkpoint[") >= 3
    assert {leaf.dtype.name for leaf in jax.eval_shape(lambda: form.fresh(0))["params"].values()} == {"float32"}


@pytest.mark.parametrize("cell", CELLS)
def test_a_recurrent_cell_takes_short_parameters(cell: str) -> None:
    """Of which no orthogonal matrix can be made directly."""
    setting = Setting(LAYOUT, params=jnp.dtype("bfloat16"))
    form = form_of(model_of(SERIES, [{"type": cell, "in_features": 4, "hidden_features": 6}]), setting)
    assert {leaf.dtype.name for leaf in jax.eval_shape(lambda: form.fresh(0))["params"].values()} == {"bfloat16"}


def test_what_layers_take_is_what_others_give_on_logical_axes() -> None:
    layers = [CONV | {"type": "Conv"}, {"type": "flatten"}, LINEAR | {"in_features": 216}, LINEAR | {"in_features": 6}]
    axes = form_of(model_of(PICTURE, layers)).logical_axes
    assert axes["layers.0.kernel"] == (None, None, None, "mlp")
    assert (axes["layers.2.kernel"], axes["layers.3.kernel"]) == (("embed", "mlp"), ("embed", None))


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([LINEAR, {"type": "Einsum", "einsum_str": "bi,io->bo", "kernel_shape": [5, 2]}], "cannot take an input of shape [6]"),
        ([LINEAR, {"type": "Einsum", "einsum_str": "bi,io->o", "kernel_shape": [6, 2]}], "lost the batch"),
        ([LINEAR, {"type": "GroupNorm", "num_features": 6}], "cannot be built"),
        ([{"type": "identity"}, {"type": "Embed", "num_embeddings": 3, "features": 2}], "integer"),
    ],
)
def test_a_layer_that_does_not_fit_is_pointed_to(layers: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(UserFault) as caught:
        after(form_of(model_of(ROW, layers)), sample(ROW, layers))
    assert (caught.value.code, caught.value.param) == ("compile_failed", "/model/layers/1")
    assert said in caught.value.message


def test_what_the_library_has_and_the_catalog_lacks_says_why() -> None:
    excluded = load().excluded["layers"]
    modules = {name for name in dir(nnx) if inspect.isclass(found := getattr(nnx, name)) and issubclass(found, nnx.Module)}
    functions = {name for name in dir(jax.nn) if not name.startswith("_")}
    assert modules | functions <= set(LAYERS) | set(excluded)
    assert not set(LAYERS) & set(excluded)
    assert all(reason for reason in excluded.values())
