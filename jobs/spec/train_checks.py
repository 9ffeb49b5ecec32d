"""The rules between the parts of a training job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jobs.errors import Issue
from jobs.spec import models, origin, sharding, stop, text
from jobs.spec.binding import WEIGHT, Argument, Binding
from jobs.spec.catalog import load
from jobs.spec.checkpoint import TrainCheckpoint
from jobs.spec.data import TrainData, part_sizes
from jobs.spec.draft import Check
from jobs.spec.imports import check_own_model, is_own
from jobs.spec.measures import check_measures, check_rules
from jobs.spec.mesh import Placement
from jobs.spec.numerics import Debug, warn_of_debug
from jobs.spec.optimizers import check_accumulation, check_average, check_parts, check_schedules, warn_of_optimizer
from jobs.spec.pointers import count_of
from jobs.spec.remat import check_remat
from jobs.spec.stop import TrainStop

TEXT_LOSSES = ("next_token", "softmax_cross_entropy_with_integer_labels")
INTEGER_LOSS = "softmax_cross_entropy_with_integer_labels"
Named = Mapping[str, Any]


def _check_rows(data: TrainData, binding: Binding) -> Iterator[Issue]:
    train, held_out = part_sizes(binding.rows, data.eval_fraction)
    if train < data.batch_size:
        detail = f"is more than the {count_of(train, 'row')} there are to train on: make it smaller, or use more data"
        yield Issue("/data/batch_size", "out_of_range", detail)
    if data.eval_fraction and held_out < 1:
        detail = f"holds out less than one of {count_of(binding.rows, 'row')}: make it greater, or 0 for no evaluation"
        yield Issue("/data/eval_fraction", "too_small", detail)


def _check_weights(binding: Binding) -> Iterator[Issue]:
    weight = binding.arguments.get(WEIGHT)
    if weight is None:
        return
    if weight.axes != 1:
        yield Issue(weight.pointer, "wrong_shape", "must be one number for each row: bind it to one plain column")
    elif weight.minimum < 0 or weight.maximum <= 0:
        detail = f"weights are not negative and not all 0, and these go from {weight.minimum:g} to {weight.maximum:g}"
        yield Issue(weight.pointer, "out_of_range", f"{detail}: use another column")


def _check_inputs(model: Named, binding: Binding) -> Iterator[Issue]:
    wanted = models.inputs(model)
    if "x" not in binding.arguments or wanted is None or binding.arguments["x"].width == wanted[0]:
        return
    x, (numbers, pointer) = binding.arguments["x"], wanted
    if "in_shape" in model:
        yield Issue(pointer, "mismatch", f"multiplies to {numbers}, and a row of x holds {count_of(x.width, 'number')}")
    else:
        detail = f"must be {x.width}, the numbers in a row of x, or x must be bound to {count_of(numbers, 'column')}"
        yield Issue(pointer, "mismatch", detail)


def _check_targets(model: Named, loss: Named, binding: Binding) -> Iterator[Issue]:
    if is_own(loss):
        return
    if is_own(model) and loss["type"] == "next_token":
        return
    if "y" not in binding.arguments:
        detail = f'loss {loss["type"]} compares the outputs with "y": bind a column to it, or use a loss of your own'
        yield Issue("/data/args", "unbound", detail)
        return
    targets, y = load().entry("losses", loss["type"])["targets"], binding.arguments["y"]
    if is_own(model):
        return
    if targets["kind"] == "integer":
        yield from _check_labels(model, loss, y)
    elif targets["kind"] == "values":
        given = models.outputs(model)
        if given is not None and y.width != given[0]:
            detail = f"loss {loss['type']} compares each output with a value of y, and a row of y has {y.width}"
            yield Issue(given[1], "mismatch", f"{_outputs_must(given)} be {y.width}: {detail}")
        low, high = targets.get("minimum"), targets.get("maximum")
        if low is not None and (y.minimum < low or y.maximum > high):
            least, most = f"{y.minimum:g}{y.row_of(y.minimum)}", f"{y.maximum:g}{y.row_of(y.maximum)}"
            detail = f"loss {loss['type']} takes targets from {low} to {high}, and these go from {least} to {most}"
            yield Issue(y.pointer, "out_of_range", f"{detail}: scale them, or use another loss")


def _check_labels(model: Named, loss: Named, y: Argument) -> Iterator[Issue]:
    given = models.outputs(model)
    if not y.is_integer:
        yield Issue(y.pointer, "wrong_type", f"loss {loss['type']} takes integer labels: convert the column, or use squared_error")
    elif y.axes != 1:
        yield Issue(y.pointer, "wrong_shape", f"loss {loss['type']} takes one label for each row: bind y to one plain column")
    elif given is not None and given[0] < 2:
        detail = f"{_outputs_must(given)} be at least 2 with loss {loss['type']}: one output for each class"
        yield Issue(given[1], "out_of_range", detail)
    elif y.minimum < 0:
        yield Issue(
            y.pointer,
            "out_of_range",
            f"labels count from 0, and the least of these is {y.minimum:g}{y.row_of(y.minimum)}: number the classes from 0",
        )
    elif given is not None and y.maximum >= given[0]:
        most = f"{int(y.maximum)}{y.row_of(y.maximum)}"
        detail = f"be at least {int(y.maximum) + 1}: the labels of y go from 0 to {most}, and each class takes one output"
        yield Issue(given[1], "too_small", f"{_outputs_must(given)} {detail}")


def _outputs_must(given: tuple[int, str]) -> str:
    """The beginning of what is said of a number of outputs, by where it stands."""
    return "must" if given[1].endswith("out_features") else f"give {given[0]} outputs, which must"


def _check_loss(model: Named, loss: Named) -> Iterator[Issue]:
    if is_own(model) or is_own(loss):
        return
    from_text = models.learns_from_text(model)
    if from_text and loss["type"] not in TEXT_LOSSES:
        yield Issue("/loss/type", "conflict", 'a language model learns by "next_token": use that, or leave loss out')
    elif not from_text and loss["type"] == "next_token":
        detail = f'is for text: for an {model["type"]} use one such as "{INTEGER_LOSS}" (classes) or "squared_error" (numbers)'
        yield Issue("/loss/type", "conflict", detail)


def _check_batch(data: TrainData, pieces: int, placement: Placement) -> Iterator[Issue]:
    if data.batch_size % pieces:
        yield Issue("/data/batch_size", "not_divisible", f"must divide by grad_accumulation, which is {pieces}")
        return
    axis = placement.rules["batch"]
    parts = placement.axes[axis] if axis is not None else 1
    if parts > 0 and data.batch_size // pieces % parts:
        each = f" of each of the {pieces} accumulated parts" if pieces > 1 else ""
        detail = f'the batch{each} must divide by mesh axis "{axis}" of size {parts}: use a multiple of {pieces * parts}'
        yield Issue("/data/batch_size", "not_divisible", detail)


def _check_sharding(model: Named, placement: Placement) -> Iterator[Issue]:
    rules, sizes = placement.rules, models.logical_sizes(model)
    yield from sharding.check_conflicts(rules, models.together(model))
    yield from sharding.check_sizes(rules, sizes, placement.axes)
    if placement.preset != "replicated" and not is_own(model):
        yield from sharding.check_use(rules, {"batch", *(axis for axis, _, _ in sizes)}, placement.axes)


def _warn_of_copies(model: Named, placement: Placement) -> Iterator[Issue]:
    if placement.preset == "replicated" and not is_own(model):
        sizes = models.logical_sizes(model)
        idle = sharding.check_use(placement.rules, {"batch", *(axis for axis, _, _ in sizes)}, placement.axes)
        for issue in idle:
            yield Issue(
                issue.pointer, issue.code, 'with "replicated" every device of this axis computes the same; "dp" splits the batch'
            )


def _check_evaluation(data: TrainData, eval_every: int | None) -> Iterator[Issue]:
    if data.eval_dataset is not None and data.eval_fraction > 0:
        yield Issue("/data/eval_fraction", "conflict", "data.eval_dataset is evaluated on already: leave one of the two out")
    if data.evaluates:
        return
    for pointer, value in (("/eval_every", eval_every), ("/data/eval_batches", data.eval_batches)):
        if value is not None:
            detail = "there is nothing to evaluate on: set data.eval_fraction, for example to 0.1, or leave this field out"
            yield Issue(pointer, "requires", detail)


def _check_stop(rule: TrainStop, data: TrainData, checkpoint: TrainCheckpoint, steps: int) -> Iterator[Issue]:
    by_steps = checkpoint.every_seconds is None and "every_steps" not in checkpoint.model_fields_set
    yield from stop.check_stop(rule, evaluates=data.evaluates, save_every=steps if by_steps else checkpoint.every_steps)


def _check_printing(debug: Debug, ensemble: int | None) -> Iterator[Issue]:
    if debug.print is not None and ensemble is not None:
        yield Issue("/debug/print", "conflict", "prints the parameters of one training, and an ensemble has many: leave one out")


def _warn_of_saves(checkpoint: TrainCheckpoint, steps: int) -> Iterator[Issue]:
    if checkpoint.every_steps is not None and checkpoint.every_steps > steps:
        yield Issue("/checkpoint/every_steps", "never_reached", "is more than all steps, so the job is saved at its end alone")


CHECKS: tuple[Check, ...] = (
    Check(("model",), models.check_model),
    Check(("model", "precision", "resources"), models.check_attention),
    Check(("model", "data", "optimizer"), models.check_fused),
    Check(("model", "data", "facts"), text.check_kind_of_data),
    Check(("model", "data", "facts"), text.check_text),
    Check(("model", "tokenizer"), text.check_tokenizer),
    Check(("data", "corpus"), text.check_documents),
    Check(("loss", "data"), text.check_own_loss),
    Check(("model", "loss", "facts", "data"), check_own_model),
    Check(("data", "binding"), _check_rows),
    Check(("binding",), _check_weights),
    Check(("model", "binding"), _check_inputs),
    Check(("model", "loss"), _check_loss),
    Check(("model", "loss", "binding"), _check_targets),
    Check(("data", "grad_accumulation", "placement"), _check_batch),
    Check(("model", "placement"), _check_sharding),
    Check(("model", "remat"), check_remat),
    Check(("data", "eval_every"), _check_evaluation),
    Check(("stop", "data", "checkpoint", "steps"), _check_stop),
    Check(("debug", "ensemble"), _check_printing),
    Check(("metrics", "loss", "model", "data"), check_measures),
    Check(("stop", "checkpoint", "metrics", "loss", "model", "data", "optimizer"), check_rules),
    Check(("ema", "optimizer"), check_average),
    Check(("optimizer",), check_schedules),
    Check(("optimizer",), check_parts),
    Check(("optimizer", "grad_accumulation"), check_accumulation),
)
WARNINGS: tuple[Check, ...] = (
    Check(("model", "placement"), _warn_of_copies),
    Check(("checkpoint", "steps"), _warn_of_saves),
    Check(("stop",), stop.warn_of_idle_stop),
    Check(("debug", "steps"), warn_of_debug),
    Check(("optimizer", "steps"), warn_of_optimizer),
)
ORIGIN_CHECKS: tuple[Check, ...] = (
    Check(("model", "origin"), origin.check_same_model),
    Check(("ensemble", "origin"), origin.check_same_members),
)
WHOLE_ORIGIN_CHECKS: tuple[Check, ...] = (
    Check(("optimizer", "origin"), origin.check_same_optimizer),
    Check(("ema", "origin"), origin.check_same_average),
    Check(("steps", "origin"), origin.check_same_length),
)
