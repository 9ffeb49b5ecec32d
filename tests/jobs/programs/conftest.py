"""Eight virtual devices for every test here, settled before JAX starts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.eight_devices import pictures, text
from tests.jobs.programs.own_code import Bundle
from tests.jobs.spec.bundles import NET

__all__ = ["bundle", "pictures", "text"]


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bundle]:
    """Makes modules of a user's own, on the path for one test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    return lambda source=NET: Bundle(tmp_path, source)
