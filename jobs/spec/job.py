"""Reading a job description: the door between a document from outside and everything that runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jobs.errors import Issue, SpecInvalid
from jobs.spec import classics, imports, mcmc_checks, models, predict, svi_checks, train_checks
from jobs.spec.binding import WEIGHT, Binding, bind
from jobs.spec.bundle.facts import BundleFacts, FindBundle
from jobs.spec.catalog import SectionName, load, named
from jobs.spec.data import Data, FindDataset, TrainData, find_evaluation, find_facts, find_tokenizer
from jobs.spec.dataset import DatasetFacts
from jobs.spec.draft import Check, Draft
from jobs.spec.envelope import Envelope
from jobs.spec.evaluation import faults_of_evaluation
from jobs.spec.glm import model as glm
from jobs.spec.glm.model import FindTable, no_table
from jobs.spec.mcmc import Mcmc
from jobs.spec.mesh import place
from jobs.spec.numerics import check_debug, check_precision
from jobs.spec.origin import CheckpointFacts, FindCheckpoint, check_origin, check_part, default_what, find_origin
from jobs.spec.pointers import listed, nearest, quoted
from jobs.spec.predict import Predict
from jobs.spec.profile import check_profile
from jobs.spec.program.binding import bind_program
from jobs.spec.program.distributions import types_in
from jobs.spec.program.document import read_program
from jobs.spec.reading import read_fields
from jobs.spec.remat import read_remat
from jobs.spec.reparam import read_reparam
from jobs.spec.resolve import resolve, total_of, warn_of_resolved
from jobs.spec.resources import DEVICE
from jobs.spec.strict import as_object
from jobs.spec.svi import Svi
from jobs.spec.text import bind_text, learns_from_text
from jobs.spec.train import Train

KINDS: dict[str, type[Envelope]] = {"train": Train, "mcmc": Mcmc, "svi": Svi, "predict": Predict}
MOST_ISSUES = 256
"""A reply never grows far beyond the request that it answers."""

UNSAID = ("inits",)
"""Sections that need not be said of a worker: every one that has a kernel has all of its starts."""
GIB = 2**30
_NAMED: dict[str, tuple[tuple[str, SectionName], ...]] = {
    "train": (("model", "models"), ("optimizer", "optimizers"), ("loss", "losses")),
    "mcmc": (("model", "models"), ("kernel", "kernels")),
    "svi": (("model", "models"), ("guide", "guides"), ("optimizer", "optimizers"), ("loss", "losses")),
    "predict": (("model", "models"),),
}
_RULES = {"train": train_checks, "mcmc": mcmc_checks, "svi": svi_checks, "predict": predict}
_CHECKS: dict[str, tuple[Check, ...]] = {kind: rules.CHECKS for kind, rules in _RULES.items()}
_WARNINGS: dict[str, tuple[Check, ...]] = {kind: rules.WARNINGS for kind, rules in _RULES.items()}
UNITS = {"train": "step", "svi": "step", "mcmc": "draw", "predict": "draw"}


@dataclass(frozen=True)
class Spec:
    """A job description that can be accepted.

    Attributes:
        kind: `train`, `mcmc`, `svi` or `predict`.
        document: as it was sent.
        resolved: the same with every field present and every default fixed: what a worker receives.
        name, metadata, priority: for people and the queue.
        dataset_id: the uploaded dataset it reads, if it reads one.
        platform: `any`, `cpu`, `gpu` or `tpu`.
        devices: how many it takes; the least where `devices_open`.
        devices_open: whether it takes as many more as a worker has and its batch divides by.
        memory_bytes: host memory a worker must have, if it says.
        needs: what a worker must offer, sorted: `optimizers/adamw`, `label:zone=a`.
        total: steps, or transitions of every chain, after which it is done.
        unit: what they are called.
        warnings: what its owner may not expect, each with `pointer`, `code` and `detail`.
    """

    kind: str
    document: dict[str, Any]
    resolved: dict[str, Any]
    name: str | None
    metadata: dict[str, str]
    priority: int
    dataset_id: str | None
    platform: str
    devices: int
    devices_open: bool
    memory_bytes: int | None
    needs: list[str]
    total: int
    unit: str
    warnings: list[dict[str, str]]


def _no_bundle(_code_id: str) -> BundleFacts | None:
    return None


def read_spec(
    document: object,
    find_dataset: FindDataset,
    find_checkpoint: FindCheckpoint,
    find_bundle: FindBundle = _no_bundle,
    find_table: FindTable = no_table,
) -> Spec:
    """Read a job description.

    Args:
        document: any JSON value.
        find_dataset: what is known of an uploaded dataset.
        find_checkpoint: what is known of a checkpoint.
        find_bundle: what is known of a bundle of code.
        find_table: the columns of a dataset.

    Raises:
        SpecInvalid: with every structural fault, and every fault between parts that are sound by themselves.
    """
    draft = _read(document)
    _fit_to_catalog(draft)
    _derive(draft, find_dataset, find_checkpoint)
    if draft.kind != "predict" and draft.has("model", "data", "facts") and draft.parts["model"]["type"] == "glm":
        _settle_glm(draft, find_table)
    draft.issues += imports.check_imports(draft.parts, find_bundle)
    for check in _CHECKS[draft.kind]:
        draft.issues += check.apply(draft.parts)
    _raise_any(draft.issues)
    for check in _WARNINGS[draft.kind]:
        draft.warnings += check.apply(draft.parts)
    return _finish(document, draft)


def _read(document: object) -> Draft:
    """The document's fields, each by itself. Raises SpecInvalid where it is not even known what they should be."""
    fields = as_object(document)
    if fields is None:
        raise SpecInvalid([Issue("", "wrong_type", "must be an object that describes a job; GET /v1/schemas/job tells how")])
    kind = fields.get("kind")
    if "kind" not in fields:
        raise SpecInvalid([Issue("/kind", "missing", f"is required: one of {listed(KINDS)}")])
    if not isinstance(kind, str) or kind not in KINDS:
        written = f"unknown kind {quoted(kind)}; {nearest(kind, KINDS)}" if isinstance(kind, str) else f"must be {listed(KINDS)}"
        raise SpecInvalid([Issue("/kind", "unknown_value", written)])
    parts, issues = read_fields(KINDS[kind], fields)
    return Draft(kind, frozenset(fields), parts, issues)


def _fit_to_catalog(draft: Draft) -> None:
    """Fit what names an entry of the catalog."""
    for name, section in () if draft.kind == "predict" else _NAMED[draft.kind]:
        if draft.parts.get(name) is not None:
            kind = _serving(draft.kind, section)
            fitted = load().fit(section, draft.parts[name], f"/{name}", kind)
            draft.add(name, (fitted.value, fitted.issues))
        elif (name != "loss" or draft.kind != "train") and name in draft.parts:
            draft.add(name, (None, [Issue(f"/{name}", "wrong_type", "must be an object, not null")]))
    if draft.has("model"):
        draft.parts["model"] = models.complete(draft.parts["model"])
        _read_program(draft)


def _read_program(draft: Draft) -> None:
    """The statements of a program, which the catalog cannot describe."""
    if draft.parts["model"]["type"] == "program":
        found, issues = read_program(draft.parts["model"])
        draft.add("program", (found, issues))
        draft.parts["model"] = found.model
        if issues:
            draft.parts.pop("model")


def _serving(kind: str, section: str) -> str | None:
    """The kind of job that an entry must serve. A model with a posterior serves whatever looks for one."""
    if section not in ("models", "losses", "kernels", "guides"):
        return None
    return "mcmc" if section == "models" and kind == "svi" else kind


def _derive(draft: Draft, find_dataset: FindDataset, find_checkpoint: FindCheckpoint) -> None:
    """What follows from the fields: the data's facts and binding, the objective, the mesh, the origin."""
    _find_posterior(draft, find_checkpoint)
    if draft.has("data"):
        draft.add("facts", find_facts(draft.parts["data"], find_dataset))
        if draft.kind == "train":
            draft.add("tokenizer", find_tokenizer(draft.parts["data"], find_dataset))
            draft.add("eval_facts", find_evaluation(draft.parts["data"], find_dataset))
    if draft.has("model", "data", "facts"):
        _bind(draft, draft.parts["data"], draft.parts["facts"])
    if draft.kind == "train" and draft.has("model"):
        _settle_loss(draft)
    if draft.kind == "train" and "remat" in draft.parts:
        draft.add("remat", read_remat(draft.parts["remat"]))
    if draft.parts.get("reparam") is not None:
        draft.add("reparam", read_reparam(draft.parts["reparam"], draft.kind))
    draft.parts["given"] = draft.given
    if draft.has("mesh", "resources"):
        draft.add("placement", place(draft.kind, draft.parts["mesh"], draft.parts["resources"]))
    _check_looks(draft)
    if draft.has("precision"):
        draft.issues += check_precision(draft.kind, draft.parts["precision"])
    if draft.parts.get("init_from") is not None:
        _find_origin(draft, find_checkpoint)


def _find_posterior(draft: Draft, find_checkpoint: FindCheckpoint) -> None:
    """The draws to predict from, and with them the model; nothing for a job that names none."""
    if draft.has("posterior"):
        draft.add("source", predict.find_posterior(draft.parts["posterior"], find_checkpoint))
    if draft.has("source"):
        draft.parts["model"] = draft.parts["source"].resolved_spec["model"]


def _check_looks(draft: Draft) -> None:
    """What is to be shown of the run."""
    if draft.has("debug"):
        draft.issues += check_debug(draft.kind, draft.parts["debug"])
    total = _total(draft)
    if total is not None and draft.parts.get("profile") is not None:
        draft.issues += check_profile(draft.parts["profile"], total)


def _total(draft: Draft) -> int | None:
    """Steps, or transitions of every chain; None where they are not sound."""
    if draft.kind == "predict":
        used = draft.has("source", "posterior")
        return predict.draws_of(draft.parts["source"]) // draft.parts["posterior"].thinning if used else None
    names = ("num_warmup", "num_samples") if draft.kind == "mcmc" else ("steps",)
    return sum(draft.parts[name] for name in names) if draft.has(*names) else None


def _bind(draft: Draft, data: Data, facts: DatasetFacts) -> None:
    if draft.kind == "predict":
        if facts.format != "text":
            draft.add("binding", predict.bind_prediction(data, facts, draft.parts["source"]))
        return
    model, loss = draft.parts["model"], draft.parts.get("loss")
    if "program" in draft.parts:
        if facts.format != "text":
            draft.add("binding", bind_program(draft.parts["program"], data, facts))
        return
    names: list[str] = load().entry("models", model["type"])["args"]
    given = data.args
    if imports.is_own(model) or imports.is_own(loss):
        names = imports.argument_names(names, data, facts)
        given = None if given is None else {name: bound for name, bound in given.items() if bound is not None}
    if isinstance(data, TrainData) and learns_from_text(model, facts):
        draft.add("corpus", bind_text(data, facts))
    elif names and facts.format != "text":
        weighted = draft.kind == "train" and WEIGHT not in names and (given or {}).get(WEIGHT) is not None
        level = draft.kind == "train" or not imports.is_own(model)
        draft.add("binding", bind([*names, WEIGHT] if weighted else names, given, data.builtin, facts, level=level))
    if draft.kind != "train" and draft.has("binding"):
        draft.parts["model"] = classics.settle(model, draft.parts["binding"])
    if draft.has("eval_facts", "data"):
        draft.issues += faults_of_evaluation(draft.parts)


def _settle_glm(draft: Draft, find_table: FindTable) -> None:
    """What follows from a formula and the table that it is about."""
    if draft.parts["facts"].format == "text":
        return
    settled = glm.settle(draft.parts["model"], draft.parts["data"], draft.parts["facts"], find_table)
    draft.add("model", (settled.model, settled.issues))
    draft.warnings += settled.warnings
    if settled.model is not None:
        draft.parts["binding"] = Binding(settled.args, {}, 0)


def _settle_loss(draft: Draft) -> None:
    """The model's own objective, where it has one and the job names none."""
    if draft.parts.get("loss") is not None or ("loss" in draft.given and "loss" not in draft.parts):
        return
    facts: DatasetFacts | None = draft.parts.get("facts")
    of_text = imports.is_own(draft.parts["model"]) and facts is not None and facts.format == "text"
    if models.learns_from_text(draft.parts["model"]) or of_text:
        draft.parts["loss"] = {"type": "next_token"}
        return
    draft.parts.pop("loss", None)
    usual = _usual_loss(draft.parts["model"], draft.parts.get("binding"))
    if usual is not None and not imports.is_own(draft.parts["model"]):
        draft.parts["loss"] = {"type": usual}
    elif imports.is_own(draft.parts["model"]) or not draft.issues:
        named = usual or "squared_error"
        detail = (
            f'is required for model {draft.parts["model"]["type"]}: use {{"type": "{named}"}}, or another of GET /v1/catalog/losses'
        )
        draft.issues.append(Issue("/loss", "missing", detail))


def _usual_loss(model: dict[str, Any], binding: Binding | None) -> str | None:
    """What rows are learned by unless a job says otherwise: classes where the target counts them, values where it does not."""
    if binding is None or "y" not in binding.arguments:
        return None
    counts = binding.arguments["y"].is_integer and model.get("out_features") != 1
    return "softmax_cross_entropy_with_integer_labels" if counts else "squared_error"


def _find_origin(draft: Draft, find_checkpoint: FindCheckpoint) -> None:
    wanted = draft.parts["init_from"]
    if draft.kind == "predict":
        return  # refused by a check of its own
    draft.add("origin", find_origin(wanted, find_checkpoint))
    if not draft.has("origin"):
        return
    found: CheckpointFacts = draft.parts["origin"]
    issues = list(check_origin(draft.kind, wanted, found))
    draft.issues += issues
    what = wanted.what or default_what(draft.kind, found)
    draft.issues += check_part(wanted, what, found)
    for check in () if issues else _origin_checks(draft.kind, what, is_partial=wanted.is_partial):
        draft.issues += check.apply(draft.parts)


def _origin_checks(kind: str, what: str, *, is_partial: bool) -> tuple[Check, ...]:
    if kind == "mcmc":
        return mcmc_checks.WHOLE_ORIGIN_CHECKS if what == "all" else mcmc_checks.WARM_ORIGIN_CHECKS
    if kind == "svi":
        return svi_checks.WHOLE_ORIGIN_CHECKS if what == "all" else svi_checks.WHOLE_ORIGIN_CHECKS[:2]
    if is_partial:
        return ()  # the models may differ in what is not taken; the shapes of what is are compared where they are known
    return train_checks.ORIGIN_CHECKS + (train_checks.WHOLE_ORIGIN_CHECKS if what == "all" else ())


def _raise_any(issues: list[Issue]) -> None:
    found = list(dict.fromkeys(issues))
    if len(found) > MOST_ISSUES:
        more = Issue("", "too_many", f"and {len(found) - MOST_ISSUES} more faults")
        raise SpecInvalid([*found[:MOST_ISSUES], more])
    if found:
        raise SpecInvalid(found)


def _finish(document: Any, draft: Draft) -> Spec:
    resolved = resolve(draft)
    warnings = [asdict(warning) for warning in [*draft.warnings, *warn_of_resolved(resolved)]]
    resources, gib = resolved["resources"], resolved["resources"]["memory_gib"]
    return Spec(
        kind=draft.kind,
        document=document,
        resolved=resolved,
        name=resolved["name"],
        metadata=resolved["metadata"],
        priority=resolved["priority"],
        dataset_id=resolved["data"]["dataset"],
        platform=resources["platform"],
        devices=draft.parts["placement"].devices,
        devices_open=draft.parts["placement"].open_axis is not None,
        memory_bytes=None if gib is None else int(gib * GIB),
        needs=sorted(_needs(draft.kind, resolved)),
        total=total_of(resolved),
        unit=UNITS[draft.kind],
        warnings=warnings,
    )


def _needs(kind: str, resolved: Mapping[str, Any]) -> set[str]:
    resources = resolved["resources"]
    kind_of_device = {f"{DEVICE}{resources['kind']}"} if resources["kind"] is not None else set[str]()
    plugin = {f"plugin:{resolved['model']['name']}"} if resolved["model"]["type"] == "plugin" else set[str]()
    return (
        plugin
        | kind_of_device
        | {
            *_named_entries(kind, resolved),
            *(f"label:{key}={value}" for key, value in resources["labels"].items()),
        }
    )


def _named_entries(kind: str, resolved: Mapping[str, Any]) -> Iterator[str]:
    if resolved["model"]["type"] == "program":
        yield from (f"distributions/{name}" for name in types_in(resolved["model"]["body"]))
    for name, section in _NAMED[kind]:
        for inner, value, _ in named(section, resolved[name], f"/{name}"):
            if inner not in UNSAID:
                yield f"{inner}/{value['type']}"
