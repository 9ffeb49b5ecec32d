"""What a training job minimises: the model, the samples, and the loss between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jobs.errors import UserFault
from jobs.programs import data as datasets
from jobs.programs import losses
from jobs.programs.imported import adapt
from jobs.programs.measures import Each, build_measures
from jobs.programs.mesh import Layout
from jobs.programs.models.network import build_network
from jobs.programs.models.setting import Setting
from jobs.programs.packing import documents_of, sequences
from jobs.programs.rows import check_rows
from jobs.programs.tokens import Corpus, read_corpus
from jobs.spec.binding import WEIGHT
from jobs.spec.catalog import load


class Objective(Protocol):
    """A model with the data it learns from.

    `source` gives training samples by index. `rate` names how fast it goes: (metric name, units in one step).
    """

    source: datasets.Source
    rate: tuple[str, int]

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        """A fresh model."""
        ...

    def example(self) -> datasets.Batch:
        """A training batch of zeros, to compile with."""
        ...

    def loss(self, model: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Sum of losses and sum of weights over a batch. An entry `mask` weighs its samples; without one each weighs 1."""
        ...

    def measure(self, model: Any, batch: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], jax.Array]:
        """The same for the loss and each metric beside it, by name."""
        ...

    def held_out(self) -> Iterator[datasets.Batch]:
        """Batches with masks that cover the evaluation part once, in order."""
        ...

    def write_artifacts(self, outputs: Path) -> list[str]:
        """Files that a user of the trained model needs beside it, written below `outputs`."""
        ...


class NextToken:
    """Predict each token of a text from those before it.

    Args:
        spec: the resolved spec.
        layout: the mesh.
        corpus: the text.
    """

    def __init__(self, spec: dict[str, Any], layout: Layout, corpus: Corpus) -> None:
        self._artifacts = corpus.artifacts
        self.model, self.layout, self._data = spec["model"], layout, spec["data"]
        self._setting = Setting.of(spec, layout)
        self._measures = build_measures(spec["metrics"], spec["loss"])
        self.context: int = self.model["context"]
        # A recurrent network, or one of a user's own, reads a row as one text.
        self._apart = self._data["packing"] == "documents" and self.model["type"] == "transformer"
        train, self._rest = sequences(corpus, self._data["packing"], self.context, self.model.get("vocab_size"))
        self.source: datasets.Source = train
        self.rate: tuple[str, int] = ("tokens_per_second", self._data["batch_size"] * self.context)

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        """A fresh language model."""
        return build_network(self.model, self._setting, rngs)

    def example(self) -> datasets.Batch:
        """Sequences of zeros."""
        return zeros_like(self.source, self._data["batch_size"])

    def loss(self, model: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Cross-entropy in nats, summed over tokens."""
        sums, weight = self._sums({"loss": optax.losses.softmax_cross_entropy_with_integer_labels}, model, batch)
        return sums["loss"], weight

    def measure(self, model: Any, batch: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], jax.Array]:
        """Sums over tokens."""
        loss = {"loss": optax.losses.softmax_cross_entropy_with_integer_labels}
        return self._sums(loss | self._measures, model, batch)

    def _sums(self, each: dict[str, Each], model: Any, batch: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], jax.Array]:
        inputs, targets = batch["tokens"][:, :-1], batch["tokens"][:, 1:]
        mask = batch.get("mask", jnp.ones(targets.shape, jnp.float32))
        outputs = model(inputs, documents_of(mask)) if self._apart else model(inputs)
        return {name: jnp.sum(of(outputs, targets) * mask) for name, of in each.items()}, jnp.sum(mask)

    def held_out(self) -> Iterator[datasets.Batch]:
        """Windows that follow each other without overlap, so that every token but the first is predicted once."""
        if self._rest is None:
            return
        for indices, weights in datasets.in_order(len(self._rest), self._data["batch_size"]):
            batch = self._rest.gather(indices)
            yield batch | {"mask": batch["mask"] * weights[:, None]}

    def write_artifacts(self, outputs: Path) -> list[str]:
        """What turns tokens back into text: the characters in the order of their tokens, or the tokenizer."""
        for name, content in self._artifacts.items():
            (outputs / name).write_bytes(content)
        return list(self._artifacts)


class Supervised:
    """Predict `y` from `x`, row by row.

    Args:
        spec: the resolved spec.
        layout: the mesh.
        columns: `x` of (rows, …) and `y` of (rows, …).
        rest: the same to evaluate on; None where the last rows of `columns` are held out.
    """

    def __init__(
        self, spec: dict[str, Any], layout: Layout, columns: dict[str, np.ndarray], rest: dict[str, np.ndarray] | None = None
    ) -> None:
        self._spec, self.layout, self._data = spec, layout, spec["data"]
        self._loss = losses.build(spec["loss"])
        self._setting = Setting.of(spec, layout)
        self._measures = build_measures(spec["metrics"], spec["loss"])
        bound = {name: _as_device(array) for name, array in columns.items()}
        cut = datasets.split(len(next(iter(bound.values()))), self._data["eval_fraction"])
        self.source: datasets.Source = datasets.Rows({name: array[:cut] for name, array in bound.items()})
        held_out = columns if rest is None else rest
        self._rest = {name: _as_device(array[cut if rest is None else 0 :]) for name, array in held_out.items()}
        if len(self.source) < 1:
            raise UserFault("dataset_invalid", "no rows are left to train on", "/data/eval_fraction")
        self.rate: tuple[str, int] = ("samples_per_second", self._data["batch_size"])

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        """A fresh network."""
        return build_network(self._spec["model"], self._setting, rngs)

    def example(self) -> datasets.Batch:
        """Rows of zeros."""
        return zeros_like(self.source, self._data["batch_size"])

    def loss(self, model: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """The loss of each row, averaged over what a row predicts, then summed over rows by their weight."""
        sums, weight = self._sums({"loss": self._loss}, model, batch)
        return sums["loss"], weight

    def measure(self, model: Any, batch: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], jax.Array]:
        """Sums over rows by their weight."""
        return self._sums({"loss": self._loss, **self._measures}, model, batch)

    def _sums(self, each: dict[str, Each], model: Any, batch: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], jax.Array]:
        outputs, targets = model(batch["x"]), batch["y"]
        if outputs.ndim == targets.ndim + 1 and outputs.shape[-1] == 1:
            outputs = outputs[..., 0]
        self._check(outputs.shape, targets.shape)
        rows = targets.shape[0]
        weights = batch.get("mask", jnp.ones(rows, jnp.float32)) * batch.get(WEIGHT, 1.0)
        found = {name: of(outputs, targets).reshape(rows, -1).mean(axis=-1) for name, of in each.items()}
        return {name: jnp.sum(values * weights) for name, values in found.items()}, jnp.sum(weights)

    def _check(self, outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
        """Refuse what the loss would broadcast."""
        labels = load().entry("losses", self._spec["loss"]["type"])["targets"]["kind"] == "integer"
        if outputs[:-1] == targets if labels else outputs == targets:
            return
        wanted = "one more axis than y, of classes" if labels else "the shape of y"
        message = f"the network gives shape {list(outputs)} for a batch and y has {list(targets)}: the outputs must have {wanted}"
        raise UserFault("compile_failed", message, "/model/layers" if "layers" in self._spec["model"] else "/model")

    def held_out(self) -> Iterator[datasets.Batch]:
        """The last rows, in order."""
        rows = len(next(iter(self._rest.values())))
        for indices, weights in datasets.in_order(rows, self._data["batch_size"]):
            yield {name: array[indices] for name, array in self._rest.items()} | {"mask": weights}

    def write_artifacts(self, outputs: Path) -> list[str]:
        """Nothing is needed beside the parameters."""
        return []


def build_objective(
    spec: dict[str, Any], layout: Layout, path: Path | None, form: str | None, beside: datasets.Beside = datasets.ALONE
) -> Objective:
    """The objective of a resolved spec over its data file.

    Raises:
        UserFault: the data does not fit the model.
    """
    return adapt(spec, _over_data(spec, layout, path, form, beside))


def _over_data(spec: dict[str, Any], layout: Layout, path: Path | None, form: str | None, beside: datasets.Beside) -> Objective:
    data = spec["data"]
    if data["tokenizer"] is not None:
        if path is None:
            raise UserFault("dataset_invalid", "a language model learns from an uploaded text", "/data/dataset")
        return NextToken(spec, layout, read_corpus(path, form or "text", data, beside))
    bound = datasets.bind(datasets.columns_of(data, path, form), data["args"] or {"x": "x", "y": "y"})
    rest = _held_out_columns(data, beside)
    check_rows(bound, spec)
    check_rows(rest or {}, spec, "/data/eval_dataset")
    return Supervised(spec, layout, bound, rest)


def zeros_like(source: datasets.Source, size: int) -> datasets.Batch:
    """A batch of so many samples in the form of those of a source."""
    row = source.gather(np.zeros(1, np.int64))
    return {name: np.zeros((size, *value.shape[1:]), value.dtype) for name, value in row.items()}


def _held_out_columns(data: dict[str, Any], beside: datasets.Beside) -> dict[str, np.ndarray] | None:
    """The columns of a dataset to evaluate on, if the job has one."""
    file = beside.evaluation
    return (
        None if file is None else datasets.bind(datasets.read_columns(file.path, file.form), data["args"] or {"x": "x", "y": "y"})
    )


def _as_device(array: np.ndarray) -> np.ndarray:
    """32-bit: what the device computes in. Integers that do not fit would wrap silently, so they are refused."""
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(np.float32)
    if array.size and (array.max() > np.iinfo(np.int32).max or array.min() < np.iinfo(np.int32).min):
        raise UserFault("dataset_invalid", "integers beyond 32 bits cannot be used", "/data/args")
    return array.astype(np.int32)
