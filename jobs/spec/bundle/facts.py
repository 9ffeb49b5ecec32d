"""What is known of a bundle before a job names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from jobs.errors import Issue, MeshyardError


class BundleInvalid(MeshyardError):
    """An upload is no bundle of sound Python files; carries every fault that was found."""

    def __init__(self, issues: list[Issue]) -> None:
        super().__init__("; ".join(issue.detail for issue in issues))
        self.issues = issues


def refused(code: str, detail: str) -> BundleInvalid:
    """A bundle with one fault. It lies in the upload, so that no pointer leads to it."""
    return BundleInvalid([Issue("", code, detail)])


@dataclass(frozen=True)
class Remark:
    """Something in a bundle that its owner may not expect.

    Attributes:
        code: `impure_program` or `outdated_snippet`.
        file, line: where.
        detail: what it is, and what to write instead.
    """

    code: str
    file: str
    line: int
    detail: str


@dataclass(frozen=True)
class ModuleFacts:
    """The names a module defines at its top level. `open`: it may define more (`from … import *`)."""

    names: list[str]
    open: bool = False


@dataclass(frozen=True)
class BundleFacts:
    """What a bundle holds.

    Attributes:
        files: bytes of each file by path.
        modules: its Python modules by dotted name.
        remarks: what its owner may not expect.
    """

    files: dict[str, int]
    modules: dict[str, ModuleFacts]
    remarks: list[Remark] = field(default_factory=list[Remark])


FindBundle = Callable[[str], BundleFacts | None]
"""What the service knows of an uploaded bundle; None for an id that it does not have."""
