"""Wrong jobs, each refused at the right place with a message that says what to do."""

from __future__ import annotations

import pytest

from tests.jobs.spec.documents import (
    GONE,
    documents,
    edited,
    faults,
    fitted,
    language,
    network,
    own,
    regression,
    schools,
    table,
    text,
)

CHAIN_OF_NINE: dict = {"type": "identity"}
for _ in range(9):
    CHAIN_OF_NINE = {"type": "chain", "transforms": [CHAIN_OF_NINE]}
DEEPEST = "/optimizer" + "/transforms/0" * 8
WARMUP = {"type": "warmup_cosine_decay_schedule", "init_value": 0.0, "peak_value": 1.0, "warmup_steps": 50, "decay_steps": 50}
PARTITION = {
    "type": "partition",
    "transforms": {"fast": {"type": "sgd", "learning_rate": 0.1}},
    "param_labels": [{"match": ["*"], "label": "fast"}],
}
FILE = {"type": "tokenizers", "dataset": "ds_tokenizer"}
EVALUATED = {"/data/eval_fraction": 0.1}
FUSED = {"/model/attention": "cudnn", "/precision": {"compute": "bfloat16"}}
ON_MESH = {"/mesh": {"axes": {"data": 4, "model": 2}, "sharding": "fsdp_tp"}}

TWO: dict = {"axes": {"model": 2}}
VIT = {"type": "vit", "in_shape": [8, 8, 1], "dim": 16, "n_layers": 1, "n_heads": 2, "out_features": 4}
RESNET = {"type": "resnet", "in_shape": [8, 8, 1], "stages": [1, 1], "widths": [5, 8], "out_features": 4}
WIDER = {"type": "Linear", "in_features": 4, "out_features": 8}
RNN: dict = {"type": "RNN"}
RESHAPE = {"type": "reshape", "shape": [3, -1]}

# (document, changes, [(pointer, code), …], part of the message)
WRONG = [
    # the document as a whole
    (text, {"/kind": GONE}, [("/kind", "missing")], '"train", "mcmc", "svi" or "predict"'),
    (text, {"/kind": "vi"}, [("/kind", "unknown_value")], '"svi"'),
    (text, {"/kind": ["train"]}, [("/kind", "unknown_value")], "must be"),
    (text, {"/model": GONE}, [("/model", "missing")], "a model of the catalog"),
    (text, {"/steps": GONE, "/optimizer": GONE}, [("/optimizer", "missing"), ("/steps", "missing")], "such as 1000"),
    (text, {"/stepz": 1}, [("/stepz", "unknown_field")], 'did you mean "steps"'),
    (text, {"/a~1b~0": 1}, [("/a~1b~0", "unknown_field")], '"a/b~"'),
    (text, {"/spec_version": 2}, [("/spec_version", "unknown_value")], "must be 1"),
    # numbers and types
    (text, {"/steps": -1}, [("/steps", "out_of_range")], "at least 1"),
    (text, {"/steps": 10**9 + 1}, [("/steps", "out_of_range")], "at most 1000000000"),
    (text, {"/steps": "100"}, [("/steps", "wrong_type")], "must be an integer"),
    (text, {"/steps": True}, [("/steps", "wrong_type")], "must be an integer"),
    (text, {"/steps": 10**400}, [("/steps", "out_of_range")], "at most"),
    (text, {"/seed": 2**32}, [("/seed", "out_of_range")], "less than"),
    (text, {"/timeout_seconds": 0}, [("/timeout_seconds", "out_of_range")], "more than 0"),
    (text, {"/timeout_seconds": float("nan")}, [("/timeout_seconds", "out_of_range")], "finite"),
    (text, {"/name": "a\x00b"}, [("/name", "invalid")], "NUL"),
    (text, {"/metadata": {f"k{i}": "" for i in range(65)}}, [("/metadata", "out_of_range")], "at most 64 entries"),
    (text, {"/metadata/n": 3}, [("/metadata/n", "wrong_type")], "must be a string"),
    (text, {"/remat": "some"}, [("/remat", "unknown_value")], '"none", "full", "dots"'),
    (text, {"/remat": "dot"}, [("/remat", "unknown_value")], 'did you mean "dots"'),
    (text, {"/offload": "params"}, [("/offload", "unknown_value")], '"none" or "opt_state"'),
    (text, {"/remat": None}, [("/remat", "wrong_type")], "an object"),
    (text, {"/remat": {"policy": "some"}}, [("/remat/policy", "unknown_value")], '"dots"'),
    (text, {"/remat": {"every": 2}}, [("/remat/policy", "missing")], "is required"),
    (text, {"/remat": {"policy": "full", "every": 0}}, [("/remat/every", "out_of_range")], "at least 1"),
    (text, {"/remat": {"policy": "full", "each": 2}}, [("/remat/each", "unknown_field")], "unknown field"),
    (
        text,
        {"/remat": {"policy": "full", "every": 2}, "/model/scan_layers": True},
        [("/remat/every", "conflict")],
        "set model.scan_layers to false",
    ),
    (text, {"/resources/hosts": 2}, [("/resources/hosts", "out_of_range")], "at most 1"),
    (text, {"/resources/platform": "cuda"}, [("/resources/platform", "unknown_value")], '"gpu"'),
    (text, {"/resources/labels": {"zone": "a" * 91}}, [("/resources/labels/zone", "out_of_range")], "at most 90 characters"),
    (text, {"/retries/max_failures": -1}, [("/retries/max_failures", "out_of_range")], "at least 0"),
    # models
    (text, {"/model/type": "transformr"}, [("/model/type", "unknown_type")], 'did you mean "transformer"'),
    (text, {"/model/type": "eight_schools"}, [("/model/type", "unknown_type")], "not for train jobs"),
    (text, {"/model": "transformer"}, [("/model", "wrong_type")], "must be an object"),
    (text, {"/model": None}, [("/model", "wrong_type")], "must be an object"),
    (text, {"/model/dimm": 3}, [("/model/dimm", "unknown_argument")], 'did you mean "dim"'),
    (text, {"/model/dropout": 1.0}, [("/model/dropout", "out_of_range")], "less than 1"),
    (text, {"/model/dim": 34}, [("/model/n_heads", "not_divisible")], "must divide dim, which is 34"),
    (text, {"/model/dim": 36, "/model/positions": "rotary"}, [("/model/positions", "conflict")], "even"),
    (text, {"/model/positions": "absolute"}, [("/model/positions", "unknown_value")], '"learned" or "rotary"'),
    (text, {"/model/n_kv_heads": 3}, [("/model/n_kv_heads", "not_divisible")], "must divide n_heads, which is 4"),
    (text, {"/model/activation": "swigloo"}, [("/model/activation", "unknown_value")], 'did you mean "swiglu"'),
    (text, {"/model/norm": "batch"}, [("/model/norm", "unknown_value")], '"rmsnorm" or "layernorm"'),
    (text, {"/model/attention": "flash"}, [("/model/attention", "unknown_value")], '"cudnn"'),
    (text, {"/model/attention": "cudnn"}, [("/model/attention", "requires")], "set precision.compute"),
    (
        text,
        FUSED | {"/resources": {"platform": "cpu"}},
        [("/model/attention", "conflict")],
        "needs a GPU",
    ),
    (
        text,
        FUSED | {"/optimizer": {"type": "sophia", "learning_rate": 0.01}},
        [("/model/attention", "conflict")],
        "differentiated backwards alone",
    ),
    (
        text,
        FUSED | {"/model/context": 15},
        [("/model/attention", "conflict")],
        "context is 15",
    ),
    (
        text,
        FUSED | {"/data/packing": "documents", "/data/separator": "."},
        [("/model/attention", "conflict")],
        "keeps documents apart",
    ),
    (
        text,
        FUSED | {"/model/n_heads": 8},
        [("/model/attention", "conflict")],
        "dim / n_heads is 4",
    ),
    # models and losses of one's own
    (own, {"/model/code": "code_none"}, [("/model/code", "not_found")], "POST /v1/code"),
    (own, {"/model/code": 3}, [("/model/code", "wrong_type")], "a string"),
    (own, {"/model/code": GONE}, [("/model/code", "missing")], "is required"),
    (own, {"/model/target": "nets:Nett"}, [("/model/target", "not_found")], 'did you mean "Net"'),
    (own, {"/model/target": "net:Net"}, [("/model/target", "not_found")], 'did you mean "nets"'),
    (own, {"/model/target": "nets.Net"}, [("/model/target", "wrong_format")], '"module:name"'),
    (own, {"/model/target": "../nets:Net"}, [("/model/target", "wrong_format")], '"module:name"'),
    (own, {"/model/config": [1]}, [("/model/config", "wrong_type")], "an object"),
    (own, {"/model/context": 8}, [("/model/context", "conflict")], "for text alone"),
    (own, {"/loss/target": "nets:los"}, [("/loss/target", "not_found")], 'did you mean "loss"'),
    (own, {"/loss": {"type": "import", "code": "code_same", "target": "nets:loss"}}, [("/loss/code", "conflict")], "rename one"),
    (own, {"/loss": {"type": "squared_error"}}, [("/data/args", "unbound")], 'with "y"'),
    (own, {"/loss": {"type": "next_token"}}, [("/loss/type", "conflict")], "this data holds columns"),
    (own, {"/loss": GONE}, [("/loss", "missing")], "GET /v1/catalog/losses"),
    (own, {"/data/args/label": "lable"}, [("/data/args/label", "unknown_column")], 'did you mean "label"'),
    (own, {"/data/args/label": "name"}, [("/data/args/label", "not_numeric")], "does not hold numbers"),
    (own, {"/data": {"dataset": "ds_text"}}, [("/model/context", "missing")], "how many tokens"),
    (
        own,
        {"/data": {"dataset": "ds_text"}, "/model/context": 8, "/loss": {"type": "squared_error"}},
        [("/loss/type", "conflict")],
        '"next_token"',
    ),
    (text, {"/model": {"type": "lstm_lm", "vocab_size": 99, "context": 8}}, [("/model/vocab_size", "too_small")], "at least 227"),
    (network, {"/model": VIT | {"patch_size": 3}}, [("/model/patch_size", "not_divisible")], "8 and 8"),
    (network, {"/model": VIT | {"n_heads": 3}}, [("/model/n_heads", "not_divisible")], "must divide dim"),
    (network, {"/model": RESNET | {"widths": [4]}}, [("/model/widths", "mismatch")], "2 sizes"),
    (network, {"/model": RESNET | {"in_shape": [8, 8]}}, [("/model/in_shape", "out_of_range")], "3 items"),
    (network, {"/model": {"type": "lstm", "in_shape": [8, 9], "out_features": 4}}, [("/model/in_shape", "mismatch")], "64 numbers"),
    (network, {"/model": RESNET, "/mesh": TWO | {"sharding": "tp"}}, [("/model/widths/0", "not_divisible")], '"mlp" lies'),
    # layers
    (network, {"/model/layers/2/type": "rellu"}, [("/model/layers/2/type", "unknown_type")], 'did you mean "relu"'),
    (network, {"/model/layers/2/type": "WeightNorm"}, [("/model/layers/2/type", "unknown_type")], "cannot be used in a job"),
    (network, {"/model/layers/2": "relu"}, [("/model/layers/2", "wrong_type")], 'names a layer: {"type": "Linear", …}'),
    (network, {"/model/layers/2/alpha": 1}, [("/model/layers/2/alpha", "unknown_argument")], "relu has no argument"),
    (network, {"/model/layers/5/features": 4}, [("/model/layers/5/features", "unknown_argument")], 'did you mean "in_features"'),
    (network, {"/model/layers/1/num_features": GONE}, [("/model/layers/1/num_features", "missing")], "is required"),
    (network, {"/model/layers/1/epsilon": 0}, [("/model/layers/1/epsilon", "out_of_range")], "more than 0"),
    (network, {"/model/layers": []}, [("/model/layers", "out_of_range")], "1 to 200 items"),
    (network, {"/model/layers/0/in_features": 3}, [("/model/layers/0/in_features", "mismatch")], "must be 1: what comes to it"),
    (network, {"/model/layers/1/num_features": 8}, [("/model/layers/1/num_features", "mismatch")], "[8, 8, 4]"),
    (network, {"/model/layers/3/window_shape": [2]}, [("/model/layers/3/window_shape", "mismatch")], "2 sizes"),
    (network, {"/model/layers/3/window_shape": [9, 2]}, [("/model/layers/3/window_shape", "mismatch")], "larger than the input"),
    (network, {"/model/layers/4": RESHAPE}, [("/model/layers/4/shape", "mismatch")], "must hold 64 numbers"),
    (network, {"/model/layers/5/in_features": 60}, [("/model/layers/5/in_features", "mismatch")], "must be 64"),
    (network, {"/model/layers/5/out_features": 3}, [("/model/layers", "too_small")], "give 3 outputs, which must be at least 4"),
    (network, {"/model/layers/4": {"type": "take", "index": 9}}, [("/model/layers/4/index", "mismatch")], "less than 4"),
    (network, {"/model/layers/4": {"type": "mean", "axes": [3]}}, [("/model/layers/4/axes", "mismatch")], "from 0 to 2"),
    (network, {"/model/layers/4": {"type": "residual", "layers": [WIDER]}}, [("/model/layers/4/layers", "mismatch")], "[4, 4, 8]"),
    (network, {"/model/layers/4": RNN | {"cell": WIDER}}, [("/model/layers/4/cell/type", "unknown_type")], "cannot stand here"),
    (
        network,
        {"/model/layers/4": RNN | {"cell": {"type": "GRUCell", "in_features": 5, "hidden_features": 2}}},
        [("/model/layers/4/cell/in_features", "mismatch")],
        "must be 4",
    ),
    (
        network,
        {"/model/layers/4": {"type": "MultiHeadAttention", "num_heads": 3, "in_features": 4}},
        [("/model/layers/4/num_heads", "mismatch")],
        "must divide 4",
    ),
    (network, {"/model/in_shape": [8, 9, 1]}, [("/model/in_shape", "mismatch")], "72"),
    # optimizers and schedules
    (text, {"/optimizer/type": "adm"}, [("/optimizer/type", "unknown_type")], 'did you mean "adam"'),
    (text, {"/optimizer/type": "lookahead"}, [("/optimizer/type", "unknown_type")], "cannot be used in a job"),
    (text, {"/optimizer/type": GONE}, [("/optimizer/type", "missing")], "GET /v1/catalog/optimizers"),
    (text, {"/optimizer/lr": 1}, [("/optimizer/lr", "unknown_argument")], "adamw has no argument"),
    (text, {"/optimizer/learning_rate": GONE}, [("/optimizer/learning_rate", "missing")], "a number of at least 0 or a schedule"),
    (text, {"/optimizer/learning_rate": "1e-3"}, [("/optimizer/learning_rate", "wrong_type")], "a number"),
    (text, {"/optimizer/learning_rate": -0.1}, [("/optimizer/learning_rate", "out_of_range")], "at least 0"),
    (text, {"/optimizer/mu_dtype": "int8"}, [("/optimizer/mu_dtype", "unknown_value")], '"bfloat16"'),
    (text, {"/optimizer/learning_rate": {"type": "cosine"}}, [("/optimizer/learning_rate/type", "unknown_type")], "lists all"),
    (
        text,
        {"/optimizer/learning_rate": WARMUP},
        [("/optimizer/learning_rate/warmup_steps", "out_of_range")],
        "less than decay_steps",
    ),
    (text, {"/optimizer": {"type": "chain", "transforms": []}}, [("/optimizer/transforms", "out_of_range")], "1 to 64 items"),
    (text, {"/optimizer": CHAIN_OF_NINE}, [(DEEPEST, "too_deep")], "more than 8 deep"),
    (
        text,
        {"/optimizer": {"type": "chain", "transforms": [{"type": "chain", "transforms": [{"type": "identity"}] * 40}] * 2}},
        [("/optimizer", "too_many")],
        "at most 64 optimizers",
    ),
    (
        text,
        {
            "/optimizer/learning_rate": {
                "type": "join_schedules",
                "schedules": [WARMUP | {"decay_steps": 99}] * 3,
                "boundaries": [9, 4],
            }
        },
        [("/optimizer/learning_rate/boundaries", "out_of_range")],
        "must grow",
    ),
    (
        text,
        {"/optimizer": {"type": "MultiSteps", "opt": {"type": "identity"}, "every_k_schedule": 2}, "/grad_accumulation": 2},
        [("/grad_accumulation", "conflict")],
        "leave one of the two out",
    ),
    # data
    (text, {"/data/dataset": "ds_none"}, [("/data/dataset", "not_found")], "POST /v1/datasets"),
    (text, {"/data": {}}, [("/data", "missing")], '"dataset", "uri", "inline" or "builtin"'),
    (text, {"/data/builtin": "line"}, [("/data", "conflict")], "give only one"),
    (text, {"/data/uri": "file:///a.txt"}, [("/data", "conflict")], "give only one"),
    (text, {"/data": {"uri": "s3://b/k.txt"}}, [("/data/uri", "unsupported")], "mount it"),
    (text, {"/data": {"uri": "gs://b/k.txt"}}, [("/data/uri", "unsupported")], "mount it"),
    (text, {"/data": {"uri": "http://b/k.txt"}}, [("/data/uri", "wrong_format")], "file:///"),
    (text, {"/data": {"uri": "file://host/k.txt"}}, [("/data/uri", "wrong_format")], "file:///"),
    (text, {"/data": {"uri": "file:///k.pickle"}}, [("/data/uri", "unknown_format")], '".parquet"'),
    (text, {"/data/dataset": "file:///k.txt"}, [("/data/dataset", "not_found")], "POST /v1/datasets"),
    (text, {"/data/eval_dataset": "file:///k.txt"}, [("/data/eval_dataset", "not_found")], "POST /v1/datasets"),
    (text, {"/data/dataset": "ds_table"}, [("/data/dataset", "wrong_kind")], "learns from text"),
    (text, {"/data/args": {"x": "a"}}, [("/data/args", "conflict")], "leave args out"),
    (text, {"/data/tokenizer": {"type": "tokenizers"}}, [("/data/tokenizer", "unknown_value")], '"bytes" or "char"'),
    (text, {"/data/tokenizer": "words"}, [("/data/tokenizer", "unknown_value")], "tokenizer.json"),
    (text, {"/data/tokenizer": FILE | {"lower": True}}, [("/data/tokenizer", "unknown_value")], '{"type": "tokenizers"'),
    (text, {"/data/tokenizer": FILE | {"dataset": "ds_none"}}, [("/data/tokenizer/dataset", "not_found")], "format=tokenizer"),
    (text, {"/data/tokenizer": FILE | {"dataset": "ds_text"}}, [("/data/tokenizer/dataset", "wrong_kind")], "format text"),
    (text, {"/data/tokenizer": FILE}, [("/model/vocab_size", "too_small")], "at least 5000"),
    (text, {"/data/dataset": "ds_tokenizer"}, [("/data/dataset", "wrong_kind")], "name it in data.tokenizer"),
    (schools, {"/data": {"dataset": "ds_tokenizer"}}, [("/data/dataset", "wrong_kind")], "is a tokenizer"),
    (text, {"/data/packing": "tight"}, [("/data/packing", "unknown_value")], '"stream" or "documents"'),
    (text, {"/data/packing": "documents"}, [("/data/separator", "requires")], "where a document ends"),
    (
        documents,
        {"/loss": {"type": "import", "code": "code_loss", "target": "losses:loss"}},
        [("/data/packing", "conflict")],
        "does not see where",
    ),
    (text, {"/data/separator": ""}, [("/data/separator", "out_of_range")], "at least 1"),
    (text, {"/data/separator": "a\x00"}, [("/data/separator", "invalid")], "NUL"),
    (documents, {"/data/args": {"text": "n"}}, [("/data/args/text", "not_text")], "holds no texts"),
    (documents, {"/data/args": {"text": "txt"}}, [("/data/args/text", "unknown_column")], 'did you mean "text"'),
    (documents, {"/data/args": {"text": "half"}}, [("/data/args/text", "missing_values")], "25 missing values"),
    (documents, {"/data/args": {"text": ["text"]}}, [("/data/args/text", "wrong_shape")], "one column"),
    (documents, {"/data/args": {"x": "text"}}, [("/data/args/x", "unknown_argument")], "one column of texts"),
    (documents, {"/data/eval_fraction": 0.01}, [("/data/eval_fraction", "out_of_range")], "50 documents"),
    (documents, {"/data/eval_dataset": "ds_text"}, [("/data/eval_dataset", "unknown_column")], 'column of texts "text"'),
    (text, {"/data/eval_dataset": "ds_none"}, [("/data/eval_dataset", "not_found")], "POST /v1/datasets"),
    (text, {"/data/eval_dataset": "ds_tokenizer"}, [("/data/eval_dataset", "wrong_kind")], "is a tokenizer"),
    (text, {"/data/eval_dataset": "ds_documents"}, [("/data/eval_dataset", "wrong_kind")], "must be a text"),
    (text, {"/data/eval_dataset": "ds_short", "/data/eval_fraction": 0.1}, [("/data/eval_fraction", "conflict")], "one of the two"),
    (table, {"/data/eval_dataset": "ds_documents"}, [("/data/eval_dataset", "mismatch")] * 3, 'column of numbers "height"'),
    (table, {"/data/packing": "stream"}, [("/data/packing", "conflict")], "only text"),
    (table, {"/data/separator": "x"}, [("/data/separator", "conflict")], "only text"),
    (table, {"/data/tokenizer": FILE}, [("/data/tokenizer", "conflict")], "only text"),
    (text, {"/data/eval_fraction": 1}, [("/data/eval_fraction", "out_of_range")], "less than 1"),
    (text, {"/data/batch_size": 0}, [("/data/batch_size", "out_of_range")], "at least 1"),
    (text, {"/model/vocab_size": 200}, [("/model/vocab_size", "too_small")], "at least 227"),
    (text, {"/model/vocab_size": 64, "/data/tokenizer": "char"}, [("/model/vocab_size", "too_small")], "at least 90"),
    (text, {"/data/dataset": "ds_short", "/model/context": 70}, [("/model/context", "too_long")], "shorten model.context"),
    (text, {"/data/dataset": "ds_short", "/data/eval_fraction": 0.05}, [("/data/eval_fraction", "too_small")], "make it greater"),
    (table, {"/data/dataset": "ds_text"}, [("/data/dataset", "wrong_kind")], "learns from columns"),
    (
        table,
        {"/optimizer": {"type": "adamw", "learning_rate": 0.1, "mask": ["*.kernel"]}},
        [("/optimizer/mask", "wrong_type")],
        "an object or null",
    ),
    (
        table,
        {"/optimizer": {"type": "adamw", "learning_rate": 0.1, "mask": {"matches": ["*"]}}},
        [("/optimizer/mask/matches", "unknown_field")],
        'did you mean "match"',
    ),
    (
        table,
        {"/optimizer": PARTITION | {"param_labels": [{"match": ["*"], "label": "fats"}]}},
        [("/optimizer/param_labels/0/label", "unknown_value"), ("/optimizer/transforms/fast", "no_effect")],
        'did you mean "fast"',
    ),
    (
        table,
        {"/optimizer": PARTITION | {"transforms": {"a b": {"type": "identity"}}}},
        [("/optimizer/transforms", "unknown_field")],
        "is not a label",
    ),
    (
        table,
        {"/optimizer": PARTITION | {"transforms": {"fast": {"type": "sdg", "learning_rate": 0.1}}}},
        [("/optimizer/transforms/fast/type", "unknown_type")],
        'did you mean "sgd"',
    ),
    (
        table,
        {"/optimizer": {"type": "inject_hyperparams", "inner_factory": {"type": "chain", "transforms": [{"type": "identity"}]}}},
        [("/optimizer/inner_factory/type", "no_effect")],
        "to inject",
    ),
    (
        table,
        {"/optimizer": {"type": "flatten", "inner": {"type": "lion", "learning_rate": 0.1, "mask": {"except": ["*.bias"]}}}},
        [("/optimizer/inner/mask", "conflict")],
        "put the mask around it",
    ),
    (table, {"/optimizer": {"type": "lbfgs"}, "/grad_accumulation": 2}, [("/grad_accumulation", "conflict")], "whole batch again"),
    (
        table,
        {"/optimizer/learning_rate": {"type": "piecewise_constant_schedule", "init_value": 1, "boundaries_and_scales": {"x": 1}}},
        [("/optimizer/learning_rate/boundaries_and_scales", "unknown_field")],
        "is not a step number",
    ),
    (table, {"/metrics": ["acuracy"]}, [("/metrics/0", "unknown_value")], 'did you mean "accuracy"'),
    (table, {"/metrics": ["accuracy"]}, [("/metrics/0", "requires")], "set data.eval_fraction"),
    (table, {"/metrics": ["param_norm", "param_norm"]}, [("/metrics/1", "conflict")], "twice"),
    (table, EVALUATED | {"/metrics": ["mean_squared_error"]}, [("/metrics/0", "conflict")], '"accuracy"'),
    (table, EVALUATED | {"/metrics": ["top_5_accuracy"]}, [("/metrics/0", "no_effect")], "always 1"),
    (text, EVALUATED | {"/metrics": ["bits_per_byte"], "/data/tokenizer": "char"}, [("/metrics/0", "conflict")], "perplexity"),
    (table, EVALUATED | {"/stop/metric": "eval/perplexity"}, [("/stop/metric", "requires")], 'add "perplexity" to metrics'),
    (table, EVALUATED | {"/stop/metric": "tokens_per_second"}, [("/stop/metric", "unknown_value")], "unknown metric"),
    (text, {"/checkpoint": {"keep_best": {"metric": "eval/loss"}}}, [("/checkpoint/keep_best/metric", "requires")], "evaluations"),
    (
        text,
        {"/checkpoint": {"keep_best": {"metric": "clipped_fraction"}}},
        [("/checkpoint/keep_best/metric", "unknown_value")],
        "unknown metric",
    ),
    (table, {"/data/args/weight": "signed"}, [("/data/args/weight", "out_of_range")], "not negative"),
    (table, {"/data/args/weight": ["height", "weight"]}, [("/data/args/weight", "wrong_shape")], "one number for each row"),
    (table, {"/data/args/weight": "hieght"}, [("/data/args/weight", "unknown_column")], 'did you mean "height"'),
    (table, {"/ema": {"decay": 1.0}}, [("/ema/decay", "out_of_range")], "less than 1"),
    (table, {"/ema": {}, "/optimizer": {"type": "schedule_free_sgd"}}, [("/ema", "conflict")], "leave ema out"),
    (table, {"/ensemble": 0}, [("/ensemble", "out_of_range")], "at least 1"),
    (language, {"/ensemble": 2}, [("/ensemble", "incompatible")], "must be as in the job"),
    (table, {"/precision": {"accumulation": "float64"}}, [("/precision/accumulation", "requires")], "needs precision.x64"),
    (table, {"/data/tokenizer": "bytes"}, [("/data/tokenizer", "conflict")], "leave the tokenizer out"),
    (
        table,
        {"/data/args": GONE},
        [("/data/args", "unbound"), ("/data/args", "unbound")],
        'set data.args.x to one of the columns "height"',
    ),
    (table, {"/data/args/y": None}, [("/data/args", "unbound")], "data.args.y"),
    (table, {"/data/args/z": "label"}, [("/data/args/z", "unknown_argument")], 'use "x" or "y"'),
    (table, {"/data/args/y": "lable"}, [("/data/args/y", "unknown_column")], 'did you mean "label"'),
    (table, {"/data/args/x": ["height", "wieght"]}, [("/data/args/x/1", "unknown_column")], 'did you mean "weight"'),
    (table, {"/data/args/x": ["height", "name"]}, [("/data/args/x/1", "not_numeric")], "does not hold numbers"),
    (table, {"/data/args/x": ["height", "gaps"]}, [("/data/args/x/1", "missing_values")], "3 missing values"),
    (table, {"/data/args/x": 3}, [("/data/args/x", "wrong_type")], "name of a column"),
    (table, {"/data/args/x": "height"}, [("/model/in_features", "mismatch")], "must be 1"),
    (table, {"/data/args/y": "height"}, [("/data/args/y", "wrong_type")], "integer labels"),
    (table, {"/data/args/y": "signed"}, [("/data/args/y", "out_of_range")], "labels count from 0"),
    (table, {"/model/out_features": 2}, [("/model/out_features", "too_small")], "at least 3"),
    (table, {"/data/batch_size": 500}, [("/data/batch_size", "out_of_range")], "434 rows"),
    (table, {"/data/eval_fraction": 0.001}, [("/data/eval_fraction", "too_small")], "make it greater"),
    (table, {"/loss/type": "next_token"}, [("/loss/type", "conflict")], "is for text"),
    (table, {"/loss/type": "kl_divergence"}, [("/loss/type", "unknown_type")], "log-probabilities"),
    (table, {"/loss/type": "squared_error"}, [("/model/out_features", "mismatch")], "must be 1"),
    (table, {"/loss/type": "hinge_loss", "/model/out_features": 1}, [("/data/args/y", "out_of_range")], "from -1 to 1"),
    (text, {"/loss": {"type": "squared_error"}}, [("/loss/type", "conflict")], "next_token"),
    (
        table,
        {"/data": {"dataset": "ds_pictures"}, "/model": {"type": "cnn", "in_shape": [28, 28, 1], "out_features": 4}},
        [("/model/in_shape", "mismatch")],
        "64 numbers",
    ),
    (
        table,
        {
            "/data": {"dataset": "ds_pictures", "args": {"x": "x", "y": "onehot"}},
            "/model/in_features": 64,
            "/loss/type": "multiclass_hinge_loss",
        },
        [("/data/args/y", "wrong_type")],
        "integer labels",
    ),
    (table, {"/data": {"dataset": "ds_uneven"}, "/model/in_features": 1}, [("/data/args", "mismatch")], "differ in length"),
    (table, {"/data": {"builtin": "spiral"}}, [("/data/builtin", "unknown_value")], 'did you mean "spirals"'),
    (schools, {"/data/inline/y/3": "7"}, [("/data/inline/y/3", "wrong_type")], "must be a number"),
    (schools, {"/data/inline/y/3": None}, [("/data/inline/y/3", "missing")], "fill it in"),
    (schools, {"/data/inline/y/3": [7]}, [("/data/inline/y/3", "wrong_type")], "one shape"),
    (
        schools,
        {"/data/inline": {"y": [[1, 2], [3]], "sigma": "4"}},
        [("/data/inline/y/1", "ragged"), ("/data/inline/sigma", "wrong_type")],
        "2",
    ),
    (schools, {"/data/inline": {}}, [("/data/inline", "missing")], "at least one column"),
    (schools, {"/data/inline/y": []}, [("/data/inline/y", "out_of_range")], "empty"),
    (schools, {"/data/inline/y": [0.123456789] * 100_000}, [("/data/inline", "too_large")], "1 MiB"),
    (schools, {"/data/inline/y": [1, 2]}, [("/data/args", "mismatch")], "differ in length"),
    (schools, {"/data/inline/sigma/0": 0}, [("/data/args/sigma", "out_of_range")], "must be positive"),
    # meshes
    (language, {"/data/batch_size": 30}, [("/data/batch_size", "not_divisible")], "use a multiple of 4"),
    (language, {"/data/batch_size": 36, "/grad_accumulation": 6}, [("/data/batch_size", "not_divisible")], "multiple of 24"),
    (language, {"/data/batch_size": 33, "/grad_accumulation": 2}, [("/data/batch_size", "not_divisible")], "grad_accumulation"),
    (language, {"/resources/devices": 4}, [("/mesh/axes", "mismatch")], "resources.devices is 4"),
    (language, {"/mesh/axes": {"data": -1, "model": 3}}, [("/mesh/axes", "not_divisible")], "does not divide"),
    (language, {"/mesh/axes": {"data": -1, "model": -1}}, [("/mesh/axes", "conflict")], "only one axis may be -1"),
    (language, {"/mesh/axes/data": 0}, [("/mesh/axes/data", "out_of_range")], "or -1"),
    (language, {"/mesh/axes/pipe": 1}, [("/mesh/axes/pipe", "unknown_axis")], '"data" or "model"'),
    (
        language,
        {"/mesh/axes": {"data": 8}},
        [("/mesh/axes", "missing_axis"), ("/mesh/rules/mlp", "unknown_axis")],
        'mesh axis "model"',
    ),
    (language, {"/mesh/sharding": "ddp"}, [("/mesh/sharding", "unknown_value")], '"dp"'),
    (
        text,
        {"/mesh": {"axes": {"data": 2, "model": 2}, "sharding": "dp"}},
        [("/mesh/axes/model", "unused_axis")],
        "leave the axis out",
    ),
    (
        text,
        {"/mesh": {"axes": {"model": 3}, "sharding": "tp"}},
        [(f"/model/{n}", "not_divisible") for n in ("n_heads", "mlp_dim", "vocab_size")],
        "3",
    ),
    (text, {"/mesh": {"axes": {"data": 2**20, "model": 2}}}, [("/mesh/axes", "out_of_range")], "1048576 devices"),
    (text, ON_MESH | {"/mesh/rules": {"embed": "model"}}, [("/mesh/rules", "conflict")] * 3, "set one of them to null"),
    (text, ON_MESH | {"/mesh/rules": {"mpl": "model"}}, [("/mesh/rules/mpl", "unknown_axis")], 'did you mean "mlp"'),
    (text, ON_MESH | {"/mesh/rules": {"mlp": "tensor"}}, [("/mesh/rules/mlp", "unknown_axis")], '"data" or "model"'),
    # what is made of draws
    (schools, {"/outputs": {"hdi_prob": 1.0}}, [("/outputs/hdi_prob", "out_of_range")], "less than 1"),
    (schools, {"/outputs": {"zar": True}}, [("/outputs/zar", "unknown_field")], 'did you mean "zarr"'),
    (schools, {"/outputs": {"zarr": "yes"}}, [("/outputs/zarr", "wrong_type")], "true or false"),
    # evaluation, checkpoints, stopping, precision
    (text, {"/eval_every": 10}, [("/eval_every", "requires")], "set data.eval_fraction"),
    (text, {"/data/eval_batches": 10}, [("/data/eval_batches", "requires")], "set data.eval_fraction"),
    (text, {"/stop": {"metric": "eval/loss", "patience": 3}}, [("/stop/metric", "requires")], "set data.eval_fraction"),
    (language, {"/stop/metric": None}, [("/stop/metric", "requires")], "patience needs a metric"),
    (language, {"/stop/metric": None, "/stop/patience": None, "/stop/target": 1.5}, [("/stop/metric", "requires")], "target needs"),
    (text, {"/stop": {"metric": "train/loss", "patience": 3}}, [("/stop/metric", "requires")], "patience counts evaluations"),
    (
        text,
        {"/stop": {"metric": "train/loss", "target": 1.5}, "/checkpoint": {"every_seconds": 60}},
        [("/stop/target", "requires")],
        "set checkpoint.every_steps",
    ),
    (language, {"/stop/target": float("inf")}, [("/stop/target", "out_of_range")], "finite"),
    (language, {"/stop/target": "low"}, [("/stop/target", "wrong_type")], "must be a number"),
    # switches for finding faults, and traces
    (text, {"/debug": {"print": {"paths": []}}}, [("/debug/print/paths", "out_of_range")], "at least 1"),
    (text, {"/debug": {"print": {"paths": ["*"], "every": 0}}}, [("/debug/print/every", "out_of_range")], "at least 1"),
    (
        text,
        {"/debug": {"print": {"path": "*"}}},
        [("/debug/print/path", "unknown_field"), ("/debug/print/paths", "missing")],
        "paths",
    ),
    (text, {"/debug": {"prnt": {}}}, [("/debug/prnt", "unknown_field")], 'did you mean "print"'),
    (text, {"/debug": {"print": {"paths": ["*"]}}, "/ensemble": 4}, [("/debug/print", "conflict")], "an ensemble has many"),
    (schools, {"/debug": {"print": {"paths": ["*"]}}}, [("/debug/print", "conflict")], "a sampler has no parameters"),
    (language, {"/profile/start_step": 2000}, [("/profile/start_step", "out_of_range")], "less than the 2000 steps"),
    (schools, {"/profile": {"start_step": 1500}}, [("/profile/start_step", "out_of_range")], "less than the 1500"),
    (language, {"/profile/num_steps": 1001}, [("/profile/num_steps", "out_of_range")], "at most 1000"),
    (language, {"/profile/memory": 1}, [("/profile/memory", "wrong_type")], "true or false"),
    (language, {"/profile": {"steps": 5}}, [("/profile/steps", "unknown_field")], "unknown field"),
    (language, {"/stop/metric": "eval/los"}, [("/stop/metric", "unknown_value")], 'did you mean "eval/loss"'),
    (language, {"/checkpoint/keep_best/mode": "maximum"}, [("/checkpoint/keep_best/mode", "unknown_value")], '"min" or "max"'),
    (language, {"/checkpoint/keep_every": 0}, [("/checkpoint/keep_every", "out_of_range")], "at least 1"),
    (language, {"/checkpoint/ttl_seconds": 0.5}, [("/checkpoint/ttl_seconds", "out_of_range")], "at least 1"),
    (language, {"/checkpoint/every_step": 1}, [("/checkpoint/every_step", "unknown_field")], 'did you mean "every_steps"'),
    (text, {"/precision": {"params": "float64"}}, [("/precision/params", "requires")], "precision.x64"),
    (text, {"/precision": {"matmul": "float32"}}, [("/precision/matmul", "unknown_value")], '"highest"'),
    (schools, {"/precision": {"compute": "bfloat16"}}, [("/precision/compute", "conflict")], "float32"),
    # sampling
    (schools, {"/num_chains": 6}, [("/num_chains", "not_divisible")], '"chains" of size 4'),
    (schools, {"/thinning": 3}, [("/num_samples", "not_divisible")], "thinning, which is 3"),
    (schools, {"/thinning": 0}, [("/thinning", "out_of_range")], "at least 1"),
    (schools, {"/kernel/type": "NUT"}, [("/kernel/type", "unknown_type")], '"NUTS"'),
    (schools, {"/kernel": {"type": "HMCGibbs"}}, [("/kernel/type", "unknown_type")], "needs gibbs_fn"),
    (schools, {"/kernel": {"type": "HMCECS"}}, [("/kernel/inner_kernel", "missing")], "a kernel HMC or NUTS"),
    (
        schools,
        {"/kernel": {"type": "HMCECS", "inner_kernel": {"type": "SA"}}},
        [("/kernel/inner_kernel/type", "unknown_type")],
        "HMC",
    ),
    (
        schools,
        {"/kernel": {"type": "MixedHMC", "inner_kernel": {"type": "NUTS"}}},
        [("/kernel/inner_kernel/type", "conflict")],
        "fixed length",
    ),
    (schools, {"/kernel": {"type": "AIES"}, "/mesh": {}, "/num_chains": 5}, [("/num_chains", "not_divisible")], "make it even"),
    (schools, {"/kernel": {"type": "ESS"}}, [("/mesh/axes", "conflict")], "on one device"),
    (
        schools,
        {"/kernel": {"type": "ESS"}, "/mesh": {}, "/chain_method": "sequential"},
        [("/chain_method", "conflict")],
        "move together",
    ),
    (schools, {"/kernel": {"type": "AIES", "moves": {"Jump": 1.0}}}, [("/kernel/moves", "unknown_field")], "StretchMove"),
    (schools, {"/kernel/init_strategy": "init_to_mode"}, [("/kernel/init_strategy/type", "unknown_type")], "init_to_mean"),
    (
        schools,
        {"/kernel/init_strategy": {"type": "init_to_value", "values": {"mu": "a"}}},
        [("/kernel/init_strategy/values/mu", "wrong_type")],
        "a number",
    ),
    (schools, {"/kernel/dense_mass": [["mu"], [3]]}, [("/kernel/dense_mass/1/0", "wrong_type")], "a string"),
    (schools, {"/kernel/max_tree_depth": [5]}, [("/kernel/max_tree_depth", "out_of_range")], "2 items"),
    (schools, {"/kernel/inverse_mass_matrix": "init_from"}, [("/kernel/inverse_mass_matrix", "requires")], "init_from"),
    (schools, {"/reparam": "yes"}, [("/reparam", "wrong_type")], '"auto"'),
    (schools, {"/reparam": {"theta": {"type": "LocScale"}}}, [("/reparam/theta/type", "unknown_type")], "LocScaleReparam"),
    (schools, {"/reparam": {"theta": {"type": "LocScaleReparam"}}}, [("/reparam/theta/centered", "requires")], "a number"),
    (schools, {"/reparam": {"theta": {"type": "ExplicitReparam"}}}, [("/reparam/theta/type", "unknown_type")], "needs transform"),
    (schools, {"/stop/max_mcse": 0}, [("/stop/max_mcse", "wrong_type")], "above 0"),
    (schools, {"/stop/max_mcse": {"mu": "a"}}, [("/stop/max_mcse", "wrong_type")], "by quantity"),
    (fitted, {"/guide/type": "AutoNorm"}, [("/guide/type", "unknown_type")], '"AutoNormal"'),
    (fitted, {"/guide": {"type": "AutoSemiDAIS"}}, [("/guide/type", "unknown_type")], "needs local_model"),
    (fitted, {"/guide": None}, [("/guide", "wrong_type")], "not null"),
    (fitted, {"/loss": {"type": "squared_error"}}, [("/loss/type", "unknown_type")], "not for svi jobs"),
    (fitted, {"/loss": {"type": "TraceEnum_ELBO"}}, [("/loss/type", "unknown_type")], "enumerates"),
    (fitted, {"/model": {"type": "mlp"}}, [("/model/type", "unknown_type")], "not for mcmc jobs"),
    (fitted, {"/mesh": {"axes": {"data": 2}}}, [("/mesh/axes", "out_of_range")], "one device"),
    (fitted, {"/optimizer": {"type": "lbfgs"}}, [("/optimizer/type", "conflict")], "drawn anew"),
    (fitted, {"/stop": {"patience": 3}}, [("/stop/metric", "requires")], "a metric"),
    (fitted, {"/num_chains": 2}, [("/num_chains", "unknown_field")], "unknown field"),
    (schools, {"/kernel": {"type": "HMC", "trajectory_length": None}}, [("/kernel/trajectory_length", "requires")], "num_steps"),
    (schools, {"/kernel/target_accept_prob": 1}, [("/kernel/target_accept_prob", "out_of_range")], "less than 1"),
    (schools, {"/mesh/axes": {"data": 4}}, [("/mesh/axes/data", "unknown_axis")], '"chains" carries the chains'),
    (schools, {"/mesh/sharding": "dp"}, [("/mesh/sharding", "conflict")], "replicated"),
    (schools, {"/model": {"type": "transformer"}}, [("/model/type", "unknown_type")], "not for mcmc jobs"),
    (schools, {"/optimizer": {"type": "adam"}}, [("/optimizer", "unknown_field")], "unknown field"),
    (schools, {"/stop/max_r_hat": 1}, [("/stop/max_r_hat", "out_of_range")], "more than 1"),
    (schools, {"/checkpoint/every_draws": None}, [("/checkpoint/every_draws", "wrong_type")], "must be an integer"),
    (regression, {"/data/dataset": "ds_text"}, [("/data/dataset", "wrong_kind")], "needs columns"),
    (regression, {"/data/args/y": ["height", "weight"]}, [("/data/args/y", "wrong_shape")], "one plain column"),
    # starting from a checkpoint
    (language, {"/init_from/job": "job_none"}, [("/init_from/job", "not_found")], "no such job"),
    (language, {"/init_from/step": 500}, [("/init_from/step", "not_found")], "newest is at step 400"),
    (language, {"/init_from": {"job": "job_schools"}}, [("/init_from/job", "incompatible")], "not a train job"),
    (schools, {"/init_from": {"job": "job_schools", "step": "best"}}, [("/init_from/step", "not_found")], "newest is at step 750"),
    (language, {"/init_from/step": "first"}, [("/init_from/step", "wrong_type")], '"latest"'),
    (language, {"/init_from/include": []}, [("/init_from/include", "out_of_range")], "at least 1"),
    (language, {"/init_from/include": ["blocks.*", "block.*"]}, [("/init_from/include/1", "no_match")], "blocks.0.norm.scale"),
    (language, {"/init_from/exclude": ["head.*"]}, [("/init_from/exclude/0", "no_match")], "matches no parameter"),
    (language, {"/init_from/include": ["blocks.*"], "/init_from/what": "all"}, [("/init_from/what", "conflict")], '"params"'),
    (language, {"/model/dim": 64}, [("/model/dim", "incompatible"), ("/model/mlp_dim", "incompatible")], "must be as in the job"),
    (
        language,
        {"/init_from/what": "all", "/optimizer/transforms/1/type": "scale_by_lion", "/steps": 300, "/eval_every": 30},
        [("/optimizer", "incompatible"), ("/steps", "out_of_range")],
        "same transformations",
    ),
    (schools, {"/init_from": {"job": "job_schools"}, "/num_chains": 8}, [("/num_chains", "incompatible")], "must be as in"),
    (schools, {"/init_from": {"job": "job_schools", "what": "params"}}, [("/init_from/what", "conflict")], '"all"'),
]


@pytest.mark.parametrize(
    ("document", "changes", "expected", "advice"), WRONG, ids=lambda value: "+".join(value) if isinstance(value, dict) else ""
)
def test_it_is_refused_at_the_right_place(document, changes, expected, advice):
    found = faults(edited(document(), changes))
    assert sorted((issue.pointer, issue.code) for issue in found) == sorted(expected)
    assert any(advice in issue.detail for issue in found), [issue.detail for issue in found]
    assert all(len(issue.detail) < 400 for issue in found)


@pytest.mark.parametrize("document", [None, [], "train", 3, True])
def test_what_is_no_object_is_no_job(document):
    assert [(issue.pointer, issue.code) for issue in faults(document)] == [("", "wrong_type")]


def test_faults_of_different_parts_are_told_together():
    wrong = {"/model/dropout": 2, "/data/batch_size": 30, "/optimizer/type": "adm", "/stop/patience": 0, "/resources/devices": "8"}
    wrong |= {"/mesh/axes/data": 4, "/resources": GONE}
    pointers = {issue.pointer for issue in faults(edited(language(), wrong))}
    assert pointers == {"/model/dropout", "/data/batch_size", "/optimizer/type", "/stop/patience"}


def test_a_huge_name_is_neither_repeated_nor_made_a_pointer():
    (issue,) = faults(edited(text(), {"/" + "x" * 100_000: 1}))
    assert (issue.pointer, issue.code) == ("", "unknown_field")
    assert len(issue.detail) < 300


def test_faults_beyond_counting_are_cut_short():
    found = faults(text() | {f"field{i}": i for i in range(5000)})
    assert len(found) == 257
    assert found[-1].detail == "and 4744 more faults"


def test_a_lone_surrogate_ends_in_a_message_that_can_be_sent():
    (issue,) = faults(edited(text(), {"/optimizer/type": "ad\ud800am"}))
    issue.detail.encode()
