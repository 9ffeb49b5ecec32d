"""A job that predicts from the draws of another, without sampling again."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from jobs.errors import Issue
from jobs.spec.binding import POINTER, Argument, Binding, argument_of, choice_of, faults_of_columns
from jobs.spec.catalog import load
from jobs.spec.checkpoint import McmcCheckpoint
from jobs.spec.classics import INDICES
from jobs.spec.data import Data
from jobs.spec.dataset import ColumnFacts, DatasetFacts
from jobs.spec.draft import Check
from jobs.spec.envelope import Envelope
from jobs.spec.glm.formula import parse
from jobs.spec.imports import is_own
from jobs.spec.mesh import Placement
from jobs.spec.numerics import Precision
from jobs.spec.origin import CheckpointFacts, FindCheckpoint
from jobs.spec.pointers import join, nearest
from jobs.spec.strict import Document, Name, as_list, as_object

SOURCES = ("mcmc", "svi")
"""Kinds of jobs that put draws out."""

NOT_YET = {
    "mcmc": "it is still in its warm-up; wait for its first block",
    "svi": "they are drawn from its guide when it has finished; wait for that",
}
"""Why a job has no draws, by its kind."""

OBSERVED = "y"
"""The argument that every model of the catalog observes, and that new data need not have."""

WORD = re.compile(r"[^\W\d]\w*")
UNREAD = ("observed", "sample", "deterministic", "factor", "let", "plate", "type")
"""Members of a statement that are names of its own, or of data that it observes, and no expressions."""

CONDITIONED = ("gaussian_process_regression",)
"""Models whose predictions for new rows hang on the rows that they were fitted to, and not on parameters alone: they get both."""

WITHOUT_ROWS = ("stochastic_volatility",)
"""Models of one series, in which there are no new rows to predict for."""

MOST_THINNING = 10**9


class PosteriorSource(Document):
    """Whose draws are used."""

    job: Name = Field(
        description="A job of kind mcmc, whose draws up to its newest checkpoint are used, or a finished one of kind svi, "
        "with the draws from its guide. Fixed when this job is submitted."
    )
    thinning: Annotated[int, Field(ge=1, le=MOST_THINNING)] = Field(default=1, description="Use every so manyth draw.")


class Predict(Envelope):
    """Predictions for new data from the draws of a sampling job."""

    kind: Literal["predict"] = Field(description='"predict".')
    posterior: PosteriorSource = Field(description='whose draws, such as {"job": "job_…"}')
    data: Data = Field(description='what to predict for, such as {"inline": {"x": [1.5, 2]}}')
    checkpoint: McmcCheckpoint = Field(default=McmcCheckpoint(), description="When the job is saved, counted in draws used.")


def find_posterior(source: PosteriorSource, find: FindCheckpoint) -> tuple[CheckpointFacts | None, list[Issue]]:
    """The newest checkpoint of the job that was named, or why it is of no use."""
    found = find(source.job, None)
    if found is None:
        detail = "there is no such job, or it has no checkpoint yet; GET /v1/jobs?kind=mcmc lists the sampling jobs"
        return None, [Issue("/posterior/job", "not_found", detail)]
    kind, model = found.resolved_spec.get("kind"), found.resolved_spec.get("model", {}).get("type")
    if kind not in SOURCES:
        return None, [Issue("/posterior/job", "incompatible", "has no draws; name a job of kind mcmc or svi")]
    if model in WITHOUT_ROWS:
        detail = f"samples a {model}, a model of one series: write what comes after it into a program as a site"
        return None, [Issue("/posterior/job", "unsupported", detail)]
    drawn = draws_of(found)
    if drawn < 1:
        return None, [Issue("/posterior/job", "not_found", f"has no draws yet: {NOT_YET[kind]}")]
    if drawn < source.thinning:
        detail = f"must be at most {drawn}, the draws of each chain: otherwise nothing is left"
        return None, [Issue("/posterior/thinning", "out_of_range", detail)]
    return found, []


def draws_of(found: CheckpointFacts) -> int:
    """Draws of each chain that belong to a checkpoint; a guide is drawn from when it has been fitted."""
    spec = found.resolved_spec
    if spec["kind"] == "svi":
        return spec["num_samples"] if found.holds_draws else 0
    return max(0, found.step - spec["num_warmup"]) // spec["thinning"]


def bind_prediction(data: Data, facts: DatasetFacts, found: CheckpointFacts) -> tuple[Binding | None, list[Issue]]:
    """Bind columns to the arguments of the sampled model; what it observes may be missing.

    Where `data.args` is left out, columns bind as they did in the sampling job, if the new data has columns of those names.
    """
    model: Mapping[str, Any] = found.resolved_spec["model"]
    before: Mapping[str, str | list[str]] = found.resolved_spec["data"].get("args") or {}
    names = _arguments(model, before)
    own = data.args or {}
    unknown = [name for name in own if name not in names]
    if unknown:
        detail = "the model has no such argument"
        return None, [
            Issue(join(POINTER, name), "unknown_argument", f"{detail}; {nearest(name, names, before=at)}")
            for at, name in enumerate(unknown)
        ]
    columns = {column.name: column for column in facts.columns}
    args = {name: bound for name in names if (bound := own.get(name) or _as_before(name, before, columns.keys())) is not None}
    free = _free(model)
    issues = [_unbound(name, columns) for name in names if name not in args and name not in free and not is_own(model)]
    if not args and not issues:
        issues = [Issue(POINTER, "unbound", "none of the data's columns is an argument of the model: bind them with data.args")]
    if model["type"] != "glm":  # of which columns may hold texts; its rows are read where they are predicted for
        issues += [issue for name, bound in args.items() for issue in faults_of_columns(name, bound, columns, scalars=True)]
    if issues:
        return None, issues
    known = {name: argument_of(name, bound, columns) for name, bound in args.items()} if model["type"] != "glm" else {}
    issues = list(_misfits(model, before, known))
    return (None, issues) if issues else (Binding(args, known, 0), [])


def _unbound(name: str, columns: Mapping[str, ColumnFacts]) -> Issue:
    hint = f"set data.args.{name} to {choice_of(columns)}"
    return Issue(POINTER, "unbound", f'argument "{name}" of the model is bound to no column: {hint}')


def _arguments(model: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """What the model takes; of a catalog model without what it observes."""
    if model["type"] in ("program", "glm") or is_own(model):
        return list(before)
    return [name for name in load().entry("models", model["type"])["args"] if name != OBSERVED]


def _free(model: Mapping[str, Any]) -> set[str]:
    """The arguments that the model only observes: new data need not have them."""
    if model["type"] == "glm":
        formula = parse(model["formula"])
        needed = {name for factor in formula.factors.values() for name in factor.variables}
        return set(formula.response.variables) - needed
    if model["type"] == "program":
        seen, words = _observed(model["body"])
        declared: Mapping[str, Any] = model["data"] or {}
        sizes = {name for name, item in declared.items() if item["type"] == "int" and item["shape"] == []}
        return (seen - words) | sizes
    return set()


def _observed(statement: Any) -> tuple[set[str], set[str]]:
    """The names that the statements of a program observe, and all the words of its other texts."""
    seen: set[str] = set()
    words: set[str] = set()
    members = as_object(statement)
    if members is not None and isinstance(members.get("observed"), str):
        seen.add(members["observed"])
    inner = [value for key, value in members.items() if key not in UNREAD] if members is not None else as_list(statement) or []
    if isinstance(statement, str):
        words |= set(WORD.findall(statement))
    for value in inner:
        more_seen, more_words = _observed(value)
        seen, words = seen | more_seen, words | more_words
    return seen, words


def _as_before(name: str, before: Mapping[str, Any], columns: Collection[str]) -> Any:
    """The columns that were bound in the sampling job, if the new data has them all; else the column of the argument's name."""
    bound = before.get(name)
    wanted = as_list(bound) or [bound]
    if bound is not None and all(column in columns for column in wanted):
        return bound
    return name if name in columns else None


def _misfits(model: Mapping[str, Any], before: Mapping[str, Any], bound: Mapping[str, Argument]) -> Iterator[Issue]:
    """What is bound and cannot be what the draws were made for."""
    for name, argument in bound.items():
        was = as_list(before.get(name))
        if was is not None and argument.axes == 2 and argument.width != len(was):
            detail = f"has {argument.width} columns, and the draws were made with {len(was)}: bind as many, in the same order"
            yield Issue(argument.pointer, "mismatch", detail)
        field = INDICES.get(model["type"], {}).get(name)
        if field is not None and not (argument.is_integer and argument.minimum >= 0 and argument.maximum < model[field]):
            yield Issue(
                argument.pointer, "out_of_range", f"must be integers from 0 to {model[field] - 1}, the groups that were sampled"
            )


def check_precision(given: frozenset[str], precision: Precision, found: CheckpointFacts) -> Iterator[Issue]:
    """Draws are used in the format in which they were made."""
    saved: bool = found.resolved_spec["precision"]["x64"]
    if "precision" in given and precision.x64 != saved:
        yield Issue("/precision/x64", "conflict", f"must be {str(saved).lower()}, as in the sampling job; leave it out")


def _check_origin(origin: Any) -> Iterator[Issue]:
    if origin is not None:
        yield Issue("/init_from", "conflict", "starts training and sampling; predictions take their draws from posterior.job")


def _check_devices(placement: Placement) -> Iterator[Issue]:
    if placement.devices != 1 or placement.open_axis is not None:
        yield Issue("/mesh/axes", "out_of_range", "predictions are made on one device; leave mesh out")


def _check_kind_of_data(data: Data, facts: DatasetFacts) -> Iterator[Issue]:
    if facts.format == "text":
        yield Issue("/data", "wrong_kind", "is a text, and a model predicts for columns: use a table")


CHECKS: tuple[Check, ...] = (
    Check(("data", "facts"), _check_kind_of_data),
    Check(("placement",), _check_devices),
    Check(("init_from",), _check_origin),
    Check(("given", "precision", "source"), check_precision),
)
WARNINGS: tuple[Check, ...] = ()
