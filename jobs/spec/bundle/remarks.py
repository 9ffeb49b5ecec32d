"""All that can be remarked on a file by reading it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from jobs.spec.bundle.facts import Remark
from jobs.spec.bundle.outdated import find_outdated
from jobs.spec.bundle.purity import find_impure


def remarks_on(path: str, tree: ast.Module) -> Iterator[Remark]:
    """Impure and outdated forms, in the order of the lines."""
    yield from sorted([*find_impure(path, tree), *find_outdated(path, tree)], key=lambda remark: remark.line)
