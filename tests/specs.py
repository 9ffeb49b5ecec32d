"""Job documents for tests, and their resolved form by way of the real job language."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from jobs.spec.dataset import ColumnFacts, DatasetFacts, TextFacts, TokenizerFacts
from jobs.spec.job import read_spec

COMPILE_CACHE = Path(tempfile.gettempdir()) / f"meshyard-tests-{os.getuid()}-{sys.version_info.minor}"
"""Compiled programs, kept from one test to the next: most of a test's time would go into compiling what another has compiled."""

TEXT = DatasetFacts("ds_text", "text", 200_000, None, [], TextFacts(200_000, 200_000, 60, 126))
SCHOOLS: dict[str, Any] = {"y": [28, 8, -3, 7, -1, 1, 18, 12], "sigma": [15, 10, 16, 11, 9, 11, 10, 18]}


def transformer(**changes: Any) -> dict[str, Any]:
    """A small language model with dropout."""
    return {
        "kind": "train",
        "model": {"type": "transformer", "vocab_size": 256, "dim": 32, "n_layers": 2, "n_heads": 8, "context": 16, "dropout": 0.1},
        "data": {"dataset": "ds_text", "batch_size": 8, "eval_fraction": 0.1, "eval_batches": 3},
        "optimizer": {
            "type": "chain",
            "transforms": [
                {"type": "clip_by_global_norm", "max_norm": 1.0},
                {"type": "adamw", "learning_rate": {"type": "cosine_decay_schedule", "init_value": 3e-3, "decay_steps": 100}},
            ],
        },
        "steps": 12,
        "eval_every": 4,
        "checkpoint": {"every_steps": 4},
        **changes,
    }


def regression(**changes: Any) -> dict[str, Any]:
    """A linear map fitted to points on a line, by plain gradient descent."""
    return {
        "kind": "train",
        "model": {"type": "mlp", "in_features": 1, "hidden": [], "out_features": 1},
        "data": {"inline": {"x": [0.0, 1.0, 2.0, 3.0], "y": [1.0, 3.0, 5.0, 7.0]}, "batch_size": 4},
        "loss": {"type": "squared_error"},
        "optimizer": {"type": "sgd", "learning_rate": 0.1},
        "steps": 5,
        **changes,
    }


def pictures(**changes: Any) -> dict[str, Any]:
    """A small convolutional network."""
    return {
        "kind": "train",
        "model": {"type": "cnn", "in_shape": [8, 8, 1], "channels": [8, 8], "hidden": 16, "out_features": 4},
        "data": {"dataset": "ds_pictures", "batch_size": 8},
        "loss": {"type": "softmax_cross_entropy_with_integer_labels"},
        "optimizer": {"type": "adam", "learning_rate": 1e-2},
        "steps": 6,
        "checkpoint": {"every_steps": 3},
        **changes,
    }


def spirals(**changes: Any) -> dict[str, Any]:
    """A classifier on a builtin table."""
    return {
        "kind": "train",
        "model": {"type": "mlp", "in_features": 2, "hidden": [16, 16], "out_features": 3},
        "data": {"builtin": "spirals", "batch_size": 24, "eval_fraction": 0.2, "args": {"x": ["x1", "x2"], "y": "label"}},
        "loss": {"type": "softmax_cross_entropy_with_integer_labels"},
        "optimizer": {"type": "adam", "learning_rate": 1e-2},
        "steps": 9,
        "eval_every": 3,
        "checkpoint": {"every_steps": 3},
        **changes,
    }


def schools(**changes: Any) -> dict[str, Any]:
    """Eight schools, few draws."""
    return {
        "kind": "mcmc",
        "model": {"type": "eight_schools"},
        "data": {"inline": SCHOOLS},
        "num_warmup": 60,
        "num_samples": 120,
        "num_chains": 4,
        "checkpoint": {"every_draws": 30},
        **changes,
    }


def fitted(**changes: Any) -> dict[str, Any]:
    """A guide fitted to eight schools in few steps."""
    return {
        "kind": "svi",
        "model": {"type": "eight_schools"},
        "data": {"inline": SCHOOLS},
        "steps": 300,
        "num_samples": 200,
        "eval_particles": 10,
        "checkpoint": {"every_steps": 60},
        **changes,
    }


def line(**changes: Any) -> dict[str, Any]:
    """A linear regression on a builtin table."""
    return schools(model={"type": "linear_regression"}, data={"builtin": "line"}, **changes)


def on_mesh(document: dict[str, Any], sharding: str | None = None, /, **axes: int) -> dict[str, Any]:
    """The same job on another mesh."""
    mesh: dict[str, Any] = {"axes": axes} | ({"sharding": sharding} if sharding else {})
    return document | {"mesh": mesh}


def facts(dataset_id: str) -> DatasetFacts | None:
    """What is known of the datasets that these documents name."""
    pictures = DatasetFacts(
        "ds_pictures",
        "npz",
        20_000,
        64,
        [ColumnFacts("x", "float32", [64, 8, 8, 1], 0.0, 1.0), ColumnFacts("y", "int32", [64], 0.0, 3.0)],
    )
    tokenizer = DatasetFacts("ds_tokenizer", "tokenizer", 5_000, None, tokenizer=TokenizerFacts("BPE", 300))
    texts = DatasetFacts("ds_documents", "jsonl", 90_000, 300, [ColumnFacts("body", "string", [300])])
    known = {"ds_text": TEXT, "ds_pictures": pictures, "ds_tokenizer": tokenizer, "ds_documents": texts}
    return known.get(dataset_id)


def resolve(document: dict[str, Any]) -> dict[str, Any]:
    """The resolved spec that a worker would be given."""
    return read_spec(document, facts, lambda *_: None).resolved


def write_text(path: Path, length: int = 200_000) -> Path:
    """A text with some structure: numbers counted out in words."""
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    text = " ".join(" ".join(words[int(digit)] for digit in str(n)) + ("." if n % 7 else ".\n") for n in range(length // 8))
    path.write_text(text[:length])
    return path


def write_tokenizer(path: Path, text: str) -> Path:
    """A tokenizer of at most 300 tokens, trained on a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text.split("\n"), trainer)
    tokenizer.save(str(path))
    return path


def write_pictures(path: Path) -> Path:
    """Pictures of 8 by 8 in four classes: a bright quarter each."""
    import numpy as np

    generator = np.random.default_rng(0)
    labels = np.arange(64) % 4
    images = generator.uniform(0, 0.3, (64, 8, 8, 1)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 0.7
    np.savez(path, x=images, y=labels.astype(np.int32))
    return path
