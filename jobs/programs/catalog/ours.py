"""What the catalog holds of our own: models, the objective of language models, `chain`, and the built-in data sets."""

from __future__ import annotations

from typing import Any

from jobs.programs.catalog.arguments import OPTIMIZER, Schema
from jobs.programs.catalog.entries import Entry
from jobs.programs.catalog.joints import LAYERS
from jobs.programs.catalog.posteriors import posteriors
from jobs.spec import builtin

_WIDTH: Schema = {"type": "integer", "minimum": 1, "maximum": 1_000_000}
_DROPOUT: Schema = {"type": "number", "minimum": 0, "exclusiveMaximum": 1, "default": 0.0}
_VOCABULARY: Schema = {"type": "integer", "minimum": 2, "maximum": 10_000_000}
_CONTEXT: Schema = {"type": "integer", "minimum": 1, "maximum": 1_048_576}
_HEADS: Schema = {"type": "integer", "minimum": 1, "maximum": 10_000}
_LAYERS: Schema = {"type": "integer", "minimum": 1, "maximum": 1000}
_MLP_DIM: Schema = {
    "type": ["integer", "null"],
    "minimum": 1,
    "maximum": 1_000_000,
    "default": None,
    "description": "null: four times dim; for a gated activation two thirds of that, rounded up to a multiple of 64",
}
MOST_TRANSFORMS = 64


def models() -> dict[str, Entry]:
    """The catalog's models."""
    transformer = {
        "vocab_size": _VOCABULARY,
        "dim": _WIDTH,
        "n_layers": _LAYERS,
        "n_heads": _HEADS,
        "context": _CONTEXT,
        "dropout": _DROPOUT,
        "n_kv_heads": {
            **_nullable(_HEADS),
            "default": None,
            "description": "heads of keys and values, each shared by as many query heads; null: n_heads",
        },
        "mlp_dim": _MLP_DIM,
        "positions": {
            "enum": ["learned", "rotary", None],
            "default": None,
            "description": "null: rotary, which needs heads of an even size; learned for odd ones",
        },
        "rotary_base": {"type": "number", "minimum": 1, "default": 10_000.0},
        **_block("gelu", "rmsnorm"),
        "tie_embeddings": {"type": "boolean", "default": True},
    }
    mlp = {
        "in_features": _WIDTH,
        "hidden": {"type": "array", "items": _WIDTH, "maxItems": 100, "default": [64, 64]},
        "out_features": _WIDTH,
        "activation": {"enum": ["relu", "gelu", "tanh", "silu"], "default": "relu"},
        "dropout": _DROPOUT,
    }
    cnn = {
        "in_shape": _in_shape("height, width, channels", 3, 3),
        "channels": {"type": "array", "items": _WIDTH, "minItems": 1, "maxItems": 16, "default": [32, 64]},
        "kernel_size": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 3},
        "hidden": {**_WIDTH, "default": 128},
        "out_features": _WIDTH,
        "dropout": _DROPOUT,
    }
    resnet = {
        "in_shape": _in_shape("height, width, channels", 3, 3),
        "stages": {"type": "array", "items": _LAYERS, "minItems": 1, "maxItems": 8, "default": [2, 2, 2, 2]},
        "widths": {
            "type": "array",
            "items": _WIDTH,
            "minItems": 1,
            "maxItems": 8,
            "default": [64, 128, 256, 512],
            "description": "channels of each stage",
        },
        "stem": {
            "enum": ["small", "large"],
            "default": "small",
            "description": "small: a kernel of 3; large: one of 7 and a pool, for pictures of some 200 pixels",
        },
        "out_features": _WIDTH,
        "dropout": _DROPOUT,
    }
    vit = {
        "in_shape": _in_shape("height, width, channels", 3, 3),
        "patch_size": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 4},
        "dim": _WIDTH,
        "n_layers": _LAYERS,
        "n_heads": _HEADS,
        "out_features": _WIDTH,
        "dropout": _DROPOUT,
        "mlp_dim": _MLP_DIM,
        **_block("gelu", "layernorm"),
    }
    memory = {"hidden": {**_WIDTH, "default": 128}, "n_layers": {**_LAYERS, "default": 1}, "dropout": _DROPOUT}
    lstm = {"in_shape": _in_shape("time steps, features", 2, 2), "out_features": _WIDTH, **memory}
    lstm_lm = {"vocab_size": _VOCABULARY, "dim": {**_WIDTH, "default": 64}, "context": _CONTEXT, **memory}
    sequential = {"in_shape": _in_shape("the shape of one sample, the batch aside", 1, 8), "layers": LAYERS}
    plugin = {"name": {"type": "string", "minLength": 1, "maxLength": 100, "description": "of an entry point meshyard.models"}}
    own = {
        "config": {
            "type": "object",
            "additionalProperties": True,
            "default": {},
            "description": "arguments of its constructor, or of the function",
        },
        "context": {
            **_nullable({"type": "integer", "minimum": 1, "maximum": 1_048_576}),
            "default": None,
            "description": "for text: tokens of a sample",
        },
    }
    program: dict[str, Schema] = {
        "data": {
            "type": ["object", "null"],
            "additionalProperties": True,
            "default": None,
            "description": "what it takes from the data, by name: type, shape and bounds; null: every name that it does not define",
        },
        "body": {
            "type": "array",
            "items": {"type": "object", "additionalProperties": True},
            "minItems": 1,
            "maxItems": 2000,
            "description": "statements in order: sample, let, deterministic, factor, plate, scan, ode",
        },
    }
    found = [
        _model("program", "A probabilistic program of your own, written as data (docs/programs.md).", "mcmc", program),
        _model(
            "import",
            "A module of your own, from an uploaded bundle: Net(**config, rngs=rngs); for sampling a NumPyro function of its data.",
            ("train", "mcmc"),
            {**_own(), **own},
        ),
        _model(
            "plugin",
            "A module that a worker's operator has installed: built as Net(**config, rngs=rngs).",
            "train",
            {**plugin, **own},
        ),
        _model("transformer", "A decoder-only transformer that predicts the next token of a text.", "train", transformer),
        _model("mlp", "A multilayer perceptron for the rows of a table.", "train", mlp, ["x", "y"]),
        _model("cnn", "A small convolutional network for pictures.", "train", cnn, ["x", "y"]),
        _model("resnet", "A residual network of convolutions with batch statistics, for pictures.", "train", resnet, ["x", "y"]),
        _model("vit", "A transformer over the patches of a picture.", "train", vit, ["x", "y"]),
        _model("lstm", "Long short-term memory over series of features.", "train", lstm, ["x", "y"]),
        _model("lstm_lm", "Long short-term memory that predicts the next token of a text.", "train", lstm_lm),
        _model("sequential", "Any network, as a list of layers.", "train", sequential, ["x", "y"]),
        *posteriors(),
    ]
    return {entry["type"]: entry for entry in found}


def _in_shape(description: str, least: int, most: int) -> Schema:
    size: Schema = {"type": "integer", "minimum": 1, "maximum": 1_048_576}
    return {"type": "array", "items": size, "minItems": least, "maxItems": most, "description": description}


def _block(activation: str, norm: str) -> dict[str, Schema]:
    """Choices that every stack of attention blocks leaves open."""
    return {
        "activation": {"enum": ["gelu", "relu", "silu", "swiglu", "geglu"], "default": activation},
        "norm": {"enum": ["rmsnorm", "layernorm"], "default": norm},
        "use_bias": {"type": "boolean", "default": False},
        "attention": {
            "enum": ["auto", "xla", "cudnn"],
            "default": "auto",
            "description": "auto: cudnn on a GPU in bfloat16 with heads of at most 128 features, a multiple of 8; else xla",
        },
        "scan_layers": {
            "type": "boolean",
            "default": False,
            "description": "one stacked block, scanned over: compiles in a time that does not grow with n_layers",
        },
    }


def chain() -> Entry:
    """`chain`: transformations one after another."""
    transforms: Schema = {"type": "array", "items": OPTIMIZER, "minItems": 1, "maxItems": MOST_TRANSFORMS}
    return {
        "type": "chain",
        "doc": "Applies a list of chainable update transformations one after another.",
        "source": "optax.chain",
        "schema": _object({"transforms": transforms}),
    }


def next_token() -> Entry:
    """`next_token`: what a language model minimises when nothing else is said."""
    return {
        "type": "next_token",
        "doc": "Mean cross-entropy, in nats, of each token given those before it.",
        "source": "meshyard",
        "schema": _object({}),
        "kinds": ["train"],
        "targets": {"kind": "text"},
    }


def own_loss() -> Entry:
    """`import`: a loss of a user's own."""
    return {
        "type": "import",
        "doc": "A loss of your own, from an uploaded bundle: loss(model, batch) -> (scalar, metrics).",
        "source": "meshyard",
        "schema": _object(_own()),
        "kinds": ["train"],
        "targets": {"kind": "own"},
    }


def _own() -> dict[str, Schema]:
    """What names a thing in a bundle."""
    return {
        "code": {"type": "string", "minLength": 1, "maxLength": 64, "description": "id of an uploaded bundle: code_…"},
        "target": {"type": "string", "minLength": 3, "maxLength": 200, "description": "module:name, such as my_model:Net"},
    }


def datasets() -> dict[str, Entry]:
    """The built-in data sets with what they hold."""
    return {name: _dataset(name) for name in builtin.NAMES}


def _dataset(name: str) -> Entry:
    found = builtin.describe(name)
    columns = [{"name": column.name, "dtype": column.dtype, "shape": column.shape} for column in found.facts.columns]
    holds: dict[str, Any] = {"rows": found.facts.rows, "columns": columns, "args": found.args}
    return {"type": name, "doc": found.doc, "source": "meshyard", "schema": _object({}), **holds}


def _model(name: str, doc: str, kind: str | tuple[str, ...], properties: dict[str, Schema], args: list[str] | None = None) -> Entry:
    kinds = [kind] if isinstance(kind, str) else list(kind)
    return {"type": name, "doc": doc, "source": "meshyard", "schema": _object(properties), "kinds": kinds, "args": args or []}


def _object(properties: dict[str, Schema]) -> Schema:
    required = [name for name, schema in properties.items() if "default" not in schema]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _nullable(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}
