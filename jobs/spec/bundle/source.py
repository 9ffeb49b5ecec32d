"""The Python files of a bundle, read as syntax trees: sound or not, what each defines. Nothing is ever executed here."""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator
from pathlib import PurePosixPath

from jobs.errors import Issue
from jobs.spec.bundle.archive import Files
from jobs.spec.bundle.facts import BundleFacts, BundleInvalid, ModuleFacts, Remark, refused
from jobs.spec.bundle.remarks import remarks_on
from jobs.spec.pointers import quoted

MOST_SOURCE_BYTES = 1024 * 1024
"""Of one file."""

MOST_SOURCES_BYTES = 4 * 1024 * 1024
"""Of all Python files together."""

MOST_FAULTS = 20
MOST_REMARKS = 100


def read_bundle(files: Files) -> BundleFacts:
    """What a bundle's files hold.

    Raises:
        BundleInvalid: a Python file is not sound; told with file and line.
    """
    sources = {path: content for path, content in files.items() if path.endswith(".py")}
    if sum(map(len, sources.values())) > MOST_SOURCES_BYTES:
        raise refused("too_large", f"the Python files have more than {MOST_SOURCES_BYTES} bytes together")
    modules: dict[str, ModuleFacts] = {}
    issues: list[Issue] = []
    remarks: list[Remark] = []
    for path, content in sources.items():  # one tree at a time: each takes many times the memory of its source
        tree = _parsed(path, content)
        if isinstance(tree, Issue):
            issues.append(tree)
        else:
            modules[module_of(path)] = _defined(tree)
            remarks += remarks_on(path, tree)
    if issues:
        raise BundleInvalid(issues[:MOST_FAULTS])
    modules.pop("", None)
    return BundleFacts({path: len(content) for path, content in files.items()}, modules, remarks[:MOST_REMARKS])


def module_of(path: str) -> str:
    """The dotted name under which a file is imported; "" if there is none."""
    parts = list(PurePosixPath(path).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts) if parts and all(part.isidentifier() for part in parts) else ""


def _parsed(path: str, content: bytes) -> ast.Module | Issue:
    if len(content) > MOST_SOURCE_BYTES:
        return Issue("", "too_large", f"{quoted(path)} has more than the {MOST_SOURCE_BYTES} bytes that a Python file may have")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes and the like: the owner's own business
            return ast.parse(content, filename=path)
    except SyntaxError as error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        line = error.lineno or 1
        detail = f"{path}, line {line}: {error.msg} (read as Python {version})"
        return Issue("", "syntax_error", detail.encode("utf-8", "replace").decode())
    except (ValueError, RecursionError, MemoryError, OverflowError):
        # ValueError: a NUL byte, or a number with thousands of digits.
        return Issue("", "syntax_error", f"{path}, line 1: the file cannot be read as Python: a NUL byte, or nested too deep")


def _defined(tree: ast.Module) -> ModuleFacts:
    names: dict[str, None] = {}
    is_open = False
    for statement in _top_level(tree.body):
        for name in _names_of(statement):
            is_open = is_open or name == "*"
            names[name] = None
    names.pop("*", None)
    is_open = is_open or "__getattr__" in names
    return ModuleFacts(list(names), is_open)


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run at import, those inside `if`, `try`, `with` and loops included."""
    pending = list(reversed(body))
    while pending:
        statement = pending.pop()
        yield statement
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for inner in ast.iter_child_nodes(statement):
            if isinstance(inner, ast.stmt):
                pending.append(inner)
            elif isinstance(inner, ast.ExceptHandler | ast.match_case):
                pending.extend(inner.body)


def _names_of(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield statement.name
        case ast.Import() | ast.ImportFrom():
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in statement.names)
        case ast.Assign():
            yield from (name for target in statement.targets for name in _targets(target))
        case ast.AnnAssign() | ast.AugAssign() | ast.For():
            yield from _targets(statement.target)
        case _:
            return


def _targets(target: ast.expr) -> Iterator[str]:
    yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
