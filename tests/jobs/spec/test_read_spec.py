"""What a right job becomes: every field present, every default fixed, and what the queue needs to know of it."""

from __future__ import annotations

import json

import pytest

from jobs.spec.builtin import columns
from tests.jobs.spec.documents import GONE, edited, faults, fitted, language, network, read, regression, schools, table, text

EVERY = [language, schools, text, table, network, regression, fitted]
COMMON = {
    "kind", "spec_version", "name", "metadata", "priority", "model", "data", "mesh", "precision", "seed", "checkpoint", "stop",
    "debug", "profile", "init_from", "resources", "retries", "timeout_seconds",
}  # fmt: skip
TRAIN = COMMON | {"loss", "optimizer", "grad_accumulation", "remat", "offload", "steps", "eval_every", "log_every",
                  "ema", "ensemble", "export", "metrics"}  # fmt: skip
SVI = COMMON | {"guide", "optimizer", "loss", "reparam", "steps", "num_samples", "eval_every", "eval_particles", "log_every",
               "outputs"}  # fmt: skip
MCMC = COMMON | {"kernel", "reparam", "num_warmup", "num_samples", "num_chains", "thinning", "chain_method", "outputs"}


@pytest.mark.parametrize("document", EVERY)
def test_the_resolved_spec_has_every_field(document):
    resolved = read(document()).resolved
    assert set(resolved) == {"train": TRAIN, "mcmc": MCMC, "svi": SVI}[resolved["kind"]]


@pytest.mark.parametrize("document", EVERY)
def test_a_resolved_spec_is_itself_a_job_and_resolves_to_itself(document):
    resolved = read(document()).resolved
    assert read(json.loads(json.dumps(resolved))).resolved == resolved


@pytest.mark.parametrize("document", EVERY)
def test_the_document_is_kept_as_it_was_sent(document):
    sent = document()
    assert read(sent).document == document()
    assert read(read(sent).document).resolved == read(sent).resolved


def test_the_contracts_training_example():
    spec = read(language())
    assert (spec.kind, spec.name, spec.metadata, spec.priority) == ("train", "char-lm", {"team": "nlp"}, 0)
    assert (spec.dataset_id, spec.platform, spec.memory_bytes) == ("ds_text", "any", None)
    assert (spec.devices, spec.devices_open, spec.total, spec.unit) == (8, False, 2000, "step")
    assert spec.warnings == []
    assert spec.needs == [
        "losses/softmax_cross_entropy_with_integer_labels",
        "models/transformer",
        "optimizers/add_decayed_weights",
        "optimizers/chain",
        "optimizers/clip_by_global_norm",
        "optimizers/scale_by_adam",
        "optimizers/scale_by_learning_rate",
        "schedules/warmup_cosine_decay_schedule",
    ]
    assert spec.resolved["init_from"] == {"job": "job_text", "step": 400, "what": "params", "include": None, "exclude": []}
    assert spec.resolved["model"] == language()["model"] | {
        "mlp_dim": 512, "positions": "rotary", "tie_embeddings": True, "n_kv_heads": 4, "rotary_base": 10_000.0,
        "activation": "gelu", "norm": "rmsnorm", "use_bias": False, "attention": "auto", "scan_layers": False,
    }  # fmt: skip
    assert spec.resolved["data"] == language()["data"] | {
        "uri": None, "inline": None, "builtin": None, "eval_batches": None, "eval_dataset": None, "tokenizer": "bytes",
        "separator": None, "packing": "stream", "args": None,
    }  # fmt: skip
    assert spec.resolved["precision"] == language()["precision"] | {"accumulation": "float32", "matmul": "default"}
    same = (
        "mesh",
        "remat",
        "steps",
        "eval_every",
        "log_every",
        "seed",
        "checkpoint",
        "profile",
        "resources",
        "retries",
    )
    assert {name: spec.resolved[name] for name in same} == {name: language()[name] for name in same}
    assert spec.resolved["stop"] == language()["stop"] | {"target": None}
    assert spec.resolved["debug"] == language()["debug"] | {"shapes": False, "print": None}


def test_the_contracts_sampling_example():
    spec = read(schools())
    assert (spec.kind, spec.dataset_id, spec.devices, spec.total, spec.unit) == ("mcmc", None, 4, 1500, "draw")
    assert spec.needs == ["kernels/NUTS", "models/eight_schools"]
    assert spec.resolved["data"]["args"] == {"y": "y", "sigma": "sigma"}
    assert spec.resolved["mesh"] == {"axes": {"chains": 4}, "sharding": "replicated", "rules": {}}
    assert spec.resolved["kernel"]["regularize_mass_matrix"] is True


def test_a_library_default_is_frozen_into_the_optimizer():
    assert read(text()).resolved["optimizer"] == {
        "type": "adamw", "learning_rate": 1e-3, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "eps_root": 0.0, "mu_dtype": None,
        "weight_decay": 1e-4, "mask": None, "nesterov": False,
    }  # fmt: skip


def test_whole_numbers_become_floats_where_the_library_wants_them():
    rate = read(edited(text(), {"/optimizer/learning_rate": 1})).resolved["optimizer"]["learning_rate"]
    assert isinstance(rate, float)


@pytest.mark.parametrize(
    ("changes", "pointer", "expected"),
    [
        ({}, "/loss", {"type": "next_token"}),
        ({}, "/checkpoint/every_steps", 10),
        ({"/steps": 5}, "/checkpoint/every_steps", 1),
        ({"/checkpoint": {"every_steps": None}}, "/checkpoint/every_steps", None),
        ({"/checkpoint": {"every_seconds": 60}}, "/checkpoint/every_steps", None),
        ({}, "/eval_every", None),
        ({"/data/eval_fraction": 0.1}, "/eval_every", 10),
        ({"/data/eval_fraction": 0.1, "/eval_every": None}, "/eval_every", None),
        ({"/data/eval_fraction": 0.1, "/checkpoint": {"every_seconds": 60}}, "/eval_every", 10),
        ({}, "/mesh", {"axes": {"data": 1}, "sharding": "dp", "rules": {}}),
        ({"/resources": {"devices": 8}}, "/mesh/axes", {"data": 8}),
        ({"/mesh": {"axes": {"model": 4}}}, "/mesh/sharding", "tp"),
        ({"/mesh": {"sharding": "tp"}, "/resources": {"devices": 4}}, "/mesh/axes", {"model": 4}),
        ({"/mesh": {"sharding": "fsdp_tp"}, "/resources": {"devices": 4}}, "/mesh/axes", {"data": 4, "model": 1}),
        ({"/mesh": {"axes": {"data": 8}}}, "/resources/devices", 8),
        ({"/mesh": {"axes": {"data": -1}}}, "/resources/devices", None),
        (
            {"/mesh": {"axes": {"data": -1, "model": 2}, "sharding": "tp"}, "/resources": {"devices": 8}},
            "/mesh/axes",
            {"data": 4, "model": 2},
        ),
        ({}, "/precision", dict.fromkeys(("params", "compute", "accumulation"), "float32") | {"matmul": "default", "x64": False}),
        ({"/precision": {"params": "bfloat16"}}, "/precision/accumulation", "float32"),
        ({}, "/metrics", []),
        ({"/data/eval_fraction": 0.1}, "/metrics", ["perplexity"]),
        ({"/ema": {}}, "/ema", {"decay": 0.999}),
        ({}, "/ensemble", None),
        ({"/precision": {"params": "bfloat16"}}, "/precision/compute", "bfloat16"),
        ({"/init_from": None}, "/init_from", None),
    ],
)
def test_defaults(changes, pointer, expected):
    found = read(edited(text(), changes)).resolved
    for token in pointer.split("/")[1:]:
        found = found[token]
    assert found == expected


def test_an_open_axis_leaves_the_number_of_devices_to_the_worker():
    spec = read(edited(text(), {"/mesh": {"axes": {"data": -1, "model": 2}, "sharding": "tp"}}))
    assert (spec.devices, spec.devices_open) == (2, True)
    assert spec.resolved["mesh"]["axes"] == {"data": -1, "model": 2}


def test_memory_kind_of_device_and_labels_are_what_a_worker_must_offer():
    spec = read(edited(text(), {"/resources": {"memory_gib": 1.5, "kind": "NVIDIA H200", "labels": {"zone": "a"}}}))
    assert spec.memory_bytes == 3 * 2**29
    assert {"label:zone=a", "device:NVIDIA H200"} <= set(spec.needs)


def test_a_sampler_with_x64_computes_in_it():
    precision = read(edited(schools(), {"/precision": {"x64": True}})).resolved["precision"]
    assert precision == dict.fromkeys(("params", "compute", "accumulation"), "float64") | {"matmul": "default", "x64": True}


def test_a_block_of_draws_is_no_longer_than_the_run():
    assert read(edited(schools(), {"/num_warmup": 10, "/num_samples": 20})).resolved["checkpoint"]["every_draws"] == 30


def test_a_builtin_dataset_knows_how_it_is_bound():
    document = edited(table(), {"/data": {"builtin": "spirals"}})
    assert read(document).resolved["data"]["args"] == {"x": ["x1", "x2"], "y": "label"}


def test_columns_bind_to_arguments_of_their_name():
    document = edited(
        table(), {"/data": {"dataset": "ds_pictures"}, "/model": {"type": "cnn", "in_shape": [8, 8, 1], "out_features": 4}}
    )
    assert read(document).resolved["data"]["args"] == {"x": "x", "y": "y"}


def test_a_loss_over_values_takes_as_many_targets_as_outputs():
    changes = {
        "/data": {"dataset": "ds_pictures", "args": {"y": "onehot"}},
        "/model": {"type": "mlp", "in_features": 64, "out_features": 4},
    }
    assert read(edited(table(), changes | {"/loss": {"type": "softmax_cross_entropy"}})).resolved["data"]["args"] == {
        "x": "x",
        "y": "onehot",
    }


@pytest.mark.parametrize(
    ("origin", "changes", "what"),
    [
        ({"job": "job_text"}, {}, "params"),
        ({"job": "job_text", "what": "all"}, {}, "all"),
        ({"job": "job_text", "step": "best"}, {}, "params"),
        ({"job": "job_text", "step": "latest"}, {}, "params"),
        ({"job": "job_text"}, {"/model/dropout": 0.5, "/optimizer": {"type": "lion", "learning_rate": 1}}, "params"),
        ({"job": "job_text", "what": "all"}, {"/optimizer/transforms/0/max_norm": 2, "/steps": 4000}, "all"),
    ],
)
def test_the_checkpoint_to_start_from_is_fixed_at_submit(origin, changes, what):
    resolved = read(edited(language(), changes | {"/init_from": origin})).resolved
    assert resolved["init_from"] == {"job": "job_text", "step": 400, "what": what, "include": None, "exclude": []}


def test_a_part_of_the_parameters_may_be_taken_by_another_model():
    origin = {"job": "job_text", "include": ["blocks.*"], "exclude": ["*.kernel"]}
    resolved = read(edited(language(), {"/init_from": origin, "/model/vocab_size": 512})).resolved
    assert resolved["init_from"] == origin | {"step": 400, "what": "params"}


def test_a_sampler_goes_on_with_its_chains():
    spec = read(edited(schools(), {"/init_from": {"job": "job_schools"}, "/num_samples": 3000}))
    assert spec.resolved["init_from"] == {"job": "job_schools", "step": 750, "what": "all", "include": None, "exclude": []}


@pytest.mark.parametrize(
    ("document", "changes", "expected"),
    [
        (language, {"/eval_every": 150}, [("/checkpoint/keep_best/metric", "seldom_measured")]),
        (text, {"/checkpoint": {"every_steps": 500}}, [("/checkpoint/every_steps", "never_reached")]),
        (text, {"/checkpoint": {"every_steps": 20, "keep_every": 33}}, [("/checkpoint/keep_every", "never_reached")]),
        (schools, {"/checkpoint/keep_every": 7}, [("/checkpoint/keep_every", "never_reached")]),
        (text, {"/mesh": {"axes": {"data": 2}, "sharding": "replicated"}}, [("/mesh/axes/data", "unused_axis")]),
        (language, {"/stop/patience": GONE}, [("/stop/patience", "no_effect")]),
        (language, {"/stop/patience": GONE, "/stop/target": 1.9}, []),
        (text, {"/stop": {"metric": "train/loss", "target": 1.9}}, []),
        (language, {"/debug/disable_jit": True}, [("/debug/disable_jit", "slow")]),
        (schools, {"/debug": {"disable_jit": True}}, [("/debug/disable_jit", "slow")]),
        (language, {"/steps": 100, "/eval_every": 10}, [
            ("/optimizer/transforms/3/learning_rate/warmup_steps", "never_reached"), ("/checkpoint/every_steps", "never_reached"),
        ]),
        (schools, {"/kernel": {"type": "HMC", "num_steps": 5}}, [("/kernel/num_steps", "step_size_fixed")]),
        (schools, {"/checkpoint/every_draws": 10_000}, [("/checkpoint/every_draws", "never_reached")]),
        (schools, {"/stop/min_draws": 10_000}, [("/stop/min_draws", "out_of_range")]),
        (schools, {"/num_samples": 50}, [("/stop/min_draws", "out_of_range")]),
        (schools, {"/stop": {"min_draws": 10_000}}, []),
    ],
)  # fmt: skip
def test_what_may_surprise_is_accepted_with_a_warning(document, changes, expected):
    warnings = read(edited(document(), {"/init_from": None} | changes)).warnings
    assert sorted((warning["pointer"], warning["code"]) for warning in warnings) == sorted(expected)
    assert all(warning["detail"] for warning in warnings)


def test_inline_columns_may_have_axes():
    pictures = [[[float(i + j)] * 4 for j in range(4)] for i in range(64)]
    data = {"inline": {"x": pictures, "y": [i % 3 for i in range(64)]}}
    model = {"type": "cnn", "in_shape": [4, 4, 1], "out_features": 3}
    assert faults(edited(table(), {"/data": data, "/model": model})) == []


def test_builtin_numbers_never_change():
    """Checkpoints and results of old jobs speak of these numbers."""
    line, spirals = columns("line"), columns("spirals")
    assert columns("eight_schools")["y"] == [28, 8, -3, 7, -1, 1, 18, 12]
    assert (line["x"][:3], line["y"][:3]) == ([-1.0, -0.252525, 0.494949], [-1.067013, 0.472323, 1.172925])
    assert (spirals["x1"][:2], spirals["x2"][:2], spirals["label"][:4]) == (
        [0.099584, -0.057546],
        [0.009108, 0.081783],
        [0, 1, 2, 0],
    )
    assert sum(spirals["label"]) == 600


def test_positions_are_rotary_where_heads_are_even():
    from jobs.spec.models import complete

    model = {"type": "transformer", "dim": 24, "n_heads": 4, "mlp_dim": 96, "n_kv_heads": 4, "positions": None}
    assert complete(model)["positions"] == "rotary"
    assert complete(model | {"n_heads": 8})["positions"] == "learned"


def test_layers_are_needs_and_have_all_their_arguments():
    spec = read(network())
    assert {"models/sequential", "layers/Conv", "layers/relu", "layers/flatten"} <= set(spec.needs)
    norm = spec.resolved["model"]["layers"][1]
    assert norm == {
        "type": "BatchNorm", "num_features": 4, "use_running_average": False, "axis": -1, "momentum": 0.99, "epsilon": 1e-5,
        "dtype": None, "param_dtype": None, "use_bias": True, "use_scale": True, "use_fast_variance": True,
    }  # fmt: skip
    assert spec.resolved["model"]["layers"][2] == {"type": "relu"}


def test_what_is_in_layers_is_listed_with_its_pointer():
    cell = {"type": "GRUCell", "in_features": 8, "hidden_features": 4}
    rnn = {"type": "Bidirectional", "forward_rnn": {"type": "RNN", "cell": cell}, "backward_rnn": {"type": "RNN", "cell": cell}}
    document = edited(network(), {"/model/in_shape": [8, 8], "/model/layers": [rnn, {"type": "take"}]})
    document["model"]["layers"].append({"type": "Linear", "in_features": 8, "out_features": 4})
    spec = read(document)
    assert {"layers/GRUCell", "layers/RNN", "layers/Bidirectional"} <= set(spec.needs)


@pytest.mark.parametrize(
    "model",
    [
        {"type": "resnet", "in_shape": [8, 8, 1], "stages": [1, 1], "widths": [4, 8], "out_features": 4},
        {"type": "vit", "in_shape": [8, 8, 1], "dim": 16, "n_layers": 1, "n_heads": 2, "out_features": 4},
        {"type": "lstm", "in_shape": [8, 8], "out_features": 4},
        {"type": "cnn", "in_shape": [8, 8, 1], "out_features": 4},
    ],
    ids=lambda model: model["type"],
)
def test_pictures_may_be_learned_by_any_network_of_their_shape(model):
    assert read(network() | {"model": model}).resolved["model"].items() >= model.items()


def test_a_recurrent_language_model_learns_from_text():
    spec = read(edited(text(), {"/model": {"type": "lstm_lm", "vocab_size": 256, "context": 64}}))
    assert spec.resolved["loss"] == {"type": "next_token"}
    assert spec.resolved["data"]["tokenizer"] == "bytes"


@pytest.mark.parametrize(
    ("changes", "usual"),
    [
        ({}, "softmax_cross_entropy_with_integer_labels"),
        ({"/model/in_features": 1, "/model/out_features": 1, "/data/args": {"x": "height", "y": "weight"}}, "squared_error"),
        ({"/model/out_features": 1}, "squared_error"),
    ],
    ids=["classes", "values", "one output"],
)
def test_rows_have_a_loss_too_that_follows_from_their_target(changes, usual):
    document = edited(table(), changes)
    named = read(edited(document, {"/loss": {"type": usual}})).resolved
    assert read(edited(document, {"/loss": GONE})).resolved == named


def test_a_loss_is_not_missed_where_the_data_is_what_is_wrong():
    assert [fault.pointer for fault in faults(edited(table(), {"/loss": GONE, "/data/args/y": "nothing"}))] == ["/data/args/y"]
