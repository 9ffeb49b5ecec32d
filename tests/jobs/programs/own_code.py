"""Bundles of a user's own modules, and jobs that name them."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import UserFault
from jobs.programs import user_code
from jobs.programs.user_errors import explain
from jobs.spec.bundle.facts import BundleFacts, ModuleFacts
from jobs.spec.job import read_spec
from tests import specs
from tests.jobs.programs import running

NUMBERS = count()
SPIRALS = {"builtin": "spirals", "batch_size": 24, "eval_fraction": 0.2}


class Bundle:
    """A module of a user's on the path, and jobs that name it."""

    def __init__(self, folder: Path, source: str) -> None:
        self.folder, self.module = folder, f"own{next(NUMBERS)}"
        (folder / f"{self.module}.py").write_text(source)
        user_code.install([folder])

    def spec(self, **changes: Any) -> dict[str, Any]:
        own = {"type": "import", "code": "code_own"}
        document = specs.spirals(
            model=own | {"target": f"{self.module}:Net", "config": {"width": 8}},
            loss=own | {"target": f"{self.module}:loss"},
            data=SPIRALS,
        )
        found = BundleFacts({}, {self.module: ModuleFacts([], open=True)})
        return read_spec(document | changes, specs.facts, lambda *_: None, lambda _: found).resolved

    def program(self, **changes: Any) -> Any:
        return running.of(self.spec(**changes))

    def start(self, **changes: Any) -> Any:
        return running.start(self.program(**changes))

    def fault(self, **changes: Any) -> UserFault:
        """The error of a job whose step cannot be traced."""
        with pytest.raises(Exception) as caught:  # noqa: PT011  (whatever the code does wrong)
            self.start(**changes)
        found = explain(caught.value, [self.folder])
        assert found is not None
        return found
