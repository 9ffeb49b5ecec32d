"""What the job language says of a model's arrays is what the model is built with."""

from __future__ import annotations

import jax
import pytest

from jobs.programs.mesh import Layout, build_mesh
from jobs.programs.models.network import build_network
from jobs.programs.models.setting import Setting
from jobs.programs.module import ModuleForm
from jobs.spec.catalog import load
from jobs.spec.models import complete, logical_sizes, together

LAYERS = [
    {"type": "Conv", "in_features": 2, "out_features": 6, "kernel_size": [3, 3]},
    {"type": "mean"},
    {"type": "Linear", "in_features": 6, "out_features": 10},
    {"type": "residual", "layers": [{"type": "Linear", "in_features": 10, "out_features": 10}]},
    {"type": "Linear", "in_features": 10, "out_features": 3},
]
MODELS = [
    {"type": "transformer", "vocab_size": 96, "dim": 24, "n_layers": 2, "n_heads": 3, "context": 16, "mlp_dim": 40},
    {"type": "transformer", "vocab_size": 96, "dim": 24, "n_layers": 2, "n_heads": 3, "context": 16, "tie_embeddings": False},
    {"type": "transformer", "vocab_size": 96, "dim": 24, "n_layers": 1, "n_heads": 3, "context": 16, "positions": "rotary"},
    {"type": "transformer", "vocab_size": 96, "dim": 24, "n_layers": 2, "n_heads": 6, "context": 16, "n_kv_heads": 2},
    {"type": "transformer", "vocab_size": 96, "dim": 24, "n_layers": 2, "n_heads": 6, "context": 16, "scan_layers": True},
    {"type": "transformer", "vocab_size": 96, "dim": 20, "n_layers": 1, "n_heads": 5, "context": 16, "activation": "swiglu"},
    {"type": "mlp", "in_features": 5, "hidden": [7, 11, 13], "out_features": 3},
    {"type": "mlp", "in_features": 5, "hidden": [7, 11], "out_features": 3},
    {"type": "mlp", "in_features": 5, "hidden": [], "out_features": 3},
    {"type": "vit", "in_shape": [8, 8, 1], "dim": 24, "n_layers": 1, "n_heads": 3, "out_features": 4, "mlp_dim": 40},
    {"type": "resnet", "in_shape": [8, 8, 3], "stages": [1, 2], "widths": [6, 10], "out_features": 4},
    {"type": "lstm", "in_shape": [5, 3], "hidden": 14, "n_layers": 2, "out_features": 4},
    {"type": "lstm_lm", "vocab_size": 96, "dim": 24, "hidden": 14, "n_layers": 2, "context": 8},
    {"type": "sequential", "in_shape": [4, 4, 2], "layers": LAYERS},
    {"type": "sequential", "in_shape": [4], "layers": [{"type": "Embed", "num_embeddings": 9, "features": 2}, *LAYERS[2:]]},
    {"type": "cnn", "in_shape": [8, 8, 1], "channels": [6, 10], "hidden": 14, "out_features": 4},
]


def parameters(model):
    """The shape and the logical axes of every parameter, without building one."""
    setting = Setting(Layout(build_mesh({"data": 1}), ()))
    form = ModuleForm(lambda rngs: build_network(model, setting, rngs))
    shapes = {path: leaf.shape for path, leaf in jax.eval_shape(lambda: form.fresh(0))["params"].items()}
    return {path: (shapes[path], axes or ()) for path, axes in form.logical_axes.items()}


@pytest.mark.parametrize("named", MODELS, ids=lambda model: model["type"])
def test_sizes_and_neighbours_of_logical_axes(named):
    fitted = load().fit("models", named, "/model")
    assert fitted.issues == []
    model = complete(fitted.value)
    built = parameters(model)
    sizes = {(axis, size) for shape, axes in built.values() for axis, size in zip(axes, shape, strict=False) if axis}
    assert sizes == {(axis, size) for axis, size, _ in logical_sizes(model)}
    pairs = {tuple(sorted(axis for axis in axes if axis)) for _, axes in built.values()}
    told = {tuple(sorted(axes)) for axes in together(model) if "batch" not in axes}
    assert {pair for pair in pairs if len(pair) > 1} <= told
