"""Starting from another job's checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from jobs.errors import Issue
from jobs.spec.catalog import load
from jobs.spec.pointers import nearest
from jobs.spec.strict import Document, Name, as_list, as_object

LARGEST_STEP = 2**53
_STEP_SCHEMA: JsonDict = {
    "anyOf": [{"type": "integer", "minimum": 0, "exclusiveMaximum": LARGEST_STEP}, {"enum": ["latest", "best"]}, {"type": "null"}]
}


def _check_step(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST_STEP
    if not whole and value not in ("latest", "best", None):
        raise PydanticCustomError("wrong_type", 'must be a step, "latest", "best" or null')
    return value


WhichStep = Annotated[Any, AfterValidator(_check_step), WithJsonSchema(_STEP_SCHEMA)]
Patterns = Annotated[list[Name], Field(max_length=100)]


class InitFrom(Document):
    """The checkpoint that a job starts from."""

    job: Name = Field(description="The job that saved it.")
    step: WhichStep = Field(
        default=None, description="The step, best by the job's own measure, or latest (null too). Fixed when the job is submitted."
    )
    what: Literal["params", "all"] | None = Field(
        default=None,
        description="Parameters alone, or everything, so that the run goes on; null: params for training, all for sampling.",
    )
    include: Patterns | None = Field(
        default=None,
        min_length=1,
        description="Take only parameters whose dotted path one of these matches (* and ? as in a shell): the rest starts fresh.",
    )
    exclude: Patterns = Field(default_factory=list[str], description="Of these leave out what one of these matches.")

    @property
    def is_partial(self) -> bool:
        """Whether it takes a part of the parameters only."""
        return self.include is not None or bool(self.exclude)


@dataclass(frozen=True)
class CheckpointFacts:
    """A committed checkpoint as the service knows it.

    Attributes:
        job_id, step: which one.
        resolved_spec: of the job that saved it.
        paths: of its parameters and of the statistics beside them.
        holds_draws: whether draws from this very state lie with it.
    """

    job_id: str
    step: int
    resolved_spec: dict[str, Any]
    paths: tuple[str, ...] = ()
    holds_draws: bool = False


FindCheckpoint = Callable[[str, int | Literal["best"] | None], CheckpointFacts | None]
"""A job's checkpoint at a step, its best, or its newest where no step is given; None where there is no such job or checkpoint."""

_FREE = {"dropout", "attention"}
"""Arguments of a model that do not change the shape of its parameters."""


def start_of(resolved: Mapping[str, Any]) -> dict[str, Any] | None:
    """The checkpoint of another job that a resolved spec starts from: `job`, `step` and `what` is taken of it.

    Predictions take its draws, unless they go on from predictions that were made already.
    """
    if resolved.get("init_from") is not None:
        return resolved["init_from"]
    posterior = resolved.get("posterior")
    return None if posterior is None else {"job": posterior["job"], "step": posterior["step"], "what": "draws"}


def default_what(kind: str, found: CheckpointFacts) -> str:
    """What a job takes from a checkpoint where it does not say."""
    return "params" if kind == "train" or (kind, found.resolved_spec.get("kind")) in WARM_STARTS else "all"


WARM_STARTS = {("mcmc", "svi")}
"""Kinds of job, and of the job that they may start from although it is of another kind."""


def find_origin(origin: InitFrom, find: FindCheckpoint) -> tuple[CheckpointFacts | None, list[Issue]]:
    """The checkpoint that `init_from` names, or why there is none."""
    step = None if origin.step == "latest" else origin.step
    found = find(origin.job, step)
    if found is not None:
        return found, []
    newest = find(origin.job, None) if step is not None else None
    if newest is None:
        return None, [
            Issue("/init_from/job", "not_found", "there is no such job, or it has no checkpoint; GET /v1/jobs lists the jobs")
        ]
    if step == "best":
        detail = f"no checkpoint of the job holds what best is judged by; its newest is at step {newest.step}: name a step"
        return None, [Issue("/init_from/step", "not_found", detail)]
    detail = f"the job has no checkpoint at this step; its newest is at step {newest.step}: leave the step out to take that one"
    return None, [Issue("/init_from/step", "not_found", detail)]


def check_origin(kind: str, origin: InitFrom, found: CheckpointFacts) -> Iterator[Issue]:
    """Faults between a job and where it starts from that can be told from their kinds."""
    origin_kind = found.resolved_spec.get("kind")
    if (kind, origin_kind) in WARM_STARTS:
        if origin.what == "all":
            detail = 'chains do not go on where a guide was fitted; use "params", which draws their starts from it'
            yield Issue("/init_from/what", "conflict", detail)
    elif origin_kind != kind:
        yield Issue("/init_from/job", "incompatible", f"that job is not a {kind} job; name one that is")
    elif kind == "mcmc" and origin.what == "params":
        yield Issue(
            "/init_from/what", "conflict", 'a sampler has no parameters to start from; use "all", which goes on with its chains'
        )


def check_part(origin: InitFrom, what: str, found: CheckpointFacts) -> Iterator[Issue]:
    """Whether a part of the parameters is meant, and every pattern names some of them."""
    if origin.is_partial and what == "all":
        yield Issue("/init_from/what", "conflict", 'everything is taken with "all"; use "params", or leave include and exclude out')
    for name, patterns in (("include", origin.include or ()), ("exclude", origin.exclude)):
        for at, pattern in enumerate(patterns):
            if not any(fnmatchcase(path, pattern) for path in found.paths):
                hint = nearest(pattern, found.paths, f"some are {', '.join(found.paths[:6])}")
                yield Issue(f"/init_from/{name}/{at}", "no_match", f"matches no parameter of that job: {hint}")


def check_same_model(model: dict[str, Any], found: CheckpointFacts) -> Iterator[Issue]:
    """The arguments in which a model differs from the saved one, where they change what is stored."""
    saved: dict[str, Any] = found.resolved_spec.get("model", {})
    if model["type"] != saved.get("type"):
        yield Issue("/model/type", "incompatible", f'must be "{saved.get("type")}", the model of the job in init_from')
        return
    free = _FREE | _free_of(model)
    for name, value in model.items():
        if name not in free and value != saved.get(name):
            yield Issue(f"/model/{name}", "incompatible", f"must be as in the job in init_from: {_short(saved.get(name))}")


def check_same_members(ensemble: int | None, found: CheckpointFacts) -> Iterator[Issue]:
    """Whether each member has parameters to start from."""
    saved = found.resolved_spec.get("ensemble")
    if ensemble != saved:
        yield Issue("/ensemble", "incompatible", f"must be as in the job in init_from: {'null' if saved is None else saved}")


def check_same_average(ema: object | None, found: CheckpointFacts) -> Iterator[Issue]:
    """Whether there is an average to go on with."""
    if (ema is None) != (found.resolved_spec.get("ema") is None):
        detail = 'must be given as in the job in init_from, or in neither; with what: "params" it may differ'
        yield Issue("/ema", "incompatible", detail)


def _free_of(model: dict[str, Any]) -> set[str]:
    if model["type"] == "mlp":
        return {"activation"}
    if model["type"] in ("import", "plugin"):
        return {"code", "target", "config"}
    return {"context"} if model["type"] == "lstm_lm" or model.get("positions") == "rotary" else set[str]()


def check_same_optimizer(optimizer: dict[str, Any], found: CheckpointFacts) -> Iterator[Issue]:
    """Whether the optimizer's state can be taken over."""
    if _form(optimizer) != _form(found.resolved_spec.get("optimizer")):
        detail = 'must name the same transformations in the same order as the job in init_from; with what: "params" it may differ'
        yield Issue("/optimizer", "incompatible", detail)


def check_same_length(steps: int, found: CheckpointFacts) -> Iterator[Issue]:
    """Whether there is anything left to do."""
    if steps < found.step:
        detail = (
            f"must be at least {found.step}: steps count from the first job's start, and the checkpoint is at step {found.step}"
        )
        yield Issue("/steps", "out_of_range", detail)


def check_same_guide(guide: dict[str, Any], found: CheckpointFacts) -> Iterator[Issue]:
    """Whether the guide is of the form that was saved."""
    saved: dict[str, Any] = found.resolved_spec.get("guide", {})
    for name, value in guide.items():
        if name not in ("init_loc_fn", "init_scale") and value != saved.get(name):
            yield Issue(f"/guide/{name}", "incompatible", f"must be as in the job in init_from: {_short(saved.get(name))}")


def check_same_chains(num_chains: int, num_warmup: int, thinning: int, found: CheckpointFacts) -> Iterator[Issue]:
    """Whether the saved chains are those that the job wants."""
    for name, value in (("num_chains", num_chains), ("num_warmup", num_warmup), ("thinning", thinning)):
        saved = found.resolved_spec.get(name)
        if value != saved:
            yield Issue(f"/{name}", "incompatible", f"must be as in the job in init_from: {_short(saved)}")


def check_same_kernel(kernel: dict[str, Any], found: CheckpointFacts) -> Iterator[Issue]:
    """Whether the saved chains move as the job wants."""
    saved: dict[str, Any] = found.resolved_spec.get("kernel", {})
    if kernel["type"] != saved.get("type"):
        yield Issue("/kernel/type", "incompatible", f'must be "{saved.get("type")}", the kernel of the job in init_from')


def check_draws_left(num_warmup: int, num_samples: int, found: CheckpointFacts) -> Iterator[Issue]:
    """Whether there is anything left to draw."""
    if num_warmup + num_samples < found.step:
        detail = f"num_warmup and num_samples must come to at least {found.step}, the step of the checkpoint"
        yield Issue("/num_samples", "out_of_range", detail)


def _form(value: Any) -> Any:
    """What of an optimizer decides about the form of its state: the types in it, and the switches that add or leave out parts."""
    items = as_object(value)
    if items is not None:
        if items.get("type") in load().sections["schedules"]:
            return "schedule"
        return {name: _form(item) for name, item in items.items() if not isinstance(item, float)}
    entries = as_list(value)
    return value if entries is None else [_form(item) for item in entries]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
