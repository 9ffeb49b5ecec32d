"""Who asks: a key's scopes and its project, as every request bears them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from service.domain.errors import Forbidden, Invalid

DEFAULT_PROJECT = "default"
BOOTSTRAP, LOCAL = "bootstrap", "local"
"""Key ids without a row: the operator's own key, and whoever asks from this machine where no key is set."""


class Scope(StrEnum):
    """What a key may do. `jobs:write` includes `jobs:read`, `admin` includes all."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    CODE_WRITE = "code:write"
    WORKER = "worker"
    ADMIN = "admin"


class MissingScope(Forbidden):
    """The key has no scope for this."""

    code = "missing_scope"


class BoundToProject(Forbidden):
    """This concerns every project, and the key is bound to one."""

    code = "bound_to_project"


INCLUDED = {Scope.ADMIN: frozenset(Scope), Scope.JOBS_WRITE: frozenset({Scope.JOBS_WRITE, Scope.JOBS_READ})}


def widened(scopes: Iterable[str]) -> frozenset[Scope]:
    """Scopes with all that they include."""
    return frozenset[Scope]().union(*(INCLUDED.get(scope, frozenset({scope})) for scope in map(Scope, scopes)))


@dataclass(frozen=True)
class Caller:
    """Whoever sends a request.

    Attributes:
        key_id: which key it bears.
        project: the project it works in.
        scopes: what it may do there, what scopes include unfolded.
        all_projects: whether it may do so in every project. A worker of such a key takes everybody's jobs.
    """

    key_id: str
    project: str
    scopes: frozenset[Scope]
    all_projects: bool

    @property
    def is_operator(self) -> bool:
        """Whether it administers the whole service."""
        return self.all_projects and Scope.ADMIN in self.scopes

    @property
    def bound_key(self) -> str | None:
        """The key for whose attempts alone it may write; None if it may write for all."""
        return None if self.is_operator else self.key_id

    @property
    def worker_key(self) -> str | None:
        """The key whose workers alone it may steer, of those of its project; None if it may steer all of them."""
        return None if Scope.ADMIN in self.scopes else self.key_id

    @property
    def bound_project(self) -> str | None:
        """The project whose keys and records alone it may see; None if it may see all."""
        return None if self.all_projects else self.project

    def require(self, scopes: frozenset[Scope], *, everywhere: bool) -> None:
        """Let pass who has one of these scopes, and in every project where that is asked for.

        Raises:
            MissingScope: it has none of them.
            BoundToProject: it has, but in its project alone.
        """
        if not scopes & self.scopes:
            raise MissingScope(
                f"The key lacks the scope for this: {' or '.join(sorted(scopes))}. Ask an administrator for one with it."
            )
        if everywhere and not self.all_projects:
            raise BoundToProject("This concerns every project; it needs a key made with all_projects.")

    def within(self, project: str | None) -> str:
        """The project meant by one that was named, or not.

        Raises:
            Invalid: it is not the caller's.
        """
        if project is None or project == self.project or self.all_projects:
            return project or self.project
        raise Invalid("There is no such project.")


def local() -> Caller:
    """Whoever asks from this machine where no key is set: it may do all."""
    return Caller(LOCAL, DEFAULT_PROJECT, frozenset(Scope), all_projects=True)


def bootstrap() -> Caller:
    """The bearer of the operator's own key: it may do all."""
    return Caller(BOOTSTRAP, DEFAULT_PROJECT, frozenset(Scope), all_projects=True)
