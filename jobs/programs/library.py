"""From a fitted `{"type": …}` object of a spec to the library's own object."""

from __future__ import annotations

import importlib
from typing import Any

from jobs.spec.catalog import SectionName, load

Named = dict[str, Any]


def found(section: SectionName, name: str) -> Any:
    """What the library calls so: the function or class behind a catalog entry, such as `optax.contrib.muon`."""
    module, attribute = load().entry(section, name)["source"].rsplit(".", 1)
    return getattr(importlib.import_module(module), attribute)


def arguments(value: Named) -> dict[str, Any]:
    """The arguments of a fitted object, arrays as tuples, as the libraries want them."""
    return {name: _as_tuple(item) for name, item in value.items() if name != "type"}


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value
