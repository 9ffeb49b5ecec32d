"""What the tests of this folder read: the project file, the tracked files, the imports of each package."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = ("jobs", "service", "worker", "meshyard", "migrations")


@cache
def project_file() -> dict[str, Any]:
    """The parsed pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(*extras: str) -> list[Requirement]:
    """What the base install asks for, and each of `extras`."""
    project = project_file()["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return [Requirement(line) for line in lines]


def closure(asked: list[Requirement]) -> set[str]:
    """Canonical names of the distributions that `asked` brings, directly or not, as installed here."""
    seen: set[str] = set()
    waiting = list(asked)
    while waiting:
        wanted = waiting.pop()
        extras = wanted.extras or {""}
        key = canonicalize_name(wanted.name) + "".join(sorted(wanted.extras))
        if key in seen or not _applies(wanted, {""}):
            continue
        seen |= {key, canonicalize_name(wanted.name)}
        needed = (Requirement(line) for line in distribution(wanted.name).requires or [])
        waiting.extend(_bare(requirement) for requirement in needed if _applies(requirement, extras | {""}))
    return seen


def _applies(requirement: Requirement, extras: set[str]) -> bool:
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)


def _bare(requirement: Requirement) -> Requirement:
    requirement.marker = None
    return requirement


def modules_of(distributions: set[str]) -> set[str]:
    """Top-level modules that `distributions` (canonical names) install."""
    return {
        module
        for module, owners in packages_distributions().items()
        if any(canonicalize_name(owner) in distributions for owner in owners)
    }


def tracked_files() -> list[Path]:
    """Every file that git tracks."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


def tracked_text() -> Iterator[tuple[Path, str]]:
    """Every tracked file that is text, with its text."""
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" not in content:
            yield path, content.decode(encoding="utf-8")


def imported_modules(path: Path) -> set[str]:
    """Top-level names that a source file imports, deferred imports included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def module_names(package: str) -> list[str]:
    """Dotted names of every module of a package."""
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted((ROOT / package).rglob("*.py")))
    return [re.sub(r"\.__init__$", "", name) for name in names]
