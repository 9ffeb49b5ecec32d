"""The choices of a transformer, each against a formula or against the plain form of it, and what remat does to a step."""

from __future__ import annotations

import importlib
import inspect
import re
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jobs.errors import UserFault
from jobs.programs.mesh import Layout, build_mesh
from jobs.programs.models import blocks
from jobs.programs.models.network import build_network
from jobs.programs.models.setting import OFFLOADING, SHORT, Remat, Setting
from jobs.programs.module import ModuleForm
from jobs.programs.packing import documents_of
from jobs.programs.program import is_key
from jobs.spec import models
from jobs.spec.catalog import load
from jobs.spec.remat import POLICIES

SMALL = {"type": "transformer", "vocab_size": 32, "dim": 16, "n_layers": 2, "n_heads": 4, "context": 8}
TOKENS = np.random.default_rng(0).integers(0, 32, (3, 9))
LAYOUT = Layout(build_mesh({"data": 1}), (("batch", "data"),))
SETTING = Setting(LAYOUT)


def form_of(setting: Setting = SETTING, **changes: Any) -> ModuleForm:
    fitted = load().fit("models", SMALL | changes, "/model")
    assert fitted.issues == []
    model = models.complete(fitted.value)
    return ModuleForm(lambda rngs: build_network(model, setting, rngs))


def fresh(form: ModuleForm) -> dict[str, Any]:
    """Variables of the right shapes, without the time it takes to compile an initialisation."""
    generator = np.random.default_rng(0)

    def some(leaf: jax.ShapeDtypeStruct) -> Any:
        if is_key(leaf):
            return jax.random.split(jax.random.key(1), leaf.shape) if leaf.shape else jax.random.key(1)
        return generator.normal(0, 0.1, leaf.shape).astype(leaf.dtype)

    return jax.tree.map(some, jax.eval_shape(lambda: form.fresh(0)))


def called(form: ModuleForm, sections: dict[str, Any], tokens: Any) -> tuple[jax.Array, dict[str, Any]]:
    """Logits, and the variables afterwards."""

    def call(sections: dict[str, Any], tokens: Any) -> Any:
        module = form.give(sections)
        return module(tokens), form.take(module)

    with jax.set_mesh(LAYOUT.mesh):
        return jax.jit(call)(sections, tokens)


def loss_of(form: ModuleForm, params: dict[str, Any], rest: dict[str, Any]) -> jax.Array:
    logits = form.give({"params": params} | rest)(TOKENS[:, :-1])
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, TOKENS[:, 1:]).mean()


def measured(form: ModuleForm, params: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Loss, gradients, and the bytes that a step needs beside its arguments."""
    rest = {"rngs": fresh(form)["rngs"]}
    with jax.set_mesh(LAYOUT.mesh):
        step = jax.jit(jax.value_and_grad(lambda params: loss_of(form, params, rest))).lower(params).compile()
    loss, gradients = step(params)
    return loss, gradients, step.memory_analysis().temp_size_in_bytes


def stacked(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters of a list of blocks as those of one stacked block."""
    names = {path.split(".", 2)[2] for path in params if path.startswith("blocks.")}
    whole = {path: array for path, array in params.items() if not path.startswith("blocks.")}
    return whole | {f"blocks.{name}": jnp.stack([params[f"blocks.{at}.{name}"] for at in range(2)]) for name in names}


@pytest.mark.parametrize("remat", ["none", "dots"])
def test_a_scanned_stack_computes_what_its_blocks_do(remat: str) -> None:
    plain, scanned = form_of(), form_of(Setting(LAYOUT, remat=Remat(remat)), scan_layers=True)
    params = fresh(plain)["params"]
    assert {path: leaf.shape for path, leaf in stacked(params).items()} == {
        path: leaf.shape for path, leaf in fresh(scanned)["params"].items()
    }
    (loss, gradients, _), (same, others, _) = measured(plain, params), measured(scanned, stacked(params))
    assert float(same) == pytest.approx(float(loss), rel=1e-6)
    for path, leaf in stacked(gradients).items():
        np.testing.assert_allclose(others[path], leaf, atol=1e-6)


@pytest.mark.parametrize("changes", [{"positions": "learned"}, {"positions": "rotary", "scan_layers": True}], ids=str)
def test_a_packed_document_is_read_as_if_it_were_alone(changes: dict[str, Any]) -> None:
    form = form_of(Setting(LAYOUT, remat=Remat("full")), **changes)
    sections, (first, second) = fresh(form), (TOKENS[:1, :3], TOKENS[:1, 3:8])
    # A row of both: the mask is 0 at the last token of each.
    documents = documents_of(jnp.array([[1, 1, 0, 1, 1, 1, 1, 0]], jnp.float32))
    assert documents.tolist() == [[0, 0, 0, 1, 1, 1, 1, 1]]
    with jax.set_mesh(LAYOUT.mesh):
        packed = jax.jit(lambda sections, tokens: form.give(sections)(tokens, documents))(
            sections, jnp.concatenate([first, second], 1)
        )
    for alone, within in ((first, packed[:, :3]), (second, packed[:, 3:])):
        np.testing.assert_allclose(within, called(form, sections, alone)[0], atol=1e-5)
    assert np.abs(packed[:, 3:] - called(form, sections, TOKENS[:1, :8])[0][:, 3:]).max() > 1e-3


def test_layers_of_a_scanned_stack_start_apart_and_on_no_mesh_axis() -> None:
    form = form_of(scan_layers=True)
    kernel = jax.jit(form.fresh, static_argnums=0)(0)["params"]["blocks.mlp.up.kernel"]
    assert float(jnp.abs(kernel[0] - kernel[1]).max()) > 0.01
    assert form.logical_axes["blocks.mlp.up.kernel"] == (None, "embed", "mlp")


def test_dropout_of_scanned_layers_moves_on() -> None:
    form = form_of(scan_layers=True, dropout=0.5)
    sections = fresh(form)
    sections["rngs"]["blocks.dropout.rngs.count"] = np.zeros(2, np.uint32)
    first, moved = called(form, sections, TOKENS)
    assert moved["rngs"]["blocks.dropout.rngs.count"].tolist() == [2, 2]  # the two halves of a block
    second, _ = called(form, sections | {"rngs": moved["rngs"]}, TOKENS)
    assert bool(jnp.any(first != second))


def test_shared_heads_are_heads_that_are_repeated() -> None:
    grouped, plain = form_of(n_kv_heads=2), form_of()
    params = fresh(grouped)["params"]
    whole = {path: leaf for path, leaf in params.items() if ".q." not in path and ".kv." not in path}
    for at in range(2):
        q, kv = (params[f"blocks.{at}.attention.{name}.kernel"] for name in ("q", "kv"))
        repeated = jnp.repeat(kv, 2, axis=2)  # (dim, 2, heads, features)
        whole[f"blocks.{at}.attention.qkv.kernel"] = jnp.concatenate([q[:, None], repeated], axis=1)
    assert float(measured(grouped, params)[0]) == pytest.approx(float(measured(plain, whole)[0]), rel=1e-6)


@pytest.mark.parametrize(("activation", "gate"), [("swiglu", jax.nn.silu), ("geglu", jax.nn.gelu)])
def test_a_gated_network_is_a_product(activation: str, gate: Any) -> None:
    params = fresh(form_of(activation=activation))["params"]
    up, gated, down = (params[f"blocks.0.mlp.{name}.kernel"] for name in ("up", "gate", "down"))
    assert up.shape == (16, 64)  # two thirds of 4 · 16, to a multiple of 64
    shape = blocks.Shape(16, 2, 4, 4, 64, activation, "rmsnorm", False, 0.0, True, None, "xla", False)
    with nnx.use_eager_sharding(False):
        network = blocks.FeedForward(shape, Setting(LAYOUT), nnx.Rngs(0))
    for name, kernel in (("up", up), ("gate", gated), ("down", down)):
        getattr(network, name).kernel.set_value(kernel)
    x = jax.random.normal(jax.random.key(1), (2, 5, 16))
    with jax.set_mesh(LAYOUT.mesh):
        np.testing.assert_allclose(network(x), (gate(x @ gated) * (x @ up)) @ down, atol=1e-6)


def test_layer_norm_and_biases_are_there_when_asked_for() -> None:
    params = fresh(form_of(norm="layernorm", use_bias=True))["params"]
    assert {"norm.bias", "blocks.0.attention.qkv.bias", "blocks.1.mlp.down.bias"} <= set(params)
    assert "norm.bias" not in fresh(form_of(norm="layernorm"))["params"]


def test_positions_beyond_a_token_do_not_change_its_logits() -> None:
    form = form_of(n_kv_heads=1, activation="swiglu", n_layers=1)
    sections, changed = fresh(form), TOKENS.copy()
    changed[:, 5:] = 0
    logits, others = called(form, sections, TOKENS)[0], called(form, sections, changed)[0]
    np.testing.assert_allclose(logits[:, :5], others[:, :5], atol=1e-6)
    assert bool(jnp.any(logits[:, 5:] != others[:, 5:]))


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_summed_in_float32_whatever_the_arithmetic(tied: bool) -> None:
    form = form_of(Setting(LAYOUT, compute=jnp.dtype("bfloat16")), tie_embeddings=tied, n_layers=1)
    sections = fresh(form)
    assert {leaf.dtype.name for leaf in sections["params"].values()} == {"float32"}
    logits, _ = called(form, sections, TOKENS)
    assert logits.dtype == jnp.float32
    assert bool(jnp.any(logits != logits.astype(jnp.bfloat16).astype(jnp.float32)))


def test_no_large_product_of_a_low_precision_step_is_in_float32() -> None:
    """Those with the vocabulary are the largest of a step; sums over heads alone are kept wide by JAX."""
    form = form_of(Setting(LAYOUT, compute=jnp.dtype("bfloat16")), vocab_size=97)
    wide = form_of(vocab_size=97)
    sections = fresh(form)

    def loss(params: Any, form: ModuleForm) -> jax.Array:
        logits = form.give({**sections, "params": params})(TOKENS)
        return optax.softmax_cross_entropy_with_integer_labels(logits, TOKENS).mean()

    with jax.set_mesh(LAYOUT.mesh):
        lowered = jax.jit(jax.grad(lambda params: loss(params, form))).lower(sections["params"]).as_text()
        found, exact = (jax.jit(jax.grad(loss), static_argnums=1)(sections["params"], each) for each in (form, wide))
    products = [operands for operands in re.findall(r"dot_general.*: \((.*)\) ->", lowered) if "97" in operands]
    assert len(products) == 3
    assert not any("f32" in operands.replace("bf16", "") for operands in products)
    for path, gradient in found.items():
        np.testing.assert_allclose(gradient, exact[path], atol=0.03 * float(jnp.abs(exact[path]).max()), err_msg=path)


def test_logits_can_be_differentiated_forward() -> None:
    """As optimizers that look at curvature do."""
    form = form_of()
    sections = fresh(form)

    def loss(params: Any) -> jax.Array:
        logits = form.give({**sections, "params": params})(TOKENS)
        return optax.softmax_cross_entropy_with_integer_labels(logits, TOKENS).mean()

    params = sections["params"]
    direction = jax.tree.map(jnp.ones_like, params)
    with jax.set_mesh(LAYOUT.mesh):
        slope = jax.jit(lambda: jax.jvp(loss, (params,), (direction,))[1])()
        gradient = jax.jit(jax.grad(loss))(params)
        curvature = jax.eval_shape(lambda: jax.jvp(jax.grad(loss), (params,), (direction,))[1])
    expected = sum(float(jnp.sum(leaf)) for leaf in gradient.values())
    assert float(slope) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert curvature.keys() == params.keys()


def test_remat_changes_memory_and_neither_loss_nor_gradients() -> None:
    """On a CPU the compiler undoes remat where blocks stand side by side, so they are scanned over here."""
    shape: dict[str, Any] = {"n_layers": 4, "scan_layers": True}
    params = fresh(form_of(**shape))["params"]
    loss, gradients, none = measured(form_of(**shape), params)
    needed = {}
    for policy in ("full", "dots", "dots_with_no_batch_dims", OFFLOADING):
        same, others, needed[policy] = measured(form_of(Setting(LAYOUT, remat=Remat(policy)), **shape), params)
        assert float(same) == pytest.approx(float(loss), rel=1e-6)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradients, others)
    assert needed["full"] < 0.6 * none
    assert needed["full"] < needed["dots_with_no_batch_dims"] < none
    assert needed["dots"] < none


@pytest.mark.parametrize(("rule", "wrapped"), [(Remat(), 0), (Remat("full"), 5), (Remat("dots", 2), 3), (Remat("full", 5), 1)])
def test_remat_is_for_every_kth_block(rule: Remat, wrapped: int) -> None:
    form = form_of(Setting(LAYOUT, remat=rule), n_layers=5)
    with jax.set_mesh(LAYOUT.mesh):
        program = jax.make_jaxpr(lambda sections: form.give(sections)(TOKENS))(jax.eval_shape(lambda: form.fresh(0)))
    assert sum(equation.primitive.name in ("checkpoint", "remat", "remat2") for equation in program.jaxpr.eqns) == wrapped


def test_every_policy_of_the_library_without_arguments_has_its_name() -> None:
    """Policies with arguments are made by calling them; a policy itself is called with a primitive."""
    library = {name for name in dir(jax.checkpoint_policies) if not name.startswith("_")}
    made = {"save_and_offload_only_these_names", "save_any_names_but_these", "save_anything_except_these_names"}
    made |= {"save_only_these_names", "save_from_both_policies", "offload_dot_with_no_batch_dims"}
    assert library - made == set(POLICIES) - {"none", OFFLOADING, *SHORT}
    for name in set(POLICIES) - {"none"}:
        first, *_ = inspect.signature(getattr(jax.checkpoint_policies, SHORT.get(name, name))).parameters.values()
        assert name == OFFLOADING or first.name in ("prim", "_", "args")


def test_fused_attention_is_refused_where_there_is_none() -> None:
    with pytest.raises(UserFault) as caught:
        form_of(Setting(LAYOUT, compute=jnp.dtype("bfloat16")), attention="cudnn")
    assert (caught.value.code, caught.value.param) == ("compile_failed", "/model/attention")
    assert blocks.attention_of("auto", Setting(LAYOUT), 8) == "xla"


def gpu_of(monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A mesh of a GPU that is not there: programs are lowered for it, not compiled. JAX is kept from asking for its cuDNN."""
    fused = importlib.import_module("jax._src.cudnn.fused_attention_stablehlo")
    monkeypatch.setattr(fused, "check_cudnn_version", lambda: 91400)
    monkeypatch.setattr(fused, "check_compute_capability", lambda capability: float(capability) <= 9.0)
    monkeypatch.setattr(fused, "is_cuda_compute_capability_equal", lambda _: False)
    client = SimpleNamespace(platform_version="PJRT C API\ncuda 12090")
    device = SimpleNamespace(platform="gpu", client=client, compute_capability="9.0")
    mesh = SimpleNamespace(devices=np.array([device], object))
    return SimpleNamespace(mesh=mesh, constrain=lambda array, *_: array)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("shape", "how", "length", "packed", "fused"),
    [
        ({}, {}, 8, False, 4),
        ({"n_kv_heads": 2, "positions": "learned"}, {}, 8, False, 4),
        ({"scan_layers": True}, {"remat": Remat("full")}, 8, False, 3),
        ({}, {}, 8, True, 0),
        ({}, {}, 7, False, 0),
        ({}, {"fuses": False}, 8, False, 0),
    ],
    ids=["plain", "grouped", "scanned, with remat", "documents apart", "an odd length", "differentiated twice"],
)
def test_attention_is_fused_on_a_gpu_where_it_can_be(
    shape: Any, how: Any, length: int, packed: bool, fused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = form_of(Setting(gpu_of(monkeypatch), compute=jnp.dtype("bfloat16"), **how), dim=32, **shape)
    sections = fresh(form)
    documents = jnp.zeros((3, length), jnp.int32) if packed else None

    def loss(params: Any) -> jax.Array:
        return form.give({**sections, "params": params})(TOKENS[:, :length], documents).mean()

    traced = jax.jit(jax.grad(loss)).trace(sections["params"])
    assert traced.lower(lowering_platforms=("cuda",)).as_text().count("__cudnn$fmha") == fused


@pytest.mark.parametrize(
    ("platform", "client", "capability", "has"),
    [
        ("cpu", "cpu", "", False),
        ("gpu", "cuda 129", "9.0", True),
        ("gpu", "cuda 129", "7.5", False),
        ("gpu", "rocm", "9.0", False),
    ],
)
def test_fused_attention_is_for_nvidia_from_ampere_on(platform: str, client: str, capability: str, has: bool) -> None:
    device = SimpleNamespace(platform=platform, client=SimpleNamespace(platform_version=client), compute_capability=capability)
    assert blocks.has_fused_attention(device) is has
