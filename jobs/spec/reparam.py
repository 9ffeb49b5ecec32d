"""Other forms of a model's sites with the same meaning: by site, or found by the sampler itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.errors import Issue
from jobs.spec.catalog import load
from jobs.spec.pointers import join, quoted
from jobs.spec.strict import as_object

AUTO = "auto"
POINTER = "/reparam"
MOST_SITES = 1000
LONGEST_NAME = 200


def read_reparam(value: Any, kind: str) -> tuple[Any, list[Issue]]:
    """The field `reparam`, each site's form with the library's defaults filled in, or what is wrong with it."""
    if value == AUTO:
        return value, []
    sites = as_object(value)
    if sites is None:
        detail = f'must be "{AUTO}", or an object of forms by site: {{"theta": {{"type": "LocScaleReparam", "centered": 0.0}}}}'
        return None, [Issue(POINTER, "wrong_type", detail)]
    if len(sites) > MOST_SITES:
        return None, [Issue(POINTER, "out_of_range", f"must hold at most {MOST_SITES} sites")]
    long = [name for name in sites if not 0 < len(name) <= LONGEST_NAME]
    issues = [
        Issue(POINTER, "out_of_range", f"{quoted(name)} is no name of a site: 1 to {LONGEST_NAME} characters") for name in long
    ]
    fitted = {name: load().fit("reparams", form, join(POINTER, name)) for name, form in sites.items() if name not in long}
    issues += [issue for each in fitted.values() for issue in each.issues]
    found = {name: each.value for name, each in fitted.items() if not each.issues}
    issues += [issue for name, form in found.items() for issue in _faults(name, form, kind)]
    return found, issues


def _faults(name: str, form: Mapping[str, Any], kind: str) -> list[Issue]:
    if kind == "mcmc" and form["type"] == "LocScaleReparam" and form["centered"] is None:
        detail = "a sampler does not learn it: give a number from 0 (not centred) to 1 (as it is)"
        return [Issue(join(POINTER, name, "centered"), "requires", detail)]
    return []
