"""Metrics beside the loss: which a training job can measure, and which names its rules may therefore watch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobs.errors import Issue
from jobs.spec import models
from jobs.spec.catalog import load
from jobs.spec.checkpoint import TrainCheckpoint
from jobs.spec.data import TrainData
from jobs.spec.imports import is_own
from jobs.spec.optimizers import figures
from jobs.spec.pointers import join, listed, nearest, quoted
from jobs.spec.stop import TrainStop

Named = Mapping[str, Any]
Fitted = dict[str, Any]
STEP_FIGURES = ("param_norm", "update_norm")
"""Measured at every step where they are asked for: each takes another look at all parameters."""

_CLASSES = ("accuracy", "top_5_accuracy")
_TEXT = ("perplexity", *_CLASSES, "bits_per_byte")
_VALUES = ("mean_squared_error", "root_mean_squared_error", "mean_absolute_error")
_SIGNED = ("sigmoid_binary_cross_entropy", "sigmoid_focal_loss", "sparsemax_loss", "hinge_loss", "perceptron_loss")
_DISTRIBUTIONS = ("softmax_cross_entropy", "safe_softmax_cross_entropy", "poly_loss_cross_entropy")
MEASURES = (*_TEXT, *_VALUES, *STEP_FIGURES)
_TOP = 5


def signed_outputs(loss: str) -> bool:
    """Whether outputs of a loss say yes or no by their sign."""
    return loss in _SIGNED


def is_text(model: Fitted) -> bool:
    """Whether a model learns from a text."""
    return model.get("context") is not None


def legal_measures(loss: Named, *, text: bool) -> tuple[str, ...]:
    """What makes sense beside a loss, the usual one first."""
    name = loss["type"]
    if is_own(loss):
        return ()
    if text:
        return _TEXT
    kind = load().entry("losses", name).get("targets", {}).get("kind")
    if kind == "integer":
        return (*_CLASSES, "perplexity") if name.startswith("softmax") else _CLASSES
    if name in _SIGNED or name in _DISTRIBUTIONS:
        return ("accuracy",)
    return _VALUES if kind == "values" else ()


def settle_measures(given: Sequence[str] | None, loss: Named, data: TrainData, *, text: bool) -> list[str]:
    """The metrics of a job: those it names, else the usual one of its loss."""
    if given is not None:
        return list(given)
    legal = legal_measures(loss, text=text)
    return [name for name in legal[:1] if name not in _VALUES] if data.evaluates else []


def check_measures(given: Sequence[str] | None, loss: Named, model: Fitted, data: TrainData) -> Iterator[Issue]:
    """Metrics that do not exist, make no sense beside the loss, or would never be measured."""
    legal = (*legal_measures(loss, text=is_text(model)), *STEP_FIGURES)
    for at, name in enumerate(given or ()):
        pointer = join("/metrics", at)
        if name in (given or ())[:at]:
            yield Issue(pointer, "conflict", "names a metric twice: leave one out")
        elif name not in MEASURES:
            yield Issue(pointer, "unknown_value", f"unknown metric {quoted(name)}; {nearest(name, MEASURES)}")
        elif name not in legal and is_own(loss):
            yield Issue(pointer, "conflict", "your own loss gives the metrics beside it: leave it out, and return it from there")
        elif name not in legal:
            yield Issue(pointer, "conflict", f"cannot be measured beside loss {loss['type']}: use {listed(legal)}, or leave it out")
        elif name not in STEP_FIGURES and not data.evaluates:
            detail = "is measured in evaluations, and the job has none: set data.eval_fraction, for example to 0.1"
            yield Issue(pointer, "requires", detail)
        else:
            yield from _faults_of_size(name, pointer, model, data)


def watched(given: Sequence[str] | None, loss: Named, model: Fitted, data: TrainData, optimizer: Fitted) -> list[str]:
    """The metrics that a job's rules may watch: those with a value at the steps that are evaluated or saved."""
    names = settle_measures(given, loss, data, text=is_text(model))
    evaluated = ["eval/loss", *(f"eval/{name}" for name in names if name not in STEP_FIGURES)] if data.evaluates else []
    stepped = [name for name in names if name in STEP_FIGURES]
    return [*evaluated, "train/loss", "grad_norm", *figures(optimizer), *stepped]


def check_rules(
    rule: TrainStop,
    checkpoint: TrainCheckpoint,
    given: Sequence[str] | None,
    loss: Named,
    model: Fitted,
    data: TrainData,
    optimizer: Fitted,
) -> Iterator[Issue]:
    """Rules that watch a metric which the job will never report."""
    legal = watched(given, loss, model, data, optimizer)
    keep = checkpoint.keep_best
    for pointer, metric in (("/stop/metric", rule.metric), ("/checkpoint/keep_best/metric", keep.metric if keep else None)):
        own = metric is not None and metric.startswith("eval/") and is_own(loss) and data.evaluates
        if metric is None or metric in legal or own:
            continue
        if metric.startswith("eval/") and not data.evaluates:
            detail = "this metric is measured in evaluations, and the job has none: set data.eval_fraction, for example to 0.1"
            yield Issue(pointer, "requires", detail)
        elif metric.removeprefix("eval/") in MEASURES:
            name = metric.removeprefix("eval/")
            yield Issue(pointer, "requires", f"is not measured by this job: add {quoted(name)} to metrics, or use {listed(legal)}")
        else:
            yield Issue(pointer, "unknown_value", f"unknown metric {quoted(metric)}; {nearest(metric, legal)}")


def _faults_of_size(name: str, pointer: str, model: Fitted, data: TrainData) -> Iterator[Issue]:
    found = models.outputs(model)
    outputs = model.get("vocab_size") if found is None else found[0]
    if name == "top_5_accuracy" and outputs is not None and outputs <= _TOP:
        yield Issue(pointer, "no_effect", f"is always 1 with {outputs} outputs: use accuracy")
    if name == "bits_per_byte" and data.tokenizer not in (None, "bytes"):
        yield Issue(pointer, "conflict", "needs tokens that are bytes: leave data.tokenizer out, or use perplexity")
