from __future__ import annotations

from jobs.spec.imports import bundles_of
from tests.jobs.spec.documents import GONE, edited, own, read


def test_an_own_model_and_loss_are_resolved_and_needed_from_a_worker():
    spec = read(own())
    assert spec.resolved["model"] == own()["model"] | {"context": None}
    assert spec.resolved["loss"] == own()["loss"]
    assert spec.resolved["data"]["args"] == {"features": ["height", "weight"], "label": "label"}
    assert {"models/import", "losses/import"} <= set(spec.needs)
    assert bundles_of(spec.resolved) == ["code_nets"]


def test_names_of_an_open_module_cannot_be_told():
    assert read(edited(own(), {"/model/target": "pkg.more:Net.Inner"})).resolved["model"]["target"] == "pkg.more:Net.Inner"


def test_two_bundles_may_be_named():
    spec = read(edited(own(), {"/loss": {"type": "import", "code": "code_loss", "target": "losses:loss"}}))
    assert bundles_of(spec.resolved) == ["code_nets", "code_loss"]


def test_without_args_every_numeric_column_is_an_argument():
    document = edited(own(), {"/data": {"inline": {"a": [1.0] * 40, "b": [2] * 40}}})
    assert read(document).resolved["data"]["args"] == {"a": "a", "b": "b"}


def test_a_builtin_dataset_knows_its_arguments():
    document = edited(own(), {"/data": {"builtin": "spirals"}, "/loss": {"type": "softmax_cross_entropy_with_integer_labels"}})
    assert set(read(document).resolved["data"]["args"]) == {"x", "y"}


def test_an_own_loss_may_ask_for_more_columns_than_the_model():
    model = {"type": "mlp", "in_features": 2, "out_features": 3}
    args = {"x": ["height", "weight"], "y": None, "importance": "height"}
    spec = read(edited(own(), {"/model": model, "/data/args": args}))
    assert spec.resolved["data"]["args"] == {"x": ["height", "weight"], "importance": "height"}


def test_text_takes_its_context_from_the_models_own_config():
    text = edited(own(), {"/data": {"dataset": "ds_text"}, "/model/config": {"context": 16}, "/loss": GONE})
    spec = read(text)
    assert spec.resolved["model"]["context"] == 16
    assert spec.resolved["loss"] == {"type": "next_token"}
    assert spec.resolved["data"]["tokenizer"] == "bytes"


def test_a_plugin_is_needed_by_its_name():
    document = edited(own(), {"/model": {"type": "plugin", "name": "resnet", "config": {"width": 8}}})
    spec = read(document)
    assert {"models/plugin", "plugin:resnet"} <= set(spec.needs)
    assert spec.resolved["model"]["context"] is None


def test_a_mesh_may_have_axes_that_only_the_module_knows():
    document = edited(own(), {"/mesh": {"axes": {"data": 2, "model": 2}}, "/data/batch_size": 32})
    assert read(document).resolved["mesh"]["axes"] == {"data": 2, "model": 2}
