"""Models and losses of a user's own: `{"type": "import", "code": "code_…", "target": "my_model:Net", "config": {…}}`.

A training job's target is an `nnx.Module`, a sampling job's a NumPyro function of its data.

Whether a target is there is told by the bundle's syntax trees, at submit; nothing is executed before the job's own child does it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.errors import Issue
from jobs.spec.builtin import describe
from jobs.spec.bundle.facts import BundleFacts, FindBundle
from jobs.spec.data import Data, TrainData
from jobs.spec.dataset import DatasetFacts
from jobs.spec.pointers import join, nearest, quoted

TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
FIELDS = ("model", "loss")

Named = Mapping[str, Any]


def is_own(value: Named | None) -> bool:
    """Whether a model or a loss is none of the catalog's: from a bundle, or installed by an operator."""
    return value is not None and value["type"] in ("import", "plugin")


def is_imported(value: Named | None) -> bool:
    """Whether a model or a loss comes from a bundle."""
    return value is not None and value["type"] == "import"


def bundles_of(spec: Named) -> list[str]:
    """The ids of the bundles that a resolved spec names, each once."""
    return list(dict.fromkeys(spec[field]["code"] for field in FIELDS if is_imported(spec.get(field))))


def check_imports(parts: Mapping[str, Any], find: FindBundle) -> Iterator[Issue]:
    """What is wrong with the bundles and targets that a job names."""
    found: dict[str, BundleFacts] = {}
    for field in FIELDS:
        if is_imported(parts.get(field)):
            bundle = find(parts[field]["code"])
            if bundle is None:
                detail = f"there is no bundle {quoted(parts[field]['code'])}; GET /v1/code lists them, POST /v1/code uploads one"
                yield Issue(f"/{field}/code", "not_found", detail)
            else:
                yield from _check_target(parts[field]["target"], f"/{field}/target", bundle)
                found[parts[field]["code"]] = bundle
    if len(found) == 2:
        yield from _check_apart(*found.values())


def argument_names(usual: list[str], data: Data, facts: DatasetFacts) -> list[str]:
    """The arguments that columns are bound to, where model or loss are a user's own.

    Args:
        usual: the arguments of a catalog model.
        data: what it reads.
        facts: the columns there are.
    """
    if data.args is not None:
        given = [name for name, bound in data.args.items() if bound is not None]
        return list(dict.fromkeys([*(name for name in usual if data.args.get(name, "") is not None), *given]))
    columns = [column.name for column in facts.columns if column.dtype != "string"]
    return usual or (list(describe(data.builtin).args) if data.builtin is not None else columns)


def check_own_model(model: Named, loss: Named, facts: DatasetFacts, data: TrainData) -> Iterator[Issue]:
    """What a user's own model must be told, for no one can see it from outside."""
    if not is_own(model):
        return
    if facts.format == "text" and model["context"] is None:
        yield Issue("/model/context", "missing", "is required for text: how many tokens one sample gives the model")
    if facts.format != "text" and model["context"] is not None:
        yield Issue("/model/context", "conflict", "is for text alone; leave it out")
    if facts.format == "text" and loss["type"] not in ("next_token", "softmax_cross_entropy_with_integer_labels", "import"):
        yield Issue("/loss/type", "conflict", 'a text is learned by "next_token", or by a loss of your own')
    if facts.format != "text" and loss["type"] == "next_token":
        yield Issue("/loss/type", "conflict", "is for text, and this data holds columns: use another loss")


def check_own_posterior(model: Named) -> Iterator[Issue]:
    """What a user's own NumPyro function cannot be given."""
    if is_own(model) and model["context"] is not None:
        yield Issue("/model/context", "conflict", "is for models of text; leave it out")


def _check_target(target: str, pointer: str, bundle: BundleFacts) -> Iterator[Issue]:
    if not TARGET.fullmatch(target):
        yield Issue(pointer, "wrong_format", 'must be "module:name", such as "my_model:Net"')
        return
    module, _, name = target.partition(":")
    facts = bundle.modules.get(module)
    if facts is None:
        detail = f"the bundle has no module {quoted(module)}; {nearest(module, bundle.modules)}"
        yield Issue(pointer, "not_found", detail)
    elif not facts.open and name.partition(".")[0] not in facts.names:
        detail = f"module {quoted(module)} defines no {quoted(name)}; {nearest(name, facts.names)}"
        yield Issue(pointer, "not_found", detail)


def _check_apart(first: BundleFacts, second: BundleFacts) -> Iterator[Issue]:
    """Two bundles are imported side by side, so no name may be in both."""
    both = sorted({_top(name) for name in first.modules} & {_top(name) for name in second.modules})
    if both:
        detail = f"both bundles have a module {quoted(both[0])}: rename one, or upload model and loss as one bundle"
        yield Issue(join("/loss", "code"), "conflict", detail)


def _top(module: str) -> str:
    return module.partition(".")[0]
