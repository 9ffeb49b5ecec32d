"""What makes a program impure, found by reading it: global random state, the clock, globals that are written, prints.

`jax.jit` runs a function once and keeps what it computed: a random number or an instant drawn in it is the same in every step ever
after. Reading finds what stands in functions; `jobs.programs.purity` finds the rest by tracing twice.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from jobs.spec.bundle.facts import Remark
from jobs.spec.bundle.names import Imports, dotted, imports_of

CODE = "impure_program"

_RANDOM = "draws from global random state, which jit would fix for ever at its first value: take a key, or self.rngs"
_CLOCK = "reads the clock, which jit would read once: measure outside the model; every job reports its own times"
_ENTROPY = "asks the system for chance, which jit would do once: take a key, or self.rngs"
_BY_PREFIX: dict[str, str] = {
    "random.": _RANDOM,
    "numpy.random.": _RANDOM,
    "time.": _CLOCK,
    "datetime.datetime.now": _CLOCK,
    "datetime.datetime.utcnow": _CLOCK,
    "datetime.datetime.today": _CLOCK,
    "datetime.date.today": _CLOCK,
    "secrets.": _ENTROPY,
    "os.urandom": _ENTROPY,
    "uuid.": _ENTROPY,
}
_GLOBAL = "writes a global: under jit that happens once, at tracing; keep state in an nnx.Variable"
_PRINT = "prints when it is traced, once, and then never again: use jax.debug.print, or print outside functions"
_BUILDING = frozenset({"__init__", "__post_init__", "setup"})


def find_impure(path: str, tree: ast.Module) -> Iterator[Remark]:
    """Every impure form inside a function of a file. What stands at the top level, or builds a module, runs once by intent."""
    imports = imports_of(tree)
    for function in _functions(tree):
        for node, reason in _impure(function, imports):
            what = ast.unparse(node.func) if isinstance(node, ast.Call) else "global"
            yield Remark(CODE, path, getattr(node, "lineno", 1), f"{function.name}: {what[:60]} {reason}")


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Outermost functions that a step may run."""
    pending: list[ast.AST] = [tree]
    while pending:
        for inner in ast.iter_child_nodes(pending.pop(0)):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from [] if inner.name in _BUILDING else [inner]
            else:
                pending.append(inner)


def _impure(function: ast.AST, imports: Imports) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(function):
        if isinstance(node, ast.Global):
            yield node, _GLOBAL
        elif isinstance(node, ast.Call):
            reason = _reason(node, imports)
            if reason is not None:
                yield node, reason


def _reason(call: ast.Call, imports: Imports) -> str | None:
    if isinstance(call.func, ast.Name) and call.func.id == "print" and "print" not in imports:
        return _PRINT
    name = dotted(call.func, imports)
    if name is None:
        return None
    return next((reason for prefix, reason in _BY_PREFIX.items() if name.startswith(prefix)), None)
