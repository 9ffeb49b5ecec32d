"""Job documents that are right, ways to make them wrong, and datasets and checkpoints for them to name."""

from __future__ import annotations

import copy
from typing import Any, Literal

from jobs.errors import Issue, SpecInvalid
from jobs.spec.bundle.facts import BundleFacts, ModuleFacts
from jobs.spec.dataset import ColumnFacts, DatasetFacts, TextFacts, TokenizerFacts
from jobs.spec.job import Spec, read_spec
from jobs.spec.origin import CheckpointFacts

GONE = object()
"""In `edited`: take the member away."""


def column(name: str, dtype: str, low: float, high: float, rows: int = 434, missing: int = 0, **shape: Any) -> ColumnFacts:
    return ColumnFacts(name, dtype, shape.get("shape", [rows]), low, high, missing)


TABLE = [
    column("height", "float64", 1.2, 2.1),
    column("weight", "float64", 40.0, 140.0),
    column("label", "int64", 0, 2),
    column("signed", "int64", -1, 1),
    column("gaps", "float64", 0.0, 1.0, missing=3),
    ColumnFacts("name", "string", [434]),
]
PICTURES = [
    column("x", "float32", 0, 1, shape=[64, 8, 8, 1]),
    column("y", "int32", 0, 3, 64),
    column("onehot", "float32", 0, 1, shape=[64, 4]),
]
HALF = ColumnFacts("half", "string", [50], missing=25)
DATASETS = {
    facts.id: facts
    for facts in (
        DatasetFacts("ds_text", "text", 10_000, None, [], TextFacts(10_000, 9_000, 90, 226)),
        DatasetFacts("ds_short", "text", 70, None, [], TextFacts(70, 70, 20, 120)),
        DatasetFacts("ds_tokenizer", "tokenizer", 90_000, None, tokenizer=TokenizerFacts("BPE", 5000)),
        DatasetFacts(
            "ds_documents", "jsonl", 9_000, 50, [column("n", "int64", 0, 9, 50), ColumnFacts("text", "string", [50]), HALF]
        ),
        DatasetFacts("ds_table", "csv", 20_000, 434, TABLE),
        DatasetFacts("ds_pictures", "npz", 20_000, 64, PICTURES),
        DatasetFacts("ds_uneven", "npz", 9_000, None, [column("x", "float32", 0, 1, 10), column("y", "float32", 0, 1, 9)]),
    )
}

BUNDLES = {
    "code_nets": BundleFacts(
        {"nets.py": 100}, {"nets": ModuleFacts(["nnx", "Net", "loss"]), "pkg.more": ModuleFacts([], open=True)}
    ),
    "code_loss": BundleFacts({"loss.py": 100}, {"losses": ModuleFacts(["loss"])}),
    "code_same": BundleFacts({"nets.py": 100}, {"nets": ModuleFacts(["loss"])}),
}


def own() -> dict[str, Any]:
    """A model and a loss of a user's own, on a table."""
    return {
        "kind": "train",
        "model": {"type": "import", "code": "code_nets", "target": "nets:Net", "config": {"width": 8}},
        "loss": {"type": "import", "code": "code_nets", "target": "nets:loss"},
        "data": {"dataset": "ds_table", "args": {"features": ["height", "weight"], "label": "label"}},
        "optimizer": {"type": "adamw", "learning_rate": 1e-3},
        "steps": 100,
    }


def language() -> dict[str, Any]:
    """The first example of the contract, with a dataset of ours."""
    schedule = {
        "type": "warmup_cosine_decay_schedule",
        "init_value": 0.0,
        "peak_value": 1e-3,
        "warmup_steps": 100,
        "decay_steps": 2000,
    }
    return {
        "kind": "train",
        "name": "char-lm",
        "metadata": {"team": "nlp"},
        "priority": 0,
        "model": {"type": "transformer", "vocab_size": 256, "dim": 128, "n_layers": 4, "n_heads": 4, "context": 64, "dropout": 0.0},
        "data": {"dataset": "ds_text", "batch_size": 32, "shuffle_seed": 0, "eval_fraction": 0.1},
        "loss": {"type": "softmax_cross_entropy_with_integer_labels"},
        "optimizer": {
            "type": "chain",
            "transforms": [
                {"type": "clip_by_global_norm", "max_norm": 1.0},
                {"type": "scale_by_adam"},
                {"type": "add_decayed_weights", "weight_decay": 0.01},
                {"type": "scale_by_learning_rate", "learning_rate": schedule},
            ],
        },
        "grad_accumulation": 1,
        "mesh": {"axes": {"data": 4, "model": 2}, "sharding": "fsdp_tp", "rules": {"mlp": "model"}},
        "precision": {"params": "float32", "compute": "bfloat16", "x64": False},
        "remat": "none",
        "steps": 2000,
        "eval_every": 200,
        "log_every": 1,
        "seed": 0,
        "checkpoint": {
            "every_steps": 200,
            "every_seconds": None,
            "keep_latest": 3,
            "keep_best": {"metric": "eval/loss", "mode": "min", "count": 1},
            "keep_every": None,
            "ttl_seconds": None,
        },
        "stop": {"on_nonfinite": "fail", "metric": "eval/loss", "mode": "min", "patience": 5},
        "debug": {"disable_jit": False, "nans": False, "log_compiles": False},
        "profile": {"start_step": 10, "num_steps": 5, "memory": True},
        "init_from": {"job": "job_text", "step": 400, "what": "params"},
        "resources": {"platform": "any", "kind": None, "devices": 8, "hosts": 1, "memory_gib": None, "labels": {}},
        "retries": {"max_failures": 0, "max_infra_retries": 100},
        "timeout_seconds": None,
    }


def schools() -> dict[str, Any]:
    """The second example of the contract, with the model of the catalog."""
    return {
        "kind": "mcmc",
        "name": "eight-schools",
        "model": {"type": "eight_schools"},
        "data": {"inline": {"y": [28, 8, -3, 7, -1, 1, 18, 12], "sigma": [15, 10, 16, 11, 9, 11, 10, 18]}},
        "kernel": {"type": "NUTS", "target_accept_prob": 0.8, "max_tree_depth": 10, "dense_mass": False},
        "num_warmup": 500,
        "num_samples": 1000,
        "num_chains": 4,
        "thinning": 1,
        "chain_method": "auto",
        "mesh": {"axes": {"chains": 4}},
        "stop": {"min_ess_bulk": 400, "max_r_hat": 1.01},
        "checkpoint": {"every_draws": 250},
        "seed": 0,
    }


def fitted() -> dict[str, Any]:
    """A guide fitted to the same posterior."""
    return {
        "kind": "svi",
        "model": {"type": "eight_schools"},
        "data": {"builtin": "eight_schools"},
        "guide": {"type": "AutoNormal"},
        "optimizer": {"type": "adam", "learning_rate": 0.01},
        "steps": 1000,
    }


def formula() -> dict[str, Any]:
    """A regression over a small table, with groups."""
    columns = {"y": [1.5, 2.0, 3.5, 5.0], "x": [1, 2, 3, 5], "site": ["b", "a", "b", "a"]}
    model = {
        "type": "glm",
        "formula": "y ~ x + (1 | site)",
        "family": "gaussian",
        "priors": {"sd": {"type": "HalfCauchy", "scale": 1.0}},
    }
    return edited(schools(), {"/model": model, "/data": {"inline": columns}})


def text() -> dict[str, Any]:
    """A language model in as few words as possible."""
    return {
        "kind": "train",
        "model": {"type": "transformer", "vocab_size": 256, "dim": 32, "n_layers": 2, "n_heads": 4, "context": 64},
        "data": {"dataset": "ds_text"},
        "optimizer": {"type": "adamw", "learning_rate": 1e-3},
        "steps": 100,
    }


def documents() -> dict[str, Any]:
    """A language model of documents in a table."""
    return edited(text(), {"/data": {"dataset": "ds_documents", "packing": "documents"}})


def table() -> dict[str, Any]:
    """A classifier of rows."""
    return {
        "kind": "train",
        "model": {"type": "mlp", "in_features": 2, "out_features": 3},
        "data": {"dataset": "ds_table", "args": {"x": ["height", "weight"], "y": "label"}},
        "loss": {"type": "softmax_cross_entropy_with_integer_labels"},
        "optimizer": {"type": "adam", "learning_rate": 1e-3},
        "steps": 100,
    }


def network() -> dict[str, Any]:
    """A classifier of pictures, layer by layer."""
    layers = [
        {"type": "Conv", "in_features": 1, "out_features": 4, "kernel_size": [3, 3]},
        {"type": "BatchNorm", "num_features": 4},
        {"type": "relu"},
        {"type": "max_pool", "window_shape": [2, 2], "strides": [2, 2]},
        {"type": "flatten"},
        {"type": "Linear", "in_features": 64, "out_features": 4},
    ]
    return table() | {
        "model": {"type": "sequential", "in_shape": [8, 8, 1], "layers": layers},
        "data": {"dataset": "ds_pictures"},
    }


def regression() -> dict[str, Any]:
    """Linear regression by sampling."""
    return {
        "kind": "mcmc",
        "model": {"type": "linear_regression"},
        "data": {"dataset": "ds_table", "args": {"x": "height", "y": "weight"}},
    }


def edited(document: Any, changes: dict[str, Any]) -> Any:
    """A copy with members set, made or taken away, by JSON Pointer."""
    changed = copy.deepcopy(document)
    for pointer, value in changes.items():
        *path, last = [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]
        holder = changed
        for token in path:
            holder = holder[int(token)] if isinstance(holder, list) else holder.setdefault(token, {})
        if value is GONE:
            del holder[last]
        else:
            holder[int(last) if isinstance(holder, list) else last] = copy.deepcopy(value)
    return changed


def read(document: Any) -> Spec:
    """Read a document as the service does."""
    return read_spec(document, DATASETS.get, find_checkpoint, BUNDLES.get)


def faults(document: Any) -> list[Issue]:
    """Everything that is wrong with a document."""
    try:
        read(document)
    except SpecInvalid as error:
        return error.issues
    return []


PATHS = ("blocks.0.attention.qkv.kernel", "blocks.0.norm.scale", "embed.embedding")


def find_checkpoint(job: str, step: int | Literal["best"] | None) -> CheckpointFacts | None:
    """`job_text` trained the example's model and `job_schools` sampled; each has one checkpoint."""
    plain = {"language": edited(language(), {"/init_from": None}), "schools": schools()}
    saved = {"job_text": (400, plain["language"]), "job_schools": (750, plain["schools"])}
    if job not in saved or step not in (None, "best", saved[job][0]) or (job, step) == ("job_schools", "best"):
        return None
    at, document = saved[job]
    return CheckpointFacts(job, at, read_spec(document, DATASETS.get, lambda _job, _step: None).resolved, PATHS)
